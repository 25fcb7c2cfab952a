"""What each picture of a plan is asked for by: a request from an experiment, an item, a variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from adhere.errors import GuidanceError
from adhere.eval.errors import EvaluationError
from adhere.eval.files import canonical, digest
from adhere.eval.run.experiment import Experiment, Variant, from_settings
from adhere.eval.suites.items import Item
from adhere.guides import parameters
from adhere.guides.guide import Plugin
from adhere.layout.layout import Layout
from adhere.pipelines.studio.request import Request

ID_LENGTH = 24

EXCLUDED = "{excluded}"
"""In a variant's texts: what each item says must not be there."""

# What the pictures of a batch must have in common, beside their plugins.
_ALIKE = ("steps", "guidance_scale", "true_cfg_scale", "width", "height", "scheduler")


@dataclass(frozen=True)
class Requests:
    """Makes the requests of an experiment's groups, and their names.

    `identity` is what makes the pictures: model, weights, type, code.
    """

    identity: Mapping[str, Any]
    experiment: Experiment

    @classmethod
    def of(cls, header: Mapping[str, Any]) -> Requests:
        """From a manifest's header."""
        return cls(header["identity"], from_settings(header["experiment"]))

    @cached_property
    def variants(self) -> dict[str, Variant]:
        """The variants by name."""
        return {variant.name: variant for variant in self.experiment.variants}

    def draft(self, item: Item, variant: str) -> Request:
        """The request without its layout (which takes long to read) and with seed 0."""
        asked, own = self.experiment, self.variants[variant]
        negative = own.negative_prompt
        if negative is None:
            negative = item.negative_prompt or asked.negative_prompt
        request = Request(
            prompt=_base(item, variant) if own.base else item.prompt,
            negative_prompt=_filled(negative, item, variant),
            plugins=tuple(_about(one, item, variant) for one in own.plugins),
            # Only plugins read them: without any, equal pictures are one job.
            subjects=_nouns(item) or None if own.plugins else None,
            steps=asked.steps,
            guidance_scale=asked.guidance_scale,
            width=asked.width,
            height=asked.height,
            scheduler=asked.scheduler,
        )
        fixed = {key: value for key, value in item.request.items() if key != "seed"}
        if own.guidance_scale is not None:
            fixed["guidance_scale"] = own.guidance_scale
        return replace(request, **fixed)

    def request(self, suite: str, item: Item, variant: str) -> Request:
        """The whole request, with seed 0.

        Raises:
            EvaluationError: the item's layout does not read.
        """
        draft = self.draft(item, variant)
        if not (draft.plugins and item.layout):
            return draft
        try:
            return replace(draft, layout=Layout.from_json(dict(item.layout)))
        except GuidanceError as error:
            raise EvaluationError(f"suite {suite!r}, item {item.id!r}: {error}") from error

    def checked(self, suite: str, item: Item, variant: str, name: str) -> Request:
        """The whole request, when it is still the one that was planned under this name."""
        request = self.request(suite, item, variant)
        if self.name(request) != name:
            raise EvaluationError(
                f"this version of adhere reads the request of item {item.id!r} of {suite!r} "
                f"({item.prompt[:60]!r}, variant {variant!r}) otherwise than the one that planned "
                "it; plan again into a new folder"
            )
        return request

    def name(self, request: Request) -> str:
        """The hash of everything that changes pixels but the noise.

        Of the plugins' code only that of the request's own counts.
        """
        words = {key: value for key, value in request.to_json().items() if key != "seed"}
        return digest(f"{self._identity_of(request)}{canonical(words)}", ID_LENGTH)

    def _identity_of(self, request: Request) -> str:
        names = tuple(one.name for one in request.plugins)
        if names not in self._identities:
            code = self.identity["code"]
            own = {name: code["plugins"][name] for name in names}
            identity = {**self.identity, "code": {"engine": code["engine"], "plugins": own}}
            self._identities[names] = canonical(identity)
        return self._identities[names]

    @cached_property
    def _identities(self) -> dict[tuple[str, ...], str]:
        return {}

    def kind(self, item: Item, variant: str) -> str:
        """What pictures of one batch have in common: plugins, steps, scales, size, scheduler."""
        draft = self.draft(item, variant)
        same = draft.plugins == self.variants[variant].plugins
        stack = self._stacks[variant] if same else _plain(draft.plugins)
        # With a negative prompt the unconditional half is another one for the whole batch.
        alike = [*(getattr(draft, name) for name in _ALIKE), bool(draft.negative_prompt)]
        return canonical([stack, alike])

    @cached_property
    def _stacks(self) -> dict[str, list[Any]]:
        return {name: _plain(variant.plugins) for name, variant in self.variants.items()}


def _plain(plugins: tuple[Plugin, ...]) -> list[Any]:
    return [parameters.to_json(one) for one in plugins]


def _nouns(item: Item) -> tuple[str, ...]:
    """What must appear, each word once: a subject is not named twice."""
    return tuple(dict.fromkeys(thing.noun for thing in item.things))


def _base(item: Item, variant: str) -> str:
    if not item.base:
        raise EvaluationError(
            f"variant {variant!r} leaves to the regions what they say, and item {item.id!r} does "
            'not tell its prompt without that; give it a "base", or leave the variant to other '
            "suites (suites: [...])"
        )
    return item.base


def _about(one: Plugin, item: Item, variant: str) -> Plugin:
    """A plugin with what the item excludes in the texts that stand for it."""
    told = parameters.to_json(one)
    changes = {
        name: _filled(value, item, variant)
        for name, value in told.items()
        if isinstance(value, str) and EXCLUDED in value
    }
    made: Plugin = replace(one, **changes) if changes else one  # type: ignore[type-var]
    return made


def _filled(text: str, item: Item, variant: str) -> str:
    """A text in which `{excluded}` is what the item excludes, in words."""
    if EXCLUDED not in text:
        return text
    if not item.exclude:
        raise EvaluationError(
            f"variant {variant!r} speaks of {EXCLUDED}, and item {item.id!r} excludes nothing; "
            "leave the variant to other suites (suites: [...])"
        )
    nouns = (f"{'an' if one.noun[0] in 'aeiou' else 'a'} {one.noun}" for one in item.exclude)
    return text.replace(EXCLUDED, " and ".join(nouns))

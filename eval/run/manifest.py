"""The plan: every picture of an experiment, written once and never changed.

An entry (suite, item, variant, seed) names its job: the hash of everything that changes pixels, the
code of the engine and of the plugins included. Entries that ask for the same pixels share a job, so
the picture is made once. `manifest_file` has the form on disk.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from adhere.errors import GuidanceError
from adhere.eval.errors import EvaluationError
from adhere.eval.files import canonical, digest
from adhere.eval.run import provenance
from adhere.eval.run.experiment import Experiment, Variant
from adhere.eval.suites import suites
from adhere.eval.suites.items import Item, Suite
from adhere.layout.layout import Layout
from adhere.pipelines.studio.request import Request
from adhere.pipelines.toybox import TOYBOXES

FORMAT = 3
ID_LENGTH = 24


@dataclass(frozen=True)
class Entry:
    """One picture of the experiment, as the report counts them.

    `picture` is the checksum of one that was made elsewhere.
    """

    suite: str
    item: Item
    variant: str
    seed: int
    job: str
    request: Request
    picture: str = ""

    @property
    def key(self) -> str:
        """Names the entry within its manifest."""
        return f"{self.suite}/{self.item.id}/{self.variant}/{self.seed}"


@dataclass(frozen=True)
class Manifest:
    """A header (plain data) and all entries, in their order."""

    header: dict[str, Any]
    entries: tuple[Entry, ...]

    @cached_property
    def jobs(self) -> dict[str, Request]:
        """The pictures to make, by id, in the order of the first entry that needs each."""
        found: dict[str, Request] = {}
        for entry in self.entries:
            found.setdefault(entry.job, entry.request)
        return found

    @cached_property
    def entries_of(self) -> dict[str, tuple[Entry, ...]]:
        """The entries that share a job."""
        found: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            found[entry.job].append(entry)
        return {job: tuple(entries) for job, entries in found.items()}

    @cached_property
    def fingerprint(self) -> str:
        """Changes when anything in the manifest does; a job's name covers all that made it."""
        told = digest(canonical(self.header))
        keys = "\n".join(f"{entry.key} {entry.job}" for entry in self.entries)
        return digest(told + keys, 16)


def plan(experiment: Experiment, model_fingerprint: str, include: Iterable[Path] = ()) -> Manifest:
    """Expand suites x variants x seeds.

    Args:
        experiment: what to make.
        model_fingerprint: changes when the model's weights do (`adhere.eval.run.models`).
        include: more places to look for suites.

    Raises:
        EvaluationError: an unknown suite, or a variant that is limited to one.
    """
    found = [_limit(suites.find(name, include), experiment.limit) for name in experiment.suites]
    _check_names(experiment, found)
    identity = {
        "model": experiment.model,
        "weights": model_fingerprint,
        "dtype": experiment.dtype or default_dtype(experiment.model),
        "code": code_of(experiment),
    }
    entries = [
        Entry(suite.name, item, variant.name, seed, job, request)
        for variant in experiment.variants
        for suite in found
        if variant.wants(suite.name)
        for item in suite.items
        for seed, job, request in _requests(experiment, variant, suite, item, identity)
    ]
    return Manifest(header(experiment, identity, found, entries), tuple(entries))


def header(
    experiment: Experiment,
    identity: dict[str, Any],
    found: Sequence[Suite],
    entries: Sequence[Entry],
) -> dict[str, Any]:
    """The first line: what makes the pictures, the experiment, and its suites."""
    return {
        "adhere_manifest": FORMAT,
        "identity": identity,
        "experiment": experiment.settings(),
        "suites": {
            suite.name: {
                "version": suite.version,
                "fingerprint": suite.fingerprint,
                "items": len(suite.items),
                "source": suite.source,
                "licence": suite.licence,
                "overall": suite.overall,
            }
            for suite in found
        },
        "entries": len(entries),
        "jobs": len({entry.job for entry in entries}),
    }


def default_dtype(model: str) -> str:
    """The type of the weights when none is given: said in the plan, for it changes pixels."""
    return "float32" if model in TOYBOXES else "float16"


def _limit(suite: Suite, limit: int | None) -> Suite:
    return suite if limit is None else replace(suite, items=suite.items[:limit])


def _check_names(experiment: Experiment, found: Sequence[Suite]) -> None:
    names = [suite.name for suite in found]
    if len(set(names)) != len(names):
        raise EvaluationError(f"two suites have the same name: {', '.join(sorted(names))}")
    variants = [variant.name for variant in experiment.variants]
    if len(set(variants)) != len(variants):
        raise EvaluationError(f"two variants have the same name: {', '.join(sorted(variants))}")
    for variant in experiment.variants:
        unknown = sorted(set(variant.suites or ()) - set(names))
        if unknown:
            raise EvaluationError(
                f"variant {variant.name!r} is limited to suite {unknown[0]!r}, which the "
                f"experiment does not have; it has: {', '.join(names)}"
            )


def _requests(
    experiment: Experiment,
    variant: Variant,
    suite: Suite,
    item: Item,
    identity: dict[str, Any],
) -> Iterator[tuple[int, str, Request]]:
    """The seeds of an item and variant, each with its job and request."""
    fixed = dict(item.request)
    # A suite that brings its own seed (I2P) keeps it for the first of ours; the others follow it.
    start = int(fixed.pop("seed", 0))
    request = Request(
        prompt=item.prompt,
        negative_prompt=_negative(experiment, variant, item),
        plugins=variant.plugins,
        subjects=tuple(thing.noun for thing in item.things) or None,
        layout=_layout(suite, item),
        steps=experiment.steps,
        guidance_scale=experiment.guidance_scale,
        width=experiment.width,
        height=experiment.height,
        scheduler=experiment.scheduler,
    )
    request = replace(request, **fixed)
    if variant.guidance_scale is not None:
        request = replace(request, guidance_scale=variant.guidance_scale)
    if not request.plugins:
        request = unguided(request)
    name = job_names(identity, request)
    for seed in experiment.seeds:
        yield seed, name(start + seed), request.with_seed(start + seed)


def _layout(suite: Suite, item: Item) -> Layout | None:
    if not item.layout:
        return None
    try:
        return Layout.from_json(dict(item.layout))
    except GuidanceError as error:
        raise EvaluationError(f"suite {suite.name!r}, item {item.id!r}: {error}") from error


def _negative(experiment: Experiment, variant: Variant, item: Item) -> str:
    if variant.negative_prompt is not None:
        return variant.negative_prompt
    return item.negative_prompt or experiment.negative_prompt


def unguided(request: Request) -> Request:
    """Without plugins, and without what only plugins read: so that equal pictures are one job."""
    return replace(request, plugins=(), subjects=None, layout=None)


def code_of(experiment: Experiment) -> dict[str, Any]:
    """The hashes of the engine's code and of every plugin's."""
    plugins = [one for variant in experiment.variants for one in variant.plugins]
    return {"engine": provenance.engine_code(), "plugins": provenance.code_of(plugins)}


def job_id(identity: dict[str, Any], request: Request, picture: str = "") -> str:
    """The hash of everything that changes pixels: model, weights, type, code and request.

    Of the plugins' code only that of the request's own counts. Of a picture that was made
    elsewhere its checksum is all that is known.
    """
    return job_names(identity, request, picture)(request.seed)


def job_names(
    identity: dict[str, Any], request: Request, picture: str = ""
) -> Callable[[int], str]:
    """The job of a request by its seed: all else is put into words once."""
    code = identity["code"]
    own = {one.name: code["plugins"][one.name] for one in request.plugins}
    told = {**identity, "code": {"engine": code["engine"], "plugins": own}}
    words = {key: value for key, value in request.to_json().items() if key != "seed"}
    rest = canonical({"identity": told, "request": words, "picture": picture})
    return lambda seed: digest(f"{seed}:{rest}", ID_LENGTH)

"""What is to be made: prompts x variants x seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from adhere.guides.guide import Plugin
from adhere.pipelines.studio.prompts import PromptLine
from adhere.pipelines.studio.request import Request


@dataclass(frozen=True)
class Variant:
    """Plugins that work together; no plugin is the unguided picture."""

    plugins: tuple[Plugin, ...] = ()

    @property
    def name(self) -> str:
        return "+".join(one.name for one in self.plugins) or "plain"


@dataclass(frozen=True)
class Job:
    """One picture to make: the places of its prompt and variant in the plan, and the request."""

    line: int
    variant: int
    request: Request


@dataclass(frozen=True)
class Plan:
    """Prompts x variants x seeds, and what all of them share.

    `shared` is a request whose prompt, seed and plugins are the plan's to fill in.
    """

    lines: tuple[PromptLine, ...]
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    shared: Request

    @cached_property
    def jobs(self) -> tuple[Job, ...]:
        """A job for each picture, by prompt, then variant, then seed; faulty lines have none."""
        return tuple(
            Job(k, v, self._request(line, variant, seed))
            for k, line in enumerate(self.lines)
            if line.fault is None
            for v, variant in enumerate(self.variants)
            for seed in self.seeds_of(line)
        )

    def seeds_of(self, line: PromptLine) -> tuple[int, ...]:
        """A line's own seeds, or the plan's."""
        return line.seeds or self.seeds

    def _request(self, line: PromptLine, variant: Variant, seed: int) -> Request:
        return replace(
            self.shared, prompt=line.prompt, seed=seed, plugins=variant.plugins, **line.own
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The variants' names; where one plugin comes with several settings, numbered."""
        return _distinct([variant.name for variant in self.variants])


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(
        name if (before := names[:k].count(name)) == 0 else f"{name}#{before + 1}"
        for k, name in enumerate(names)
    )

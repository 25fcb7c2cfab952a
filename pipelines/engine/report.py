"""What happened in a run, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.recording import RecordedAttention


@dataclass
class RunReport:
    """The record of one run, written by the engine.

    Attributes:
        family, batch, steps: what ran.
        losses: for each plugin and image the loss at each guided step, as (step, loss) pairs.
        refinements: for each image the refinements made, as (step, count) pairs.
        passes: extra conditional passes for each image (on half the batch: for that half).
        skipped: updates that were left out for an image because its gradient was not finite.
        seconds: time spent in extra passes.
        notes: sentences a person should read.
        plugins: what each guide reports of itself.
    """

    family: str
    batch: int
    steps: int
    losses: dict[str, list[list[tuple[int, float]]]] = field(default_factory=dict)
    refinements: list[list[tuple[int, int]]] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    plugins: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.refinements = self.refinements or [[] for _ in range(self.batch)]
        self.passes = self.passes or [0] * self.batch
        self.skipped = self.skipped or [0] * self.batch

    def loss(self, plugin: str, step: int, images: Sequence[int], values: Sequence[float]) -> None:
        table = self.losses.setdefault(plugin, [[] for _ in range(self.batch)])
        for image, value in zip(images, values, strict=True):
            table[image].append((step, value))

    def passed(self, images: Sequence[int]) -> None:
        for image in images:
            self.passes[image] += 1

    def note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def for_image(self, image: int) -> dict[str, Any]:
        """The part of the report that concerns one image. Plain JSON data."""
        return {
            "family": self.family,
            "steps": self.steps,
            "losses": {name: table[image] for name, table in self.losses.items()},
            "refinements": self.refinements[image],
            "passes": self.passes[image],
            "skipped": self.skipped[image],
            "seconds": self.seconds / self.batch,
            "notes": list(self.notes),
            "plugins": {
                name: _of_image(dict(said), image, self.batch)
                for name, said in self.plugins.items()
            },
        }


@dataclass
class Outcome:
    """What guided calls have left: a report for each, and the last one's attention."""

    reports: list[RunReport] = field(default_factory=list)
    recorded: tuple[RecordedAttention, ...] = ()


class GuidedCalls:
    """What comes out of guided calls besides pictures."""

    outcome: Outcome

    @property
    def reports(self) -> list[RunReport]:
        """One for each call, oldest first."""
        return self.outcome.reports

    @property
    def report(self) -> RunReport:
        """The last call's.

        Raises:
            ParameterError: no call has been made.
        """
        if not self.reports:
            raise ParameterError("no guided call has been made yet, so there is no report")
        return self.reports[-1]

    @property
    def recorded(self) -> tuple[RecordedAttention, ...]:
        """The cross attention of each image of the last call; needs `record=True`."""
        return self.outcome.recorded

    @property
    def attention(self) -> Float[Tensor, "batch steps h w tokens"] | None:
        """The same as one tensor on the CPU, by text columns; None if nothing was recorded."""
        if not self.recorded:
            return None
        return torch.stack([one.attention for one in self.recorded])

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the last call's prompts that have a heat map, as `heatmap` takes them."""
        return tuple(dict.fromkeys(word for one in self._read() for word in one.words))

    def heatmap(self, phrase: str, image: int = 0) -> Float[Tensor, "h w"]:
        """The share of each cell's attention that a phrase gets, averaged over the steps.

        Args:
            phrase: words of the image's prompt; `cat#2` is the second cat.
            image: which image of the last call's batch.

        Raises:
            ParameterError: nothing was recorded, or there is no such image.
            PromptError: the phrase is not in the prompt, or no text encoder reads it.
        """
        recorded = self._read()
        if not 0 <= image < len(recorded):
            raise ParameterError(
                f"image={image}: the last call made images 0 to {len(recorded) - 1}"
            )
        return recorded[image].heatmap(phrase)

    def _read(self) -> tuple[RecordedAttention, ...]:
        if not self.recorded:
            raise ParameterError(
                "no attention was recorded: attach with record=True, and make a picture first"
            )
        return self.recorded


def _of_image(said: dict[str, Any], image: int, batch: int) -> dict[str, Any]:
    """A guide reports per image under keys that start with `images`; the rest is common."""
    rows = said.pop("images", None)
    if isinstance(rows, Sequence) and len(rows) == batch:
        return {**said, **dict(rows[image])}
    return said

"""What happened in a run, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


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
        guided: whether the call makes a prediction without the prompt, which negatives need.
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
    guided: bool = True

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


def _of_image(said: dict[str, Any], image: int, batch: int) -> dict[str, Any]:
    """A guide reports per image under keys that start with `images`; the rest is common."""
    rows = said.pop("images", None)
    if isinstance(rows, Sequence) and len(rows) == batch:
        return {**said, **dict(rows[image])}
    return said

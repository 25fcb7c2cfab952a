"""What an evaluator is: a frozen recipe like a plugin, which loads into something that scores.

Two kinds. A *row* evaluator gives numbers for one picture (and what was asked for it). A *set*
evaluator compares all pictures of a suite and variant with reference pictures; it says which
features it needs, and is a pure function of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from adhere.eval.run.manifest import Entry
from adhere.guides.parameters import Method


@dataclass(frozen=True)
class Measure:
    """One number that an evaluator gives: its name, what it means, which way is better.

    What is not `tested` is told with its interval and never has a verdict: what a picture costs is
    a fact, and no hypothesis.
    """

    name: str
    help: str
    better: Literal["higher", "lower", "neither"] = "higher"
    kind: Literal["share", "number", "seconds"] = "number"
    tested: bool = True


@dataclass(frozen=True)
class Shown:
    """A picture to be scored, with what was asked for and what making it took."""

    image: Image.Image
    entry: Entry
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """The scores of one picture.

    `values` by column; a column that does not apply to the prompt is absent. `overlap` holds
    `(intersection, union)` in pixels by class. `notes` is text for the reader (a caption).
    """

    values: Mapping[str, float]
    overlap: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


class Scorer(Protocol):
    """A loaded row evaluator: a row for each picture, or in words why there is none."""

    def __call__(self, shown: Sequence[Shown]) -> Sequence[Row | str]: ...


class Recipe(Method):
    """Base of evaluators, frozen dataclasses: refuses names and values that do not fit."""


@runtime_checkable
class RowEvaluator(Protocol):
    """A recipe that scores pictures one by one.

    `models` (if there) names the parameters that are hub ids, or folders and files whose content
    decides the scores: those of two sets of weights never mix, also under one path. `revision`
    changes when its rule does.
    """

    name: ClassVar[str]
    columns: ClassVar[tuple[Measure, ...]]

    def load(self, device: str) -> Scorer:
        """Load its models; raises `ExtraMissing` or `ModelError` when they cannot be had."""


@dataclass(frozen=True)
class Measured:
    """A distance of two sets: columns, and what a reader must know of them."""

    values: Mapping[str, float]
    warnings: tuple[str, ...] = ()


@runtime_checkable
class SetEvaluator(Protocol):
    """A recipe that compares sets of pictures through their features."""

    name: ClassVar[str]
    columns: ClassVar[tuple[Measure, ...]]

    @property
    def features(self) -> str:
        """The extractor: `toybox`, `clip:MODEL`, `dinov2:MODEL` or `inception:WEIGHTS`."""

    @property
    def reference(self) -> str:
        """The reference pictures: `toybox`, `plain`, a folder, or a statistics file."""

    def measure(
        self,
        features: Float[Tensor, "n channels"],
        reference: Any,
    ) -> Measured:
        """The distance; `reference` is an `adhere.eval.evaluators.sets.references.Reference`."""


Evaluator = RowEvaluator | SetEvaluator

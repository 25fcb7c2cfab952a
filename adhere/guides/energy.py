"""What gradient methods have in common: one loss for each image, and steps until `stop`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.guide import Energy, Guide, Plugin, Step
from adhere.guides.maps import ImageMaps, Maps, Read
from adhere.guides.parameters import Method
from adhere.guides.run import Regions, Run
from adhere.layout.layout import Layout
from adhere.prompt.tokens import Phrase

W = TypeVar("W")
FLOAT = torch.float32


class EnergyMethod(Method, Plugin, Generic[W]):
    """Base of a plugin that is a loss on attention maps.

    A frozen dataclass that derives from it declares `name` and its parameters, `step_size` among
    them, and says `wanted` and `loss`. W is what an image is compared with.
    """

    name: ClassVar[str]
    reads: ClassVar[frozenset[Read]] = frozenset({Read("cross")})

    # Plain attributes and no properties: a dataclass's field cannot override one for pyright.
    step_size: float
    """Length of a step, in the units of the energy's rule; 0 for no guidance."""
    stop: float = 1.0
    """Share of the steps that are guided."""

    @property
    def off(self) -> bool:
        """Whether its parameters leave every picture as it is, so that no pass is made."""
        return self.step_size == 0 or self.stop == 0

    def guided(self, steps: int) -> int:
        """How many of a run's steps have its gradient pass; energies share those of a step."""
        return 0 if self.step_size == 0 else math.ceil(self.stop * steps)

    def extra_passes(self, steps: int) -> int:
        """Passes that it adds to one picture at the most."""
        return self.guided(steps)

    def wanted(self, run: Run) -> Sequence[W]:
        """What each image of the run is compared with. An image with nothing is left alone."""
        raise NotImplementedError

    def loss(self, maps: ImageMaps, wanted: W) -> Float[Tensor, ""]:
        """What is to be made smaller, for one image."""
        raise NotImplementedError

    def energy(self, step: Step, loss: Float[Tensor, " batch"]) -> Energy:
        """How to go downhill; `Energy` has the rules and refinement."""
        return Energy(loss, self.step_size)

    def report(self, wanted: Sequence[W]) -> Mapping[str, Any]:
        """What was done, as plain data."""
        return {}

    def guide(self, run: Run) -> Guide:
        return EnergyGuide(self, run)


class EnergyGuide(Guide, Generic[W]):
    """An `EnergyMethod` at work in one run."""

    def __init__(self, plugin: EnergyMethod[W], run: Run) -> None:
        self.plugin, self.reads = plugin, plugin.reads
        self.off = plugin.off
        self.wanted = plugin.wanted(run)

    def guides(self, step: Step) -> bool:
        plugin = self.plugin
        return plugin.step_size > 0 and step.progress < plugin.stop and any(self.wanted)

    def energy(self, step: Step, maps: Maps) -> Energy | None:
        losses = [self._loss(one, self.wanted[one.image]) for one in maps.each()]
        return self.plugin.energy(step, torch.stack(losses))

    def _loss(self, maps: ImageMaps, wanted: W) -> Float[Tensor, ""]:
        return self.plugin.loss(maps, wanted) if wanted else maps.keep.new_zeros((), dtype=FLOAT)

    def report(self) -> Mapping[str, Any]:
        return self.plugin.report(self.wanted)


class SubjectMethod(EnergyMethod[tuple[Phrase, ...]]):
    """Base of a method that guides subjects: its parameter `subjects`, or the call's, or nouns."""

    subjects: tuple[str, ...] | None = None
    """Phrases of the prompt."""

    def wanted(self, run: Run) -> Sequence[tuple[Phrase, ...]]:
        return run.subjects(self.subjects)


class LayoutMethod(EnergyMethod[Regions]):
    """Base of a method that guides places: its parameter `layout`, or the call's."""

    layout: Layout | None = None
    """Phrases with regions."""

    def wanted(self, run: Run) -> Sequence[Regions]:
        return run.regions(self.layout)


class Refining(Protocol):
    """A method that refines at shares of the run until a threshold is reached."""

    @property
    def refine_at(self) -> tuple[float, ...]: ...
    @property
    def thresholds(self) -> tuple[float, ...]: ...
    @property
    def refinements(self) -> int: ...


def check_refining(plugin: Refining) -> None:
    """Raise `ParameterError` unless every refinement has its threshold."""
    if len(plugin.refine_at) != len(plugin.thresholds):
        raise ParameterError(
            f"{getattr(plugin, 'name', plugin)}: {len(plugin.refine_at)} refine_at for "
            f"{len(plugin.thresholds)} thresholds; give one threshold for each refinement"
        )


def threshold_at(plugin: Refining, step: Step) -> float | None:
    """The threshold of the refinement that a step has; None where it has none."""
    for share, threshold in zip(plugin.refine_at, plugin.thresholds, strict=True):
        if plugin.refinements and step.at(share):
            return threshold
    return None

"""Plugins made to look into the engine: each does one plain thing at one moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from adhere.guides.guide import Energy, Guide, Step
from adhere.guides.maps import Read
from adhere.guides.run import Run


@dataclass(frozen=True)
class Probe:
    """A plugin whose guide is made by a function of the run."""

    make: Callable[[Run], Guide]
    name: ClassVar[str] = "probe"

    def guide(self, run: Run) -> Guide:
        return self.make(run)


class Energetic(Guide):
    """States the energy that a function gives, at the steps it is wanted, and remembers it all."""

    def __init__(
        self,
        loss: Callable[[Any], Tensor],
        *,
        step_size: float = 1.0,
        reads: Any = (Read("cross"),),
        at: Callable[[Step], bool] = lambda step: True,
        **energy: Any,
    ) -> None:
        self.loss, self.step_size, self.reads = loss, step_size, frozenset(reads)
        self.at, self.more = at, energy
        self.steps: list[Step] = []
        self.images: list[tuple[int, ...]] = []

    def guides(self, step: Step) -> bool:
        return self.at(step)

    def energy(self, step: Step, maps: Any) -> Energy:
        self.steps.append(step)
        self.images.append(maps.images)
        return Energy(self.loss(maps), self.step_size, **self.more)


def column(k: int) -> Callable[[Any], Tensor]:
    """The mean attention of one text column, as a loss for each image."""
    return lambda maps: maps.cross()[..., k].mean(dim=(1, 2))


def contrast(k: int) -> Callable[[Any], Tensor]:
    """A loss that is steep in the maps: how little a column has at its brightest cell."""
    return lambda maps: 1 - (100 * maps.cross()).softmax(-1)[..., k].amax(dim=(1, 2))


def descending(k: int = 2, **options: Any) -> Probe:
    """A plugin that lowers the mean attention of a column."""
    return Probe(lambda run: Energetic(column(k), **options))


def guide_of(probe: Probe) -> tuple[Probe, list[Any]]:
    """The same plugin, and a list that its guides are put in."""
    made: list[Any] = []

    def make(run: Run) -> Guide:
        made.append(probe.make(run))
        return made[-1]

    return Probe(make), made


class Failing(Guide):
    """Raises in the moment that is named."""

    def __init__(self, moment: str, error: BaseException, step: int = 1) -> None:
        self.error, self.step = error, step
        if moment in ("energy", "guides"):
            self.reads = frozenset({Read("cross")})
        setattr(self, f"_{moment}", True)
        self.moment = moment

    def _raise(self, moment: str, step: Step | None = None) -> None:
        if moment == self.moment and (step is None or step.index >= self.step):
            raise self.error

    def initial(self, noise: Tensor, look: Any) -> Tensor:
        self._raise("initial")
        return noise

    def guides(self, step: Step) -> bool:
        self._raise("guides", step)
        return bool(self.reads)

    def energy(self, step: Step, maps: Any) -> Energy:
        self._raise("energy", step)
        return Energy(column(1)(maps), 1.0)

    def bias(self, step: Step, logits: Any) -> Tensor | None:
        self._raise("bias", step)
        return None

    def embed(self, step: Step, text: Any) -> Any:
        self._raise("embed", step)
        return text

    def predict(self, step: Step, eps: Any) -> Tensor:
        self._raise("predict", step)
        return eps.cond

    def report(self) -> dict[str, Any]:
        self._raise("report")
        return {}


MOMENTS = ("initial", "guides", "energy", "bias", "embed", "predict", "report")


def zeros_like_bias(logits: Any) -> Tensor:
    return torch.zeros_like(logits.values())

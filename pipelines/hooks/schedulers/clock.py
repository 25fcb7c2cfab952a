"""How far a run is: which evaluation of the denoiser comes, and which step it belongs to."""

from __future__ import annotations

from typing import Any

import torch


def first_evaluation(scheduler: Any) -> bool:
    """Whether the coming evaluation is the one whose sample the step is made from."""
    if hasattr(scheduler, "prk_timesteps"):  # PNDM
        if scheduler.config.skip_prk_steps:
            return bool(scheduler.counter != 1)
        return bool(scheduler.counter >= len(scheduler.prk_timesteps) or scheduler.counter % 4 == 0)
    return bool(getattr(scheduler, "state_in_first_order", True))


def position(scheduler: Any, timestep: float) -> int:
    """The index of the timestep that lies nearest."""
    steps = torch.as_tensor(scheduler.timesteps, dtype=torch.float64).flatten()
    return int((steps - timestep).abs().argmin())


class Clock:
    """How far a run is, in evaluations of the denoiser and in steps.

    Attributes:
        sampling: whether the run starts at the noisiest timestep.
        count: steps of the run.
        made: evaluations made.
        index: the step that the coming evaluation belongs to.
    """

    def __init__(self, scheduler: Any, timestep: float, asked: int) -> None:
        """`asked`: number of steps that was asked for, 0 if the timesteps were given."""
        self.scheduler = scheduler
        everything = len(scheduler.timesteps)
        start = getattr(scheduler, "begin_index", None) or position(scheduler, timestep)
        self.sampling = start == 0
        self._start, self._total = start, everything - start
        steps = asked or -(-everything // scheduler.order)
        self.count = max(1, round(steps * self._total / everything))
        self.made, self.index = 0, 0

    @property
    def evaluations(self) -> int:
        """All that the run makes from where it starts."""
        return self._total

    @property
    def share(self) -> float:
        """The share of the whole run, from its noisiest timestep, at which the next one is made."""
        return (self._start + self.made) / max(1, self._start + self._total - 1)

    @property
    def timestep(self) -> float:
        """The timestep of the coming evaluation."""
        return float(self.scheduler.timesteps[self._start + self.made])

    def tick(self) -> None:
        """The scheduler has made a step."""
        self.made += 1
        if first_evaluation(self.scheduler):
            self.index += 1

    @property
    def done(self) -> bool:
        return self.made >= self._total

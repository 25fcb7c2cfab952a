"""What schedulers do to edited latents, and where an edit must be placed to survive.

DDIM, DDPM, Euler, Euler-a, LMS, DEIS, DPM++ 2M, LCM, TCD and flow matching Euler keep every edit.
The others:

- Heun and KDPM2 evaluate twice a step, PNDM twice in its first step (four times, with its Runge-
  Kutta start), and compute the later results from the sample they stored at the first evaluation:
  guides move latents at first evaluations only, and edits "after the step" wait for the last.
- UniPC corrects each sample from the one before, which undoes about half of an edit: the corrector
  is left out at the steps that were edited.
- DPM++ single-step, SA-Solver and IPNDM undo part of an edit, and a warning says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

FAITHFUL = {
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
}
"""Schedulers with which every edit survives, as they are or as they are treated here."""


def doubt(scheduler: Any) -> str | None:
    """What a user should know of a scheduler before latents are moved; None for the faithful."""
    name = type(scheduler).__name__
    if name in FAITHFUL:
        return None
    return (
        f"{name} may undo a part of what guidance does to the latents; "
        "DDIM, Euler and DPM++ 2M (DPMSolverMultistepScheduler) keep all of it"
    )


def first_evaluation(scheduler: Any) -> bool:
    """Whether the coming evaluation is the one whose sample the step is made from."""
    if hasattr(scheduler, "prk_timesteps"):  # PNDM
        if scheduler.config.skip_prk_steps:
            return bool(scheduler.counter != 1)
        return bool(scheduler.counter >= len(scheduler.prk_timesteps) or scheduler.counter % 4 == 0)
    return bool(getattr(scheduler, "state_in_first_order", True))


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
        start = getattr(scheduler, "begin_index", None) or _position(scheduler, timestep)
        self.sampling = start == 0
        self._total = everything - start
        steps = asked or -(-everything // scheduler.order)
        self.count = max(1, round(steps * self._total / everything))
        self.made, self.index = 0, 0

    def tick(self) -> None:
        """The scheduler has made a step."""
        self.made += 1
        if first_evaluation(self.scheduler):
            self.index += 1

    @property
    def done(self) -> bool:
        return self.made >= self._total


def edited(scheduler: Any) -> None:
    """Tell a scheduler that the sample it is about to step from was moved."""
    if _corrects(scheduler) and scheduler.step_index:
        scheduler.disable_corrector = [*scheduler.disable_corrector, scheduler.step_index - 1]


def moved_after(scheduler: Any) -> None:
    """Tell a scheduler that the sample it has just returned is going to be moved."""
    if _corrects(scheduler) and scheduler.step_index is not None:
        scheduler.disable_corrector = [*scheduler.disable_corrector, scheduler.step_index - 1]


@contextmanager
def restored(scheduler: Any) -> Iterator[None]:
    """Put back what `edited` changes in a scheduler's settings."""
    if not _corrects(scheduler):
        yield
        return
    before = scheduler.disable_corrector
    try:
        yield
    finally:
        scheduler.disable_corrector = before


def noise_levels(scheduler: Any, timestep: float) -> tuple[float, float, Tensor]:
    """Noise-to-signal ratio, share of noise, and alpha-bar at a timestep.

    For flow matching the latents are (1 - s) x0 + s noise: the ratio is s / (1 - s), the share s.
    """
    table = getattr(scheduler, "alphas_cumprod", None)
    if table is None or flows(scheduler):
        share = min(max(_flow_sigma(scheduler, timestep), 0.0), 1.0 - 1e-4)
        return share / (1 - share), share, torch.tensor((1 - share) ** 2)
    position = min(max(timestep, 0.0), len(table) - 1.0)
    low = int(position)
    high = min(low + 1, len(table) - 1)
    weight = position - low
    alpha_bar = (table[low] * (1 - weight) + table[high] * weight).double()
    ratio = float(((1 - alpha_bar) / alpha_bar.clamp_min(1e-12)).sqrt())
    return ratio, float((1 - alpha_bar).sqrt()), alpha_bar


def flows(scheduler: Any) -> bool:
    """Whether it samples by flow matching; solvers for both keep an unused table of alphas."""
    if getattr(scheduler, "alphas_cumprod", None) is None:
        return True
    return bool(scheduler.config.get("prediction_type") == "flow_prediction")


def _flow_sigma(scheduler: Any, timestep: float) -> float:
    return float(scheduler.sigmas[_position(scheduler, timestep)])


def _position(scheduler: Any, timestep: float) -> int:
    steps = torch.as_tensor(scheduler.timesteps, dtype=torch.float64).flatten()
    return int((steps - timestep).abs().argmin())


def _corrects(scheduler: Any) -> bool:
    return hasattr(scheduler, "disable_corrector") and hasattr(scheduler, "step_index")

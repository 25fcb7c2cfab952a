"""What latents are made of at every timestep, and where an edit of them survives.

**Levels.** Schedulers hold latents in one of three spaces. DDIM and its kin keep their variance:
sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) n. Euler, Heun and LMS let it grow: x0 + sigma n, of which
the model sees x / sqrt(1 + sigma^2), or x / sqrt(sigma_data^2 + sigma^2) in EDM. Flow matching
mixes: (1 - s) x0 + s n. The *scale* is what the scheduler's latents are in units of the model's:
the inverse of its own `scale_model_input`. Methods step in the model's units, and the step is
multiplied by the scale (`docs/design/0004-step-rule.md`).

**Edits.** Most schedulers keep every edit. The others:

- Heun, KDPM2 and DPM-Solver-SDE evaluate twice a step, PNDM twice in its first step (four times,
  with its Runge-Kutta start), and compute the later results from the sample they stored at the
  first evaluation: guides move latents at first evaluations only, and edits "after the step" wait
  for the last.
- UniPC and SA-Solver correct each sample from the one before, which undoes about half of an edit:
  the corrector is left out at the steps that were edited.
- DPM++ single-step makes its later results from a sample that it has stored: that is moved too.

Schedulers that are called otherwise, run backwards or do not tell their levels are refused.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adhere.pipelines.hooks.compat import picture_and_noise

FAITHFUL = {
    "CosineDPMSolverMultistepScheduler",
    "DDIMParallelScheduler",
    "DDIMScheduler",
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "EDMDPMSolverMultistepScheduler",
    "EDMEulerScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "FlowMatchLCMScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "LTXEulerAncestralRFScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
}
"""Schedulers with which every edit survives, as they are or as they are treated here."""

UNFIT = {
    "CMStochasticIterativeScheduler": "asks consistency models for finished pictures",
    "IPNDMScheduler": "counts time from 0 to 1, for models of sound",
}
"""Schedulers of models that are guided otherwise, and what sets them apart."""

INSTEAD = "use DDIM, Euler or DPM++ 2M (DPMSolverMultistepScheduler)"


def _names(scheduler: Any) -> set[str]:
    """A scheduler's class and those it is made from."""
    return {kind.__name__ for kind in type(scheduler).__mro__}


def refuse(scheduler: Any) -> str | None:
    """Why guidance does not work with a scheduler; None if it does."""
    name = type(scheduler).__name__
    for known in sorted(_names(scheduler) & UNFIT.keys()):
        return f"guidance does not work with {name}, which {UNFIT[known]}; {INSTEAD}"
    takes = list(inspect.signature(type(scheduler).step).parameters.values())[1:]
    if [one.name for one in takes[:3]] != ["model_output", "timestep", "sample"] or any(
        one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD for one in takes[3:]
    ):
        needs = ", ".join(one.name for one in takes if one.default is one.empty)
        return f"guidance does not work with {name}, whose step needs ({needs}); {INSTEAD}"
    if not (_table(scheduler) or _has_sigmas(scheduler)):
        return (
            f"guidance does not work with {name}, which tells the noise at a timestep neither in "
            f"`alphas_cumprod` nor in `sigmas`; {INSTEAD}"
        )
    times = torch.as_tensor(scheduler.timesteps, dtype=torch.float64).flatten()
    if len(times) > 1 and times[0] < times[-1]:
        return f"guidance does not work with {name}, which goes from picture to noise; {INSTEAD}"
    return None


def doubt(scheduler: Any) -> str | None:
    """What a user should know of a scheduler before latents are moved; None for the faithful."""
    if _names(scheduler) & FAITHFUL:
        return None
    return (
        f"{type(scheduler).__name__} may undo a part of what guidance does to the latents; "
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


def edited(scheduler: Any, move: Tensor) -> None:
    """Tell a scheduler that the sample it is about to step from was moved, and by how much."""
    if _corrects(scheduler) and scheduler.step_index:
        scheduler.disable_corrector = [*scheduler.disable_corrector, scheduler.step_index - 1]
    _uncorrected(scheduler)
    _carried(scheduler, move)


def moved_after(scheduler: Any, move: Tensor) -> None:
    """Tell a scheduler that the sample it has just returned is moved, and by how much."""
    if _corrects(scheduler) and scheduler.step_index is not None:
        scheduler.disable_corrector = [*scheduler.disable_corrector, scheduler.step_index - 1]
    _uncorrected(scheduler)
    _carried(scheduler, move)


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


@dataclass(frozen=True)
class Level:
    """What the latents are made of at a timestep.

    Attributes:
        sigma: standard deviation of the noise over the factor of the picture in them: 80 at the
            start of EDM, s / (1 - s) for flow matching.
        noise: standard deviation of the noise in the model's units: sqrt(1 - alpha_bar), or s.
        alpha_bar: the picture's share of the variance in the model's units; (1 - s)^2 for flows.
        scale: the scheduler's latents over the model's input.
    """

    sigma: float
    noise: float
    alpha_bar: Tensor
    scale: float = 1.0


CLEAN = Level(0.0, 0.0, torch.ones(()))
"""Of a picture without noise."""


def level(scheduler: Any, timestep: float) -> Level:
    """The level of the evaluation that comes, which is at `timestep`."""
    if not _has_sigmas(scheduler):
        return _tabled(scheduler.alphas_cumprod, timestep)
    sigma = _sigma(scheduler, timestep)
    if flows(scheduler):
        share = min(max(sigma, 0.0), 1.0 - 1e-4)
        return Level(share / (1 - share), share, torch.tensor((1 - share) ** 2))
    data = float(scheduler.config.get("sigma_data") or 1.0)
    total = math.hypot(sigma, data)
    picture = torch.tensor((data / total) ** 2, dtype=torch.float64)
    return Level(sigma, sigma / total, picture, scale(scheduler, timestep))


def scale(scheduler: Any, timestep: Any) -> float:
    """The scheduler's latents over what it makes of them for the model."""
    if not hasattr(scheduler, "scale_model_input"):
        return 1.0
    return 1 / float(scheduler.scale_model_input(torch.ones(1), timestep))


def scale_after(scheduler: Any) -> float:
    """The scale of the sample that the scheduler's step has just returned."""
    return scale(scheduler, scheduler.timesteps[-1]) if _has_sigmas(scheduler) else 1.0


def flows(scheduler: Any) -> bool:
    """Whether it samples by flow matching; solvers for both keep an unused table of alphas."""
    config = scheduler.config
    if config.get("prediction_type") == "flow_prediction" or config.get("use_flow_sigmas"):
        return True
    return not _table(scheduler) and config.get("sigma_data") is None


def _tabled(table: Tensor, timestep: float) -> Level:
    """The level in a table of alpha-bars, which keeps the variance."""
    position = min(max(timestep, 0.0), len(table) - 1.0)
    low = int(position)
    high = min(low + 1, len(table) - 1)
    weight = position - low
    alpha_bar = (table[low] * (1 - weight) + table[high] * weight).double()
    ratio = float(((1 - alpha_bar) / alpha_bar.clamp_min(1e-12)).sqrt())
    return Level(ratio, float((1 - alpha_bar).sqrt()), alpha_bar)


def _table(scheduler: Any) -> bool:
    return getattr(scheduler, "alphas_cumprod", None) is not None


def _has_sigmas(scheduler: Any) -> bool:
    """Whether it keeps a noise level for each of its timesteps, wherever they lie."""
    return getattr(scheduler, "sigmas", None) is not None and hasattr(scheduler, "step_index")


def _sigma(scheduler: Any, timestep: float) -> float:
    """The scheduler's own sigma for the coming evaluation."""
    index = scheduler.step_index
    if index is None:
        index = getattr(scheduler, "begin_index", None)
    if index is None:
        index = _position(scheduler, timestep)
    if not first_evaluation(scheduler):
        # Between two levels, where KDPM2 and DPM-Solver-SDE evaluate for the second time.
        if hasattr(scheduler, "sigmas_interpol"):
            return float(scheduler.sigmas_interpol[index - 1])
        if getattr(scheduler, "mid_point_sigma", None) is not None:
            return float(scheduler.mid_point_sigma)
    return float(scheduler.sigmas[index])


def _position(scheduler: Any, timestep: float) -> int:
    steps = torch.as_tensor(scheduler.timesteps, dtype=torch.float64).flatten()
    return int((steps - timestep).abs().argmin())


def _corrects(scheduler: Any) -> bool:
    return hasattr(scheduler, "disable_corrector") and hasattr(scheduler, "step_index")


def _uncorrected(scheduler: Any) -> None:
    """SA-Solver corrects from the sample that it remembers."""
    if "SASolverScheduler" in _names(scheduler):
        scheduler.last_sample = None


def _carried(scheduler: Any, move: Tensor) -> None:
    """DPM++ single-step makes the later results of a step from the first one's sample: move it too.

    What the solver multiplies it with on its way to the present level, the move is divided by: the
    ratio of the noise (DPM++), of the picture (DPM), or of the first squared over the second (SDE).
    """
    earlier = _stored(scheduler)
    if earlier is None:
        return
    here = picture_and_noise(scheduler, scheduler.sigmas[scheduler.step_index])
    there = picture_and_noise(scheduler, scheduler.sigmas[earlier])
    picture, noise = float(there[0] / here[0]), float(there[1] / here[1])
    back = {"dpmsolver++": noise, "dpmsolver": picture}.get(
        scheduler.config.algorithm_type, noise**2 / picture
    )
    scheduler.sample = scheduler.sample + back * move.to(scheduler.sample)


def _stored(scheduler: Any) -> int | None:
    """The level of a stored sample that the next result starts from; None if from the last one."""
    if "DPMSolverSinglestepScheduler" not in _names(scheduler) or scheduler.sample is None:
        return None
    index = scheduler.step_index
    if not index or index >= len(scheduler.timesteps):
        return None
    earlier = int(index - scheduler.order_list[index] + 1)
    return earlier if 0 <= earlier < index else None

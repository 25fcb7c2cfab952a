"""What latents are made of at every timestep, whatever the scheduler.

Schedulers hold latents in one of three spaces. DDIM and its kin keep their variance:
sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) n. Euler, Heun and LMS let it grow: x0 + sigma n, of which
the model sees x / sqrt(1 + sigma^2), or x / sqrt(sigma_data^2 + sigma^2) in EDM. Flow matching
mixes: (1 - s) x0 + s n. The *scale* is what the scheduler's latents are in units of the model's:
the inverse of its own `scale_model_input`. Methods step in the model's units, and the step is
multiplied by the scale (`docs/design/0004-step-rule.md`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adhere.errors import ModelError
from adhere.pipelines.hooks.schedulers.clock import first_evaluation, position


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


CLEAN = Level(0.0, 0.0, torch.ones((), dtype=torch.float32))
"""Of a picture without noise."""


def level(scheduler: Any, timestep: float) -> Level:
    """The level of the evaluation that comes, which is at `timestep`."""
    if not has_sigmas(scheduler):
        return _tabled(scheduler.alphas_cumprod, timestep)
    return _of_sigma(scheduler, _sigma(scheduler, timestep), scale(scheduler, timestep))


def level_ahead(scheduler: Any, share: float) -> tuple[int, float, Level]:
    """The step, timestep and level of the evaluation at a share of the whole run.

    Its `scale` is 1: it is a level of what the model sees.
    """
    order = scheduler.order
    index = round(share * (len(scheduler.timesteps) - 1))
    index -= index % order  # a step's first evaluation
    timestep = float(scheduler.timesteps[index])
    if has_sigmas(scheduler):
        found = _of_sigma(scheduler, float(scheduler.sigmas[index]), 1.0)
    else:
        found = _tabled(scheduler.alphas_cumprod, timestep)
    return index // order, timestep, found


def level_after(scheduler: Any, timestep: float) -> Level:
    """The level that the step at `timestep` leads to. Its `scale` is 1, as the model sees it."""
    if has_sigmas(scheduler):
        here, sigmas = _sigma(scheduler, timestep), scheduler.sigmas
        lower = sigmas[sigmas < here]
        return _of_sigma(scheduler, float(lower.max()) if len(lower) else 0.0, 1.0)
    lower = scheduler.timesteps[scheduler.timesteps < timestep]
    return _tabled(scheduler.alphas_cumprod, float(lower.max())) if len(lower) else CLEAN


def turn(here: Level, there: Level) -> float:
    """How far a slope that is added to a flow's velocity moves the latents over a step.

    A flow's state is z = x / (a + s), at t = s / (a + s), of latents x = a x0 + s n. With
    dz/dt += t dL/dz over the step, x moves by t (t - t') (a + s) (a' + s') dL/dx.
    """
    wholes = [float(level.alpha_bar.sqrt()) + level.noise for level in (here, there)]
    times = [level.noise / whole for level, whole in zip((here, there), wholes, strict=True)]
    return times[0] * (times[0] - times[1]) * wholes[0] * wholes[1]


def level_at(scheduler: Any, log_snr: float) -> tuple[float, Level]:
    """The timestep and level whose picture's variance over the noise's is nearest to a ratio.

    Its `scale` is 1: it is a level of what the model sees.

    Raises:
        ModelError: the scheduler has no levels but those of a run (EDM).
    """
    if flows(scheduler):
        share = 1 / (1 + math.exp(log_snr / 2))
        steps = scheduler.config.get("num_train_timesteps", 1000)
        return share * steps, _of_sigma(scheduler, share, 1.0)
    if not has_table(scheduler):
        raise ModelError(
            f"{type(scheduler).__name__} has no table of noise levels, so the model cannot be "
            "asked at levels outside its run; use a scheduler that has one, such as DDIM or Euler"
        )
    table = scheduler.alphas_cumprod.double()
    timestep = float((table.logit() - log_snr).abs().argmin())
    return timestep, _tabled(scheduler.alphas_cumprod, timestep)


def scale(scheduler: Any, timestep: Any) -> float:
    """The scheduler's latents over what it makes of them for the model."""
    if not hasattr(scheduler, "scale_model_input"):
        return 1.0
    return 1 / float(scheduler.scale_model_input(torch.ones(1, dtype=torch.float32), timestep))


def scale_after(scheduler: Any) -> float:
    """The scale of the sample that the scheduler's step has just returned."""
    return scale(scheduler, scheduler.timesteps[-1]) if has_sigmas(scheduler) else 1.0


def flows(scheduler: Any) -> bool:
    """Whether it samples by flow matching; solvers for both keep an unused table of alphas."""
    config = scheduler.config
    if config.get("prediction_type") == "flow_prediction" or config.get("use_flow_sigmas"):
        return True
    return not has_table(scheduler) and config.get("sigma_data") is None


def has_sigmas(scheduler: Any) -> bool:
    """Whether it keeps a noise level for each of its timesteps, wherever they lie."""
    return getattr(scheduler, "sigmas", None) is not None and hasattr(scheduler, "step_index")


def has_table(scheduler: Any) -> bool:
    return getattr(scheduler, "alphas_cumprod", None) is not None


def _of_sigma(scheduler: Any, sigma: float, scale: float) -> Level:
    """The level at a sigma of the scheduler's own."""
    if flows(scheduler):
        share = min(max(sigma, 0.0), 1.0 - 1e-4)
        # Half precision, which may be the default, has no number as small as the first step's.
        picture = torch.tensor((1 - share) ** 2, dtype=torch.float32)
        return Level(share / (1 - share), share, picture)
    data = float(scheduler.config.get("sigma_data") or 1.0)
    total = math.hypot(sigma, data)
    picture = torch.tensor((data / total) ** 2, dtype=torch.float64)
    return Level(sigma, sigma / total, picture, scale)


def _tabled(table: Tensor, timestep: float) -> Level:
    """The level in a table of alpha-bars, which keeps the variance."""
    position = min(max(timestep, 0.0), len(table) - 1.0)
    low = int(position)
    high = min(low + 1, len(table) - 1)
    weight = position - low
    alpha_bar = (table[low] * (1 - weight) + table[high] * weight).double()
    ratio = float(((1 - alpha_bar) / alpha_bar.clamp_min(1e-12)).sqrt())
    return Level(ratio, float((1 - alpha_bar).sqrt()), alpha_bar)


def _sigma(scheduler: Any, timestep: float) -> float:
    """The scheduler's own sigma for the coming evaluation."""
    index = scheduler.step_index
    if index is None:
        index = getattr(scheduler, "begin_index", None)
    if index is None:
        index = position(scheduler, timestep)
    if not first_evaluation(scheduler):
        # Between two levels, where KDPM2 and DPM-Solver-SDE evaluate for the second time.
        if hasattr(scheduler, "sigmas_interpol"):
            return float(scheduler.sigmas_interpol[index - 1])
        if getattr(scheduler, "mid_point_sigma", None) is not None:
            return float(scheduler.mid_point_sigma)
    return float(scheduler.sigmas[index])

"""Which schedulers guidance works with, and why not with the others."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from adhere.pipelines.hooks.schedulers.levels import has_sigmas, has_table

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


def names(scheduler: Any) -> set[str]:
    """A scheduler's class and those it is made from."""
    return {kind.__name__ for kind in type(scheduler).__mro__}


def refuse_call(scheduler: Any) -> str | None:
    """Why guidance does not work with a scheduler, by its class alone; None if that may do."""
    name = type(scheduler).__name__
    for known in sorted(names(scheduler) & UNFIT.keys()):
        return f"guidance does not work with {name}, which {UNFIT[known]}; {INSTEAD}"
    if not hasattr(scheduler, "step"):
        return f"guidance does not work with {name}, which has no step(...); {INSTEAD}"
    takes = list(inspect.signature(type(scheduler).step).parameters.values())[1:]
    if [one.name for one in takes[:3]] != ["model_output", "timestep", "sample"] or any(
        one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD for one in takes[3:]
    ):
        needs = ", ".join(one.name for one in takes if one.default is one.empty)
        return f"guidance does not work with {name}, whose step needs ({needs}); {INSTEAD}"
    return None


def refuse(scheduler: Any) -> str | None:
    """Why guidance does not work with a scheduler that has its timesteps; None if it does."""
    name = type(scheduler).__name__
    reason = refuse_call(scheduler)
    if reason is not None:
        return reason
    if not (has_table(scheduler) or has_sigmas(scheduler)):
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
    if names(scheduler) & FAITHFUL:
        return None
    return (
        f"{type(scheduler).__name__} may undo a part of what guidance does to the latents; "
        "DDIM, Euler and DPM++ 2M (DPMSolverMultistepScheduler) keep all of it"
    )

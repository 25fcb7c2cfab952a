"""Samplers by the names that users know, for models that predict noise and for flow matching."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from adhere.errors import ParameterError
from adhere.pipelines.hooks.schedulers.levels import flows

SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "pndm": "PNDMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "heun": "HeunDiscreteScheduler",
}
"""diffusers' classes for models that predict the noise (or v): Stable Diffusion, SDXL, PixArt."""

TWICE = ("heun",)
"""Those that evaluate the model twice in every step but the last."""

FLOW = {
    "euler": "FlowMatchEulerDiscreteScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "heun": "FlowMatchHeunDiscreteScheduler",
}
"""diffusers' classes for flow-matching models: SD3, FLUX, Chroma, Qwen-Image, Z-Image, Sana."""

_LEAVE_LEVELS = ("StableDiffusion3", "Sana")
"""Pipelines, by the start of their class's name, that leave the noise levels to the scheduler.

The others hand it levels shifted by the picture's size, which only the Euler sampler takes.
"""


def check_scheduler(name: str | None) -> None:
    """Raise `ParameterError` for a name that no kind of model has; before a model is loaded."""
    if name is not None and name not in SCHEDULERS:
        raise ParameterError(f"no scheduler is called {name!r}; there are: {', '.join(SCHEDULERS)}")


def offered(pipe: Any) -> dict[str, str]:
    """The samplers that fit a pipeline, by name: diffusers' classes."""
    if not flows(pipe.scheduler):
        return SCHEDULERS
    shifted = bool(pipe.scheduler.config.get("use_dynamic_shifting"))
    if shifted or not type(pipe).__name__.startswith(_LEAVE_LEVELS):
        return {"euler": FLOW["euler"]}
    return FLOW


def scheduler(pipe: Any, name: str) -> Any:
    """A new scheduler of that name with the settings of the pipeline's own.

    Raises:
        ParameterError: the sampler is not for models of this kind.
    """
    import diffusers

    check_scheduler(name)
    found = offered(pipe)
    if name not in found:
        kind = "a flow-matching model" if flows(pipe.scheduler) else "of another kind"
        raise ParameterError(
            f"scheduler {name!r} does not fit {type(pipe).__name__}, which is {kind}; "
            f"use {_listed(found)}, or leave it out for its own"
        )
    made: type[Any] = getattr(diffusers, found[name])
    own = pipe.scheduler.config
    extra = _flow_settings(made, own) if flows(pipe.scheduler) else {}
    return made.from_config(own, **extra)


def _flow_settings(kind: type[Any], own: Any) -> dict[str, Any]:
    """What a solver for noise and flow must be told to solve a flow."""
    known = inspect.signature(kind.__init__).parameters
    shift = own.get("flow_shift", own.get("shift", 1.0))
    options = {
        "prediction_type": "flow_prediction",
        "use_flow_sigmas": True,
        "flow_shift": shift,
        "shift": shift,
    }
    return {key: value for key, value in options.items() if key in known}


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last

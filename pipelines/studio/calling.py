"""From requests to the arguments of a pipeline's call, and what that call would refuse."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.run import Prompt
from adhere.pipelines.studio import samplers
from adhere.pipelines.studio.request import OnStep, Progress, Request

PIXELS = 8
"""Sides of pictures are multiples of this: what diffusers' pipelines ask for at the least."""


class Calling:
    """How one pipeline is called: what it takes, and what holds where a request does not say.

    Attributes:
        pictures: what its IP-Adapter shows in every call.
        steps: steps of a request that does not say: the toybox's, or the call's own default.
        guidance_scale: likewise; None where the model has none.
    """

    def __init__(self, pipe: Any, toybox: bool, pictures: Sequence[Image.Image] = ()) -> None:
        self.pipe, self.pictures = pipe, list(pictures)
        self._parameters = inspect.signature(type(pipe).__call__).parameters
        self.steps = int(self.default("num_inference_steps"))
        self.guidance_scale: float | None = self.default("guidance_scale")
        if toybox:
            from adhere.pipelines.toybox.model.folder import DEFAULTS

            own = DEFAULTS[type(pipe).__name__]
            self.steps, self.guidance_scale = own.steps, own.guidance_scale

    def takes(self, parameter: str) -> bool:
        return parameter in self._parameters

    def default(self, parameter: str) -> Any:
        """The default of a parameter of the pipeline's call; None where it has none."""
        found = self._parameters.get(parameter)
        return None if found is None or found.default is found.empty else found.default

    def check(self, request: Request) -> None:
        """Raise `ParameterError` for what this pipeline would refuse or pass over."""
        check_size(request.width, request.height)
        _check_alone(request)
        if request.scheduler is not None:
            samplers.scheduler(self.pipe, request.scheduler)
        self._check_true_cfg(request)
        self._check_negative(request)

    def _check_true_cfg(self, request: Request) -> None:
        if request.true_cfg_scale is not None and not self.takes("true_cfg_scale"):
            raise ParameterError(
                f"true_cfg_scale={request.true_cfg_scale:g}: {type(self.pipe).__name__} has one "
                "guidance scale only; give guidance_scale (--guidance-scale) instead"
            )

    def _check_negative(self, request: Request) -> None:
        if not request.negative_prompt:
            return
        name = type(self.pipe).__name__
        if not self.takes("negative_prompt"):
            raise ParameterError(f"{name} reads no negative prompt; leave out --negative")
        if self.takes("true_cfg_scale"):
            asked, default = request.true_cfg_scale, self.default("true_cfg_scale")
            option = "true_cfg_scale above 1 (for example --true-cfg 4)"
        else:
            asked, default = request.guidance_scale, self.guidance_scale
            option = "guidance_scale above 1 (for example --guidance-scale 5)"
        scale = float((default if asked is None else asked) or 0.0)
        if scale <= 1:
            raise ParameterError(
                f"{name} reads a negative prompt with classifier-free guidance only, and its scale "
                f"is {scale:g}; give {option}, or leave out --negative"
            )

    def arguments(self, batch: Sequence[Request], on_step: OnStep | None) -> dict[str, Any]:
        """What the pipeline is called with for a batch; what nobody says is left to it."""
        first = batch[0]
        steps = first.steps or self.steps
        width, height = both_sides(self.pipe, first.width, first.height)
        arguments: dict[str, Any] = {
            "prompt": [Prompt(request.prompt).plain for request in batch],
            "num_inference_steps": steps,
            "generator": [torch.Generator("cpu").manual_seed(request.seed) for request in batch],
            "guidance_scale": self.guidance_scale
            if first.guidance_scale is None
            else first.guidance_scale,
            "true_cfg_scale": first.true_cfg_scale,
            "width": width,
            "height": height,
        }
        if self.takes("use_resolution_binning") and not _binned(self.pipe):
            arguments["use_resolution_binning"] = False
        if any(request.negative_prompt for request in batch):
            arguments["negative_prompt"] = [request.negative_prompt for request in batch]
        if self.pictures:
            arguments["ip_adapter_image"] = [self.pictures]
        if on_step is not None:
            arguments.update(self._watched(on_step, steps))
        return {name: value for name, value in arguments.items() if value is not None}

    def _watched(self, on_step: OnStep, count: int) -> dict[str, Any]:
        """The callback in the form that the pipeline has, if it has any."""

        def call(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            on_step(Progress(index, count, tensors["latents"]))
            return tensors

        def older(index: int, timestep: Any, latents: Tensor) -> None:
            on_step(Progress(index, count, latents))

        if self.takes("callback_on_step_end"):
            return {"callback_on_step_end": call}
        return {"callback": older} if self.takes("callback") else {}

    def chosen(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """What a call was made with where its requests may have left it open."""
        settings = {
            "steps": arguments["num_inference_steps"],
            "guidance_scale": arguments.get("guidance_scale"),
            "true_cfg_scale": arguments.get("true_cfg_scale", self.default("true_cfg_scale")),
            "scheduler": type(self.pipe.scheduler).__name__,
        }
        return {key: value for key, value in settings.items() if value is not None}


def _binned(pipe: Any) -> bool:
    """Whether the sizes that PixArt and Sana draw the nearest of are this model's.

    Their tables are for the published autoencoders, of 8 and 32 pixels a latent cell.
    """
    cell = 32 if type(pipe).__name__.startswith("Sana") else 8
    sizes = (16, 32, 64, 128, 256)
    return bool(pipe.vae_scale_factor == cell and pipe.transformer.config.sample_size in sizes)


def _check_alone(request: Request) -> None:
    for plugin in request.plugins:
        if getattr(plugin, "several", False):
            raise ParameterError(
                f"{plugin.name} chooses among several pictures of one prompt, and each here is one "
                "of its own; use --best-of or best-of-n, or, in Python, "
                "pipe(..., num_images_per_prompt=4)"
            )


def both_sides(pipe: Any, width: int | None, height: int | None) -> tuple[int | None, int | None]:
    """A picture's sides. Where one is left out it is the model's own: Stable Diffusion's pipeline
    would pass over the other one.
    """
    own = getattr(getattr(getattr(pipe, "unet", None), "config", None), "sample_size", None)
    if (width is None) == (height is None) or own is None:
        return width, height
    h, w = (own, own) if isinstance(own, int) else own
    return width or w * pipe.vae_scale_factor, height or h * pipe.vae_scale_factor


def check_size(width: int | None, height: int | None) -> None:
    """Raise `ParameterError` for a size that no model draws; None is the model's own."""
    for name, side in (("width", width), ("height", height)):
        if side is not None and (side < PIXELS or side % PIXELS):
            down = max(PIXELS, side - side % PIXELS)
            raise ParameterError(
                f"{name}={side} is not a multiple of {PIXELS} pixels; use {down} or {down + PIXELS}"
            )

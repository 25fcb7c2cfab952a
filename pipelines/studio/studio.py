"""Where command line, app and evaluation make their pictures: one model, many requests."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.run import Prompt
from adhere.pipelines.engine.guidance import Guidance
from adhere.pipelines.engine.memory import Memory
from adhere.pipelines.studio import samplers
from adhere.pipelines.studio.loading import Lora, about, best_device, load, set_backend
from adhere.pipelines.studio.request import Interrupt, OnStep, Picture, Progress, Request
from adhere.pipelines.toybox import TOYBOXES

PIXELS = 8
"""Sides of pictures are multiples of this: what diffusers' pipelines ask for at the least."""


class Studio:
    """One loaded model that makes pictures from requests.

    Args:
        model: `toybox`, `toybox-sd3`, a folder, a hub id, or a .safetensors file.
        device: for example `cuda`; the best there is if left out.
        dtype: `float32`, `bfloat16` or `float16`; half precision on CUDA if left out.
        attention_backend: a diffusers attention backend for the unguided passes.
        memory: what the guided passes may cost.
        variant: of the weight files, for example `fp16`.
        revision: of a hub repository: a branch, tag or commit.
        offload: `model` or `sequential`: keep parts in main memory until they are needed.
        loras: low-rank weights to add.

    Raises:
        ModelError: the model cannot be loaded, or is of no known family.
        ParameterError: a setting has a value that does not exist.
    """

    def __init__(
        self,
        model: str = "toybox",
        device: str | None = None,
        dtype: str | None = None,
        attention_backend: str | None = None,
        memory: Memory | None = None,
        *,
        variant: str | None = None,
        revision: str | None = None,
        offload: str | None = None,
        loras: Sequence[Lora] = (),
    ) -> None:
        self.model = model
        self.device = device or best_device()
        self.memory = memory or Memory()
        self.pipe = load(
            model, self.device, dtype,
            variant=variant, revision=revision, offload=offload, loras=loras,
        )  # fmt: skip
        if attention_backend:
            set_backend(self.pipe, attention_backend)
        self.pipe.set_progress_bar_config(disable=True)
        self._schedulers: dict[str | None, Any] = {None: self.pipe.scheduler}
        self._parameters = inspect.signature(type(self.pipe).__call__).parameters
        self.about = about(self.pipe, model, variant, revision, loras)

    @property
    def is_toybox(self) -> bool:
        return self.model in TOYBOXES

    @property
    def steps(self) -> int:
        """Steps of a request that does not say: the toybox's, or the pipeline call's default."""
        from adhere.pipelines.toybox.model.folder import DEFAULTS

        if self.is_toybox:
            return DEFAULTS[type(self.pipe).__name__].steps
        return int(self._default("num_inference_steps"))

    @property
    def guidance_scale(self) -> float | None:
        """Guidance scale of a request that does not say; None where the model has none."""
        from adhere.pipelines.toybox.model.folder import DEFAULTS

        if self.is_toybox:
            return DEFAULTS[type(self.pipe).__name__].guidance_scale
        found: float | None = self._default("guidance_scale")
        return found

    def _default(self, parameter: str) -> Any:
        """The default of a parameter of the pipeline's call; None where it has none."""
        found = self._parameters.get(parameter)
        return None if found is None or found.default is found.empty else found.default

    def check(self, request: Request) -> None:
        """Raise `ParameterError` for what this model's pipeline would refuse or pass over."""
        _check_size(request)
        if request.scheduler is not None:
            samplers.scheduler(self.pipe, request.scheduler)
        self._check_true_cfg(request)
        self._check_negative(request)

    def _check_true_cfg(self, request: Request) -> None:
        if request.true_cfg_scale is not None and "true_cfg_scale" not in self._parameters:
            raise ParameterError(
                f"true_cfg_scale={request.true_cfg_scale:g}: {type(self.pipe).__name__} has one "
                "guidance scale only; give guidance_scale (--guidance-scale) instead"
            )

    def _check_negative(self, request: Request) -> None:
        if not request.negative_prompt:
            return
        name = type(self.pipe).__name__
        if "negative_prompt" not in self._parameters:
            raise ParameterError(f"{name} reads no negative prompt; leave out --negative")
        if "true_cfg_scale" in self._parameters:
            scale = self._scale(request.true_cfg_scale, self._default("true_cfg_scale"))
            option = "true_cfg_scale above 1 (for example --true-cfg 4)"
        else:
            scale = self._scale(request.guidance_scale, self.guidance_scale)
            option = "guidance_scale above 1 (for example --guidance-scale 5)"
        if scale <= 1:
            raise ParameterError(
                f"{name} reads a negative prompt with classifier-free guidance only, and its scale "
                f"is {scale:g}; give {option}, or leave out --negative"
            )

    @staticmethod
    def _scale(asked: float | None, default: float | None) -> float:
        return float((default if asked is None else asked) or 0.0)

    def generate(
        self,
        requests: Sequence[Request],
        *,
        on_step: OnStep | None = None,
        interrupt: Interrupt | None = None,
        record_attention: bool = False,
    ) -> list[Picture]:
        """Make the pictures, in the order of the requests.

        Requests that differ only in prompt, seed, subjects and layout go through the model as one
        batch; what else is in a batch moves a picture by the last bits of its arithmetic at most
        (one step of 255 in a pixel). An exception raised by `on_step` stops the model at once, and
        so does an `interrupt` that says True: every model pass of every method asks it first.

        Raises:
            GuidanceError: a request does not fit the model; before anything is made.
        """
        for request in requests:
            self.check(request)
        made: dict[int, Picture] = {}
        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault(alike(request), []).append(place)
        for places in groups.values():
            batch = [requests[place] for place in places]
            pictures = self._batch(batch, on_step, interrupt, record_attention)
            made.update(zip(places, pictures, strict=True))
        return [made[place] for place in range(len(requests))]

    def preview(self, latents: Tensor) -> list[Image.Image]:
        """Small quick pictures of unfinished latents, decoded at a quarter of the size if large."""
        with torch.inference_mode():
            if min(latents.shape[-2:]) > 32:
                latents = torch.nn.functional.interpolate(
                    latents.float(), scale_factor=0.25, mode="area"
                )
            vae = self.pipe.vae
            shift = getattr(vae.config, "shift_factor", None) or 0.0
            decoded = vae.decode((latents / vae.config.scaling_factor + shift).to(vae.dtype)).sample
            images: list[Image.Image] = self.pipe.image_processor.postprocess(decoded, "pil")
        return images

    def judge(self) -> Callable[[Picture], dict[str, Any]] | None:
        """What the toybox's judge says of a picture, as plain data; None for other models.

        A prompt outside the toybox's language gets only what was seen, and why (`not_judged`).
        """
        if not self.is_toybox:
            return None
        from adhere.pipelines.toybox import Judge, ToyboxError

        judge = Judge.load()

        def say(picture: Picture) -> dict[str, Any]:
            verdict = judge([picture.image])[0]
            seen = [
                {"kind": t.kind, "colour": t.colour, "box": list(t.box)} for t in verdict.things
            ]
            said: dict[str, Any] = {"seen": seen, "unsafe": verdict.unsafe}
            try:
                outcome = verdict.against(Prompt(picture.request.prompt).plain)
            except ToyboxError as error:
                return {**said, "not_judged": str(error)}
            return {**said, **asdict(outcome)}

        return say

    def _batch(
        self,
        batch: list[Request],
        on_step: OnStep | None,
        interrupt: Interrupt | None,
        record: bool,
    ) -> list[Picture]:
        self._use_scheduler(batch[0].scheduler)
        arguments = self._arguments(batch, on_step)
        started = time.perf_counter()
        guidance = Guidance(*batch[0].plugins, memory=self.memory)
        with guidance.attach(
            self.pipe,
            prompt=[request.prompt for request in batch],
            subjects=[request.subjects for request in batch],
            layout=[request.layout for request in batch],
            record=record,
            interrupt=interrupt,
        ) as attached:
            images = self.pipe(**arguments).images
        seconds = (time.perf_counter() - started) / len(batch)
        recorded = attached.recorded
        made = self._made(arguments)
        return [
            Picture(
                image=image,
                request=request,
                report=attached.report.for_image(k),
                seconds=seconds,
                attention=recorded[k] if recorded else None,
                made={**made, "width": image.width, "height": image.height},
            )
            for k, (image, request) in enumerate(zip(images, batch, strict=True))
        ]

    def _arguments(self, batch: list[Request], on_step: OnStep | None) -> dict[str, Any]:
        """What the pipeline is called with; what nobody says is left to it."""
        first = batch[0]
        steps = first.steps or self.steps
        arguments: dict[str, Any] = {
            "prompt": [Prompt(request.prompt).plain for request in batch],
            "num_inference_steps": steps,
            "generator": [torch.Generator("cpu").manual_seed(request.seed) for request in batch],
            "guidance_scale": self.guidance_scale
            if first.guidance_scale is None
            else first.guidance_scale,
            "true_cfg_scale": first.true_cfg_scale,
            "width": first.width,
            "height": first.height,
        }
        if any(request.negative_prompt for request in batch):
            arguments["negative_prompt"] = [request.negative_prompt for request in batch]
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

        if "callback_on_step_end" in self._parameters:
            return {"callback_on_step_end": call}
        return {"callback": older} if "callback" in self._parameters else {}

    def _made(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """What made a batch's pictures, with what the requests left open."""
        chosen = {
            "steps": arguments["num_inference_steps"],
            "guidance_scale": arguments.get("guidance_scale"),
            "true_cfg_scale": arguments.get("true_cfg_scale", self._default("true_cfg_scale")),
            "scheduler": type(self.pipe.scheduler).__name__,
        }
        return {**self.about, **{key: value for key, value in chosen.items() if value is not None}}

    def _use_scheduler(self, name: str | None) -> None:
        if name not in self._schedulers:
            self.pipe.scheduler = self._schedulers[None]
            self._schedulers[name] = samplers.scheduler(self.pipe, str(name))
        self.pipe.scheduler = self._schedulers[name]


def alike(request: Request) -> tuple[Any, ...]:
    """What must be the same within one batch."""
    return (
        request.plugins,
        request.steps,
        request.guidance_scale,
        request.true_cfg_scale,
        request.width,
        request.height,
        request.scheduler,
        bool(request.negative_prompt),
    )


def _check_size(request: Request) -> None:
    for name, side in (("width", request.width), ("height", request.height)):
        if side is not None and (side < PIXELS or side % PIXELS):
            down = max(PIXELS, side - side % PIXELS)
            raise ParameterError(
                f"{name}={side} is not a multiple of {PIXELS} pixels; use {down} or {down + PIXELS}"
            )

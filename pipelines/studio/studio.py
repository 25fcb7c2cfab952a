"""Where command line, app and evaluation make their pictures: one model, many requests."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from adhere.errors import ModelError, ParameterError
from adhere.guides import parameters
from adhere.guides.guide import Plugin
from adhere.guides.run import Prompt
from adhere.layout.layout import Layout
from adhere.pipelines.engine.guidance import Guidance, Memory
from adhere.pipelines.studio import saved
from adhere.pipelines.toybox import TOYBOXES
from adhere.prompt.tokens import columns_of, tokenise
from adhere.prompt.words import Span


@dataclass(frozen=True)
class Request:
    """Everything that changes the pixels of one picture. Plain data; JSON round-trip.

    `steps`, `guidance_scale`, `width` and `height` (pixels) are the model's own defaults when None.
    """

    prompt: str
    seed: int = 0
    negative_prompt: str = ""
    plugins: tuple[Plugin, ...] = ()
    subjects: tuple[str, ...] | None = None
    layout: Layout | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    scheduler: str | None = None

    def to_json(self) -> dict[str, Any]:
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain["plugins"] = [parameters.to_json(plugin) for plugin in self.plugins]
        plain["layout"] = self.layout.to_json() if self.layout else None
        plain["subjects"] = list(self.subjects) if self.subjects is not None else None
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Request:
        from adhere.plugins import plugin

        values = dict(data)
        values["plugins"] = tuple(plugin(spec) for spec in values.get("plugins", ()))
        layout = values.get("layout")
        values["layout"] = Layout.from_json(layout) if layout else None
        subjects = values.get("subjects")
        values["subjects"] = tuple(subjects) if subjects is not None else None
        return cls(**values)

    def plain(self) -> Request:
        """The same request without any plugin: what guided pictures are compared with."""
        return replace(self, plugins=())


@dataclass(frozen=True)
class Progress:
    """One step of a batch that is being made: step `index` of `count`, and its latents."""

    index: int
    count: int
    latents: Tensor


@dataclass
class Picture:
    """One finished picture: the image, what was asked, what the guides report, what it took.

    `seconds` is the picture's share of its batch. `attention` is `Float[steps h w tokens]` on the
    CPU when it was asked for.
    """

    image: Image.Image
    request: Request
    report: dict[str, Any]
    seconds: float
    attention: Tensor | None = None


OnStep = Callable[[Progress], None]


SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "pndm": "PNDMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "heun": "HeunDiscreteScheduler",
}
"""Samplers by the names that users know."""

PIXELS = 8
"""Sides of pictures are multiples of this: what diffusers' pipelines ask for at the least."""


class Studio:
    """One loaded model that makes pictures from requests.

    Args:
        model: `toybox`, a folder, or a hub id.
        device: for example `cuda`; the best there is if left out.
        dtype: `float32`, `bfloat16` or `float16`; half precision on CUDA if left out.
        attention_backend: a diffusers attention backend for the unguided passes.
        memory: what the guided passes may cost.

    Raises:
        ModelError: the model cannot be loaded, or is of no known family.
    """

    def __init__(
        self,
        model: str = "toybox",
        device: str | None = None,
        dtype: str | None = None,
        attention_backend: str | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.model = model
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.memory = memory or Memory()
        self.pipe = load(model, self.device, dtype)
        if attention_backend:
            set_backend(self.pipe, attention_backend)
        self.pipe.set_progress_bar_config(disable=True)
        self._schedulers: dict[str | None, Any] = {None: self.pipe.scheduler}

    @property
    def is_toybox(self) -> bool:
        return self.model in TOYBOXES

    @property
    def steps(self) -> int:
        """Steps of a request that does not say."""
        from adhere.pipelines.toybox.model.folder import DEFAULTS

        return DEFAULTS[type(self.pipe).__name__].steps if self.is_toybox else 50

    @property
    def guidance_scale(self) -> float | None:
        """Guidance scale of a request that does not say; None is the pipeline's own."""
        from adhere.pipelines.toybox.model.folder import DEFAULTS

        return DEFAULTS[type(self.pipe).__name__].guidance_scale if self.is_toybox else None

    def generate(
        self,
        requests: Sequence[Request],
        *,
        on_step: OnStep | None = None,
        record_attention: bool = False,
    ) -> list[Picture]:
        """Make the pictures, in the order of the requests.

        Requests that differ only in prompt, seed, subjects and layout go through the model as one
        batch; what else is in a batch moves a picture by the last bits of its arithmetic at most
        (one step of 255 in a pixel). An exception raised by `on_step` stops the model at once.
        """
        for request in requests:
            _check_size(request)
        made: dict[int, Picture] = {}
        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault(_alike(request), []).append(place)
        for places in groups.values():
            batch = [requests[place] for place in places]
            pictures = self._batch(batch, on_step, record_attention)
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

    def words(self, prompt: str) -> list[tuple[str, tuple[int, ...]]]:
        """The prompt's words with their columns in the first encoder's attention maps."""
        tokenizer = self.pipe.tokenizer
        asked = Prompt(prompt)
        length = tokenizer.model_max_length
        tokens = tokenise(
            tokenizer,
            asked.plain,
            encoder="text",
            length=length,
            width=length,
            drop_padding=False,
        )
        spans = [Span(m.start(), m.end(), m.group()) for m in re.finditer(r"[\w'-]+", asked.plain)]
        known = [span for span in spans if tokens.cut is None or span.end <= tokens.cut]
        return [(span.text, columns_of(span, [tokens]).columns[0]) for span in known]

    def _batch(self, batch: list[Request], on_step: OnStep | None, record: bool) -> list[Picture]:
        first = batch[0]
        self._use_scheduler(first.scheduler)
        steps = first.steps or self.steps
        prompts = [Prompt(request.prompt) for request in batch]
        arguments: dict[str, Any] = {
            "prompt": [prompt.plain for prompt in prompts],
            "negative_prompt": [request.negative_prompt for request in batch],
            "num_inference_steps": steps,
            "generator": [torch.Generator("cpu").manual_seed(request.seed) for request in batch],
            "guidance_scale": self.guidance_scale
            if first.guidance_scale is None
            else first.guidance_scale,
            "width": first.width,
            "height": first.height,
        }
        if not any(request.negative_prompt for request in batch):
            del arguments["negative_prompt"]
        if on_step is not None:
            arguments["callback_on_step_end"] = _callback(on_step, steps)
        arguments = {name: value for name, value in arguments.items() if value is not None}
        started = time.perf_counter()
        guidance = Guidance(*first.plugins, memory=self.memory)
        with guidance.attach(
            self.pipe,
            prompt=[request.prompt for request in batch],
            subjects=[request.subjects for request in batch],
            layout=[request.layout for request in batch],
            record=record,
        ) as attached:
            images = self.pipe(**arguments).images
        seconds = (time.perf_counter() - started) / len(batch)
        attention = attached.attention
        return [
            Picture(
                image=image,
                request=request,
                report=attached.report.for_image(k),
                seconds=seconds,
                attention=None if attention is None else attention[k],
            )
            for k, (image, request) in enumerate(zip(images, batch, strict=True))
        ]

    def _use_scheduler(self, name: str | None) -> None:
        check_scheduler(name)
        if name not in self._schedulers:
            import diffusers

            kind = getattr(diffusers, SCHEDULERS[str(name)])
            self._schedulers[name] = kind.from_config(self._schedulers[None].config)
        self.pipe.scheduler = self._schedulers[name]


def check_scheduler(name: str | None) -> None:
    """Raise `ParameterError` for a sampler that is not in the list above."""
    if name is not None and name not in SCHEDULERS:
        raise ParameterError(f"no scheduler is called {name!r}; there are: {', '.join(SCHEDULERS)}")


def _check_size(request: Request) -> None:
    for name, side in (("width", request.width), ("height", request.height)):
        if side is not None and (side < PIXELS or side % PIXELS):
            down = max(PIXELS, side - side % PIXELS)
            raise ParameterError(
                f"{name}={side} is not a multiple of {PIXELS} pixels; use {down} or {down + PIXELS}"
            )


def _precision(dtype: str | None, device: str) -> torch.dtype:
    name = dtype or ("float16" if device.startswith("cuda") else "float32")
    if name not in ("float32", "float16", "bfloat16"):
        raise ParameterError(f"dtype={name!r} is not one of float32, float16, bfloat16")
    made: torch.dtype = getattr(torch, name)
    return made


def _check_device(device: str) -> None:
    """Raise `ModelError` before gigabytes are read for a device that is not there."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(
            f"device {device!r} cannot be used: {_first_line(error)}; give cpu, cuda or mps, as "
            "this machine has them, or leave it out"
        ) from error


def load(model: str, device: str, dtype: str | None) -> Any:
    """A pipeline from the bundled toybox, a folder or the hub; safetensors only.

    Raises:
        ModelError: there is no such model, its weights are pickled, or there is no such device.
        ParameterError: another precision than float32, float16 or bfloat16.
    """
    precision = _precision(dtype, device)
    _check_device(device)
    if model in TOYBOXES:
        from adhere.pipelines.toybox import load_toybox

        # It is small: single precision on every device, unless somebody asks.
        return load_toybox(precision if dtype else torch.float32, name=model).to(device)
    from diffusers import DiffusionPipeline

    path = Path(model)
    looks_local = path.exists() or model.startswith((".", "/", "~")) or model.count("/") > 1
    if looks_local and not (path / "model_index.json").is_file():
        raise ModelError(
            f"{model!r} is not a diffusers model folder (it has no model_index.json); give a "
            "folder saved with save_pretrained, a hub id such as owner/name, or 'toybox'"
        )
    try:
        absent = saved.left_out(path) if looks_local else {}
        pipe = DiffusionPipeline.from_pretrained(
            model, torch_dtype=precision, use_safetensors=True, **absent
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{model!r} could not be loaded: {_first_line(error)} (weights must be safetensors; "
            "pickled .bin and .ckpt files are refused because loading them runs code)"
        ) from error
    return pipe.to(device)


def set_backend(pipe: Any, backend: str) -> None:
    """Choose the attention kernel of the unguided passes."""
    model = getattr(pipe, "unet", None) or pipe.transformer
    try:
        if backend == "xformers" and hasattr(pipe, "enable_xformers_memory_efficient_attention"):
            pipe.enable_xformers_memory_efficient_attention()
        else:
            model.set_attention_backend(backend)
    except (ValueError, ImportError, ModuleNotFoundError, RuntimeError) as error:
        raise ModelError(f"attention backend {backend!r}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _alike(request: Request) -> tuple[Any, ...]:
    """What must be the same within one batch."""
    return (
        request.plugins,
        request.steps,
        request.guidance_scale,
        request.width,
        request.height,
        request.scheduler,
        bool(request.negative_prompt),
    )


def _callback(on_step: OnStep, count: int) -> Callable[..., dict[str, Any]]:
    def call(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        on_step(Progress(index, count, tensors["latents"]))
        return tensors

    return call

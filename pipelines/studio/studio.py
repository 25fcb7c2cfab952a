"""Where command line, app and evaluation make their pictures: one model, many requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from adhere.guides.guide import Plugin
from adhere.guides.run import Prompt
from adhere.pipelines.engine.guidance import Attached, Guidance
from adhere.pipelines.engine.memory import Memory
from adhere.pipelines.folders.decoders import decoder
from adhere.pipelines.folders.ip_adapters import IPAdapter, shown
from adhere.pipelines.hooks import decoding
from adhere.pipelines.search.foreseeing import Foreseeing
from adhere.pipelines.studio import samplers
from adhere.pipelines.studio.calling import Calling
from adhere.pipelines.studio.choosing import Choosing
from adhere.pipelines.studio.loading import Lora, about, best_device, load, set_backend
from adhere.pipelines.studio.request import Interrupt, OnStep, Picture, Request
from adhere.pipelines.toybox import TOYBOXES


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
        together: candidates of a search that are made at once, at the most.
        previews: an autoencoder that decodes what methods look at on the way, such as
            `madebyollin/taesd`; the model's own if left out.
        adapter: an IP-Adapter, which shows its pictures in every call.

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
        together: int = 4,
        previews: str | None = None,
        adapter: IPAdapter | None = None,
    ) -> None:
        self.model, self.together = model, max(1, together)
        self.device = device or best_device()
        self.memory = memory or Memory()
        pictures = shown(adapter) if adapter else []
        self.pipe = load(
            model, self.device, dtype,
            variant=variant, revision=revision, offload=offload, loras=loras,
            adapter=adapter,
        )  # fmt: skip
        self.previews = decoder(previews, self.pipe) if previews else None
        if attention_backend:
            set_backend(self.pipe, attention_backend)
        self.pipe.set_progress_bar_config(disable=True)
        self._schedulers: dict[str | None, Any] = {None: self.pipe.scheduler}
        self._calling = Calling(self.pipe, self.is_toybox, pictures)
        self.about = about(self.pipe, model, variant, revision, loras)
        self.about |= {"previews": previews} if previews else {}
        self.about |= {"ip_adapter": adapter.to_json()} if adapter else {}

    @property
    def is_toybox(self) -> bool:
        return self.model in TOYBOXES

    @property
    def steps(self) -> int:
        """Steps of a request that does not say: the toybox's, or the pipeline call's default."""
        return self._calling.steps

    @property
    def guidance_scale(self) -> float | None:
        """Guidance scale of a request that does not say; None where the model has none."""
        return self._calling.guidance_scale

    def check(self, request: Request) -> None:
        """Raise `ParameterError` for what this model's pipeline would refuse or pass over."""
        self._calling.check(request)

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
            if batch[0].search or batch[0].auto:
                choosing = Choosing(self, on_step, interrupt, record_attention)
                pictures = [choosing.chosen(request) for request in batch]
            else:
                pictures = self.batch(batch, on_step, interrupt, record_attention)
            made.update(zip(places, pictures, strict=True))
        return [made[place] for place in range(len(requests))]

    def preview(self, latents: Tensor) -> list[Image.Image]:
        """Small quick pictures of unfinished latents, decoded at a quarter of the size if large."""
        with torch.inference_mode():
            if min(latents.shape[-2:]) > 32:
                latents = torch.nn.functional.interpolate(
                    latents.float(), scale_factor=0.25, mode="area"
                )
            return decoding.pictures(self.pipe, latents)

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

    def batch(
        self,
        batch: list[Request],
        on_step: OnStep | None,
        interrupt: Interrupt | None,
        record: bool,
        look: Foreseeing | None = None,
    ) -> list[Picture]:
        """The pictures of requests that go through the model together; none where a `look` on the
        way ended them.
        """
        started = time.perf_counter()
        called = self._looked_at(batch, on_step, interrupt, record, look)
        if called is None:
            return []
        images, attached, arguments = called
        seconds = (time.perf_counter() - started) / len(batch)
        recorded = attached.recorded
        made = {**self.about, **self._calling.chosen(arguments)}
        pictures = [
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
        for picture in pictures:
            if picture.doubt:
                picture.report["notes"].append(picture.doubt)
        return pictures

    def _looked_at(
        self,
        batch: list[Request],
        on_step: OnStep | None,
        interrupt: Interrupt | None,
        record: bool,
        look: Foreseeing | None,
    ) -> tuple[list[Image.Image], Attached, dict[str, Any]] | None:
        plugins = batch[0].plugins
        if look is None:
            return self.called(batch, plugins, on_step, interrupt, record)
        plugins, heeded = (*plugins, look), look.or_else(interrupt)
        return look.through(lambda: self.called(batch, plugins, on_step, heeded, record))

    def called(
        self,
        batch: list[Request],
        plugins: Sequence[Plugin],
        on_step: OnStep | None,
        interrupt: Interrupt | None,
        record: bool = False,
    ) -> tuple[list[Image.Image], Attached, dict[str, Any]]:
        """One call of the pipeline: its pictures, what the guidance leaves, its arguments."""
        self._use_scheduler(batch[0].scheduler)
        arguments = self._calling.arguments(batch, on_step)
        with Guidance(*plugins, memory=self.memory).attach(
            self.pipe,
            prompt=[request.prompt for request in batch],
            subjects=[request.subjects for request in batch],
            layout=[request.layout for request in batch],
            record=record,
            interrupt=interrupt,
            previews=self.previews,
        ) as attached:
            return self.pipe(**arguments).images, attached, arguments

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
        request.search,
        request.auto,
        bool(request.negative_prompt),
    )

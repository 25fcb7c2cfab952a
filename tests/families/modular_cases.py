"""Modular pipelines of every family that has them, beside the classic one of the same parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.modular_pipelines import (
    Flux2KleinBaseAutoBlocks,
    FluxAutoBlocks,
    QwenImageAutoBlocks,
    StableDiffusion3AutoBlocks,
    StableDiffusionXLAutoBlocks,
    ZImageAutoBlocks,
)
from torch import Tensor

from adhere import Guidance
from adhere.pipelines.modular.blocks import guided_blocks
from tests import tiny
from tests.families import pipes

PROMPT = "a red cat and a blue car"
SCALE = 4.0


def same(pipe: Any, latents: Tensor) -> Tensor:
    return latents


def unpacked(pipe: Any, latents: Tensor) -> Tensor:
    """Packed latents of the classic pipeline as the modular one gives them."""
    given = {**SMALL, "vae_scale_factor": pipe.vae_scale_factor}
    found: Tensor = pipe._unpack_latents(latents, **given)
    return found


def normalised(pipe: Any, latents: Tensor) -> Tensor:
    """FLUX.2's latents before the VAE's scale is put back, 2x2 cells to a place."""
    found: Tensor = pipe._patchify_latents(latents)
    norm = pipe.vae.bn
    return torch.nn.functional.batch_norm(found, norm.running_mean, norm.running_var, eps=norm.eps)


SMALL = {"height": 32, "width": 24}


@dataclass(frozen=True)
class ModularCase:
    """One family, in double precision: that two loops make the same picture is an exact promise,
    and in single precision Safe Latent Diffusion multiplies their rounding by its scale of 5000.

    Attributes:
        call: of both pipelines.
        joined: of the classic one only, what the guider is to the other.
        as_modular: the classic pipeline's latents in the other's form.
        negative: what a call that is guided is given.
    """

    name: str
    blocks: Callable[[], Any]
    classic: Callable[[], Any]
    joined: dict[str, Any]
    call: dict[str, Any] = field(default_factory=dict)
    as_modular: Callable[[Any, Tensor], Tensor] = same
    negative: dict[str, Any] = field(default_factory=lambda: {"negative_prompt": "a bird"})

    @property
    def guides(self) -> bool:
        """Whether its loop asks a guider."""
        return bool(self.joined)

    def pipe(self, guidance: Guidance | None = None, guider: Any = None, **annotations: Any) -> Any:
        """A modular pipeline of the classic one's parts, without the decoder."""
        blocks = self.blocks()
        blocks = guided_blocks(blocks, guidance, **annotations) if guidance else blocks
        blocks.sub_blocks.pop("decode")
        pipe = blocks.init_pipeline()
        parts = {k: v for k, v in self.classic().components.items() if k in pipe.component_names}
        if self.guides:
            parts["guider"] = guider or ClassifierFreeGuidance(guidance_scale=SCALE)
        pipe.update_components(**parts)
        pipe.set_progress_bar_config(disable=True)
        pipe.to(torch.float64)
        return pipe

    def options(self, steps: int) -> dict[str, Any]:
        negative = self.negative if self.guides else {}
        return {"num_inference_steps": steps, **SMALL, **self.call, **negative}

    def modular(self, pipe: Any, prompt: Any = PROMPT, steps: int = 2, **more: Any) -> Tensor:
        call = {**self.options(steps), **more}
        found: Tensor = pipe(
            prompt=prompt, generator=tiny.generators(0)[0], output="latents", **call
        )
        return found

    def unpacked(self, found: Tensor) -> Tensor:
        """A modular loop's latents as the newer diffusers give them: 0.40 leaves FLUX's packed."""
        packed = self.as_modular is unpacked and found.ndim == 3
        return unpacked(self.classic(), found) if packed else found

    def expected(self, *plugins: Any, steps: int = 2, **more: Any) -> Tensor:
        """What the classic pipeline makes with the plugins."""
        pipe = self.classic().to(torch.float64)
        call = {**self.options(steps), **self.joined, **more}
        with Guidance(*plugins).attach(pipe):
            found = pipe(
                prompt=PROMPT, generator=tiny.generators(0)[0], output_type="latent", **call
            ).images
        return self.as_modular(pipe, found)


CASES = {
    case.name: case
    for case in (
        ModularCase(
            "sdxl",
            StableDiffusionXLAutoBlocks,
            tiny.sdxl,
            {"guidance_scale": SCALE},
            {"height": 64, "width": 48},
        ),
        ModularCase(
            "sd3",
            StableDiffusion3AutoBlocks,
            pipes.sd3,
            {"guidance_scale": SCALE},
            {"max_sequence_length": 20},
        ),
        ModularCase(
            "flux",
            FluxAutoBlocks,
            pipes.flux,
            {},
            {"max_sequence_length": 20},
            unpacked,
        ),
        ModularCase(
            "flux2",
            Flux2KleinBaseAutoBlocks,
            pipes.flux2,
            {"guidance_scale": SCALE},
            {"max_sequence_length": 20},
            normalised,
            negative={},
        ),
        ModularCase(
            "qwen-image",
            QwenImageAutoBlocks,
            lambda: pipes.quiet(pipes.QwenImagePipeline(**pipes.qwen_parts())),
            {"true_cfg_scale": SCALE},
            {},
            unpacked,
        ),
        # Where others say w, the classic pipeline says 1 + w.
        ModularCase(
            "z-image",
            ZImageAutoBlocks,
            pipes.z_image,
            {"guidance_scale": SCALE - 1},
            {"height": 32, "width": 48},
        ),
    )
}

__all__ = ["CASES", "PROMPT", "ModularCase"]

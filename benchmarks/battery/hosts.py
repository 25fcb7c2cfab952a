"""Published configurations with random weights: time and memory do not depend on the weights.

Text encoders and VAEs are tiny, and transformers read text as narrow as they give: their one
projection of it is nothing beside the blocks. Decoding is left out of what is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    FluxTransformer2DModel,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
)

from benchmarks import runs

SIDE = 64
"""Picture tokens a side of a transformer at its own size: 1024 px."""


@dataclass(frozen=True)
class Host:
    """A pipeline and the options of its call: `make` builds it, `options` are a call's."""

    make: Callable[[str, torch.dtype], Any]
    options: dict[str, Any]
    batches: tuple[int, ...] = (1, 4)


def _transformer(kind: Any, device: str, dtype: torch.dtype, **config: Any) -> Any:
    """A transformer made where it will be used, in the type it will have there: the largest do not
    fit a usual machine's memory in float32.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return kind(**config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)


def _sd3(device: str, dtype: torch.dtype) -> Any:
    from tests.families import pipes

    model = _transformer(
        SD3Transformer2DModel, device, dtype, sample_size=2 * SIDE, num_layers=24,
        num_attention_heads=24, caption_projection_dim=1536, joint_attention_dim=64,
        pooled_projection_dim=64, pos_embed_max_size=192,
    )  # fmt: skip
    return pipes.sd3(transformer=model, vae=pipes.vae(16))


def _flux(device: str, dtype: torch.dtype) -> Any:
    from tests.families import pipes

    model = _transformer(
        FluxTransformer2DModel, device, dtype, joint_attention_dim=32, pooled_projection_dim=32,
        guidance_embeds=True,
    )  # fmt: skip
    return pipes.flux(transformer=model, vae=pipes.vae(16))


def _qwen(device: str, dtype: torch.dtype) -> Any:
    from diffusers import AutoencoderKLQwenImage

    from tests.families import pipes

    model = _transformer(QwenImageTransformer2DModel, device, dtype, joint_attention_dim=32)
    vae = AutoencoderKLQwenImage(
        base_dim=8, z_dim=16, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[True],
        latents_mean=[0.0] * 16, latents_std=[1.0] * 16,
    ).eval()  # fmt: skip
    return pipes.qwen(transformer=model, vae=vae)


def _unet(name: str) -> Host:
    return Host(lambda device, dtype: runs.pipeline(name, device, dtype), {})


def _case(name: str) -> Host:
    """A family's small random pipeline, to try the battery with."""
    from tests.families.cases import CASES, PROMPTS

    case = CASES[name]
    options = {**case.options, **case.negative(PROMPTS[:1])}
    if "negative_prompt" in options:
        options["negative_prompt"] = options["negative_prompt"][0]
    return Host(lambda device, dtype: case.make().to(device), options, (1,))


_LARGE = {"height": 4 * SIDE, "width": 4 * SIDE}
"""The tiny VAEs halve the sides once, and two latents a side make a token."""


def hosts(toy: bool) -> dict[str, Host]:
    """By name; small ones in their place for a trial."""
    if toy:
        found = {"tiny": _unet("tiny"), "tiny-sdxl": _unet("tiny-sdxl")}
        return found | {f"tiny-{name}": _case(name) for name in ("sd3", "flux", "qwen-image")}
    cfg = {"true_cfg_scale": 4.0, "negative_prompt": "blurry"}
    return {
        "sd15": _unet("sd15"),
        "sdxl": _unet("sdxl"),
        "sd3": Host(_sd3, {**_LARGE, "guidance_scale": 5.0}),
        "flux": Host(_flux, {**_LARGE, **cfg}, (1,)),
        "qwen-image": Host(_qwen, {**_LARGE, **cfg}, (1,)),
    }

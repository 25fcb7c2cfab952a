"""The models that are measured: published configurations with random weights, and the toybox."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel

from adhere.pipelines.families.unet import StableDiffusion1, StableDiffusion2, StableDiffusionXL

SD15: dict[str, Any] = {
    "sample_size": 64,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
"""unet/config.json of stable-diffusion-v1-5."""

UNETS: dict[str, dict[str, Any]] = {
    "sd15": SD15,
    "sd21-768": {
        **SD15,
        "sample_size": 96,
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
    "sdxl": {
        "sample_size": 128,
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "block_out_channels": (320, 640, 1280),
        "layers_per_block": 2,
        "transformer_layers_per_block": (1, 2, 10),
        "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
        "up_block_types": ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    "medium": {
        **SD15,
        "sample_size": 32,
        "block_out_channels": (64, 128, 256, 256),
        "cross_attention_dim": 256,
        "layers_per_block": 1,
    },
}
"""`medium` is laid out like SD 1.5 at a size that a CPU can run."""

FAMILIES = {"sd21-768": StableDiffusion2, "sdxl": StableDiffusionXL}


def unet(name: str) -> Any:
    return UNet2DConditionModel(**UNETS[name]).eval()


def call(name: str) -> dict[str, Any]:
    """One row of a denoiser call at the model's own size."""
    config = UNETS[name]
    size = config["sample_size"]
    given: dict[str, Any] = {
        "sample": torch.randn(1, 4, size, size),
        "timestep": torch.tensor(500),
        "encoder_hidden_states": torch.randn(1, 77, config["cross_attention_dim"]),
    }
    if "addition_embed_type" in config:
        pooled = config["projection_class_embeddings_input_dim"] - 6 * 256
        given["added_cond_kwargs"] = {
            "text_embeds": torch.randn(1, pooled),
            "time_ids": torch.randn(1, 6),
        }
    return given


class _OnlyUNet:
    def __init__(self, denoiser: Any) -> None:
        self.unet = denoiser


def family(name: str, denoiser: Any) -> Any:
    return FAMILIES.get(name, StableDiffusion1)(_OnlyUNet(denoiser))

"""The toybox's second denoiser: a small Stable Diffusion 3 on the same latents and the same text.

    x_s = (1 - s) x_0 + s eps,   L = |eps - x_0 - v_theta(x_s, s, text)|^2     (rectified flow,
    Esser et al. 2024, arXiv:2403.03206, sec. 2 and 3.1), with s drawn logit-normally around 0.6.

The pipeline reads its encoders' last layer but one. The first encoder therefore is the toybox's
CLIP text model with a layer added that does nothing, so that its whole depth is read; the second
is the same model as it is, read one layer earlier, nearer to the single words.

There is no T5. The pipeline puts 256 empty columns in its place, and they stay alike in every
layer, since text has no positions here: for attention, 256 equal columns are one whose logit is
larger by log 256. So training sees one such column instead, exactly and at a third of the cost.

As for the UNet, captions are empty in a tenth of the samples, and in half of the others the end
and padding columns are hidden and the pooled text is nothing: words must carry the meaning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from torch import Tensor
from transformers import CLIPModel, CLIPTextConfig, CLIPTextModelWithProjection

from adhere.pipelines.toybox.model.clip import WIDTH, text_encoder_of
from adhere.pipelines.toybox.model.unet import GRID
from adhere.pipelines.toybox.model.vae import CHANNELS

EMPTY_T5 = 256
"""`max_sequence_length` of a plain call of diffusers' pipeline."""
TIMESTEPS = 1000
TRANSFORMER_CONFIG: dict[str, Any] = {
    "sample_size": GRID,
    "patch_size": 2,
    "in_channels": CHANNELS,
    "out_channels": CHANNELS,
    "num_layers": 6,
    "attention_head_dim": 32,
    "num_attention_heads": 6,
    "joint_attention_dim": 2 * WIDTH,
    "caption_projection_dim": 192,
    "pooled_projection_dim": 2 * WIDTH,
    "pos_embed_max_size": 16,
    "qk_norm": "rms_norm",
}


def build_transformer(**changes: Any) -> SD3Transformer2DModel:
    """An untrained Stable Diffusion 3.5 transformer of 64 picture tokens."""
    return SD3Transformer2DModel(**{**TRANSFORMER_CONFIG, **changes})


def build_flow_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Euler's method along the flow."""
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=TIMESTEPS, shift=1.0)


def orthogonal(name: str) -> bool:
    """Whether Muon trains a parameter: the blocks' own matrices, not those that modulate them."""
    return name.startswith("transformer_blocks") and name.endswith("weight") and "norm" not in name


def text_encoders(clip: CLIPModel) -> tuple[CLIPTextModelWithProjection, ...]:
    """The pipeline's two encoders: the text model with a layer that does nothing, and as it is."""
    plain = text_encoder_of(clip, CLIPTextModelWithProjection)
    depth = plain.config.num_hidden_layers
    config = CLIPTextConfig(**{**plain.config.to_dict(), "num_hidden_layers": depth + 1})
    deeper = CLIPTextModelWithProjection(config)
    added = {k: v for k, v in deeper.state_dict().items() if f".layers.{depth}." in k}
    idle = {k: torch.zeros_like(v) for k, v in added.items()}  # what is added to the stream is 0
    deeper.load_state_dict({**plain.state_dict(), **idle})
    return tuple(each.eval().requires_grad_(False) for each in (deeper, plain))


@torch.no_grad()
def embed(encoders: Sequence[CLIPTextModelWithProjection], ids: Tensor) -> tuple[Tensor, Tensor]:
    """What the pipeline conditions on: text columns `(n, 33, 256)`, of which the last stands for
    the empty T5, and the pooled text `(n, 256)`.
    """
    found = [encoder(ids, output_hidden_states=True) for encoder in encoders]
    states = torch.cat([each.hidden_states[-2] for each in found], -1)
    empty = torch.zeros_like(states[:, :1])
    return torch.cat([states, empty], 1), torch.cat([each.text_embeds for each in found], -1)


def column_bias(mask: Tensor) -> Tensor:
    """What is added to the logits of `[picture, text]` columns, `(n, 1, 1, 64 + tokens + 1)`:
    nothing to seen columns, -inf to those that `mask` `(n, tokens)` hides, log 256 to the last.
    """
    count = len(mask)
    seen = mask.new_zeros(count, (GRID // TRANSFORMER_CONFIG["patch_size"]) ** 2)
    hidden = torch.where(mask > 0, 0.0, -math.inf)
    last = mask.new_full((count, 1), math.log(EMPTY_T5))
    return torch.cat([seen, hidden, last], 1)[:, None, None]


def spread_sigmas(count: int, generator: torch.Generator) -> Tensor:
    """`count` noise levels, one from each of as many equally likely parts of a logit-normal
    distribution of median 0.6.
    """
    parts = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    sigmas: Tensor = (torch.special.ndtri(parts.clamp(1e-4, 1 - 1e-4)) + 0.4).sigmoid()
    return sigmas


def flowed(latents: Tensor, noise: Tensor, sigmas: Tensor) -> Tensor:
    """(1 - s) x + s eps, with s per sample."""
    sigmas = sigmas[:, None, None, None]
    return (1 - sigmas) * latents + sigmas * noise

"""From latents to pictures, as each kind of autoencoder wants them.

    AutoencoderKL, DC, Tiny      z / scaling_factor + shift_factor
    with channel statistics      z std / scaling_factor + mean      (Qwen-Image, Playground)
    FLUX.2's                     batch norm undone on 2x2 cells a token

Published autoencoders that overflow in half precision say so (`force_upcast`) and decode in single.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from adhere.errors import ModelError


@torch.no_grad()
def pictures(
    pipe: Any, latents: Float[Tensor, "batch channels h w"], vae: Any = None
) -> list[Image.Image]:
    """The pictures that latents of a pipeline stand for.

    Args:
        vae: what to decode with, for example an `AutoencoderTiny`; the pipeline's own if left out.
    """
    vae = vae or pipe.vae
    with _exact(vae):
        given = _unscaled(vae, latents.to(vae.device)).to(vae.dtype)
        frames = hasattr(vae, "temperal_downsample")  # decodes films, of which a picture is one
        decoded = vae.decode(given[:, :, None] if frames else given, return_dict=False)[0]
        decoded = decoded[:, :, 0] if frames else decoded
    found: list[Image.Image] = pipe.image_processor.postprocess(decoded.float(), "pil")
    return found


def checked(pipe: Any, vae: Any) -> Any:
    """A decoder for previews of a pipeline's latents, if it is one.

    Raises:
        ModelError: it decodes nothing, or latents of another kind.
    """
    if vae is None:
        return None
    if not hasattr(vae, "decode") or not hasattr(vae, "config"):
        raise ModelError(
            f"previews={type(vae).__name__} decodes nothing; give an autoencoder of diffusers, as "
            'in AutoencoderTiny.from_pretrained("madebyollin/taesd")'
        )
    own, given = (one.config.get("latent_channels") for one in (pipe.vae, vae))
    if own is not None and given is not None and own != given:
        raise ModelError(
            f"previews={type(vae).__name__} decodes latents of {given} channels, and the "
            f"pipeline's have {own}; use the small decoder that was made for this model"
        )
    return vae


def _unscaled(vae: Any, latents: Tensor) -> Tensor:
    """Latents as the autoencoder has them."""
    if hasattr(vae, "bn"):
        norm = vae.bn
        std = (norm.running_var + vae.config.batch_norm_eps).sqrt()
        cells = pixel_unshuffle(latents, 2)
        cells = cells * _channels(std, cells) + _channels(norm.running_mean, cells)
        return pixel_shuffle(cells, 2)
    config = vae.config
    scale = float(config.get("scaling_factor") or 1.0)
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and std is not None:
        return latents * _channels(std, latents) / scale + _channels(mean, latents)
    return latents / scale + float(config.get("shift_factor") or 0.0)


def _channels(values: Any, like: Tensor) -> Tensor:
    return torch.as_tensor(values, device=like.device, dtype=like.dtype).view(1, -1, 1, 1)


@contextmanager
def _exact(vae: Any) -> Iterator[None]:
    """In single precision where half would overflow."""
    if not (vae.config.get("force_upcast") and vae.dtype == torch.float16):
        yield
        return
    vae.to(torch.float32)
    try:
        yield
    finally:
        vae.to(torch.float16)

"""Attention maps as pictures."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from adhere.pipelines.studio.drawing.sheet import sheet
from adhere.pipelines.studio.request import Picture

# Five stops of a perceptually even ramp from dark blue over green to yellow.
_RAMP = np.array(
    [[43, 24, 82], [50, 90, 140], [32, 145, 140], [120, 205, 90], [253, 231, 60]], float
)


def heat(attention: Float[Tensor, "h w"], size: tuple[int, int]) -> Image.Image:
    """One map, stretched to its own range, `size` (width, height) pixels."""
    values = attention.float().cpu().numpy()
    spread = float(values.max() - values.min())
    values = (values - values.min()) / spread if spread > 0 else np.zeros_like(values)
    place = values * (len(_RAMP) - 1)
    low = np.clip(place.astype(int), 0, len(_RAMP) - 2)
    weight = (place - low)[..., None]
    colours = _RAMP[low] * (1 - weight) + _RAMP[low + 1] * weight
    image = Image.fromarray(colours.astype(np.uint8))
    return image.resize(size, Image.Resampling.NEAREST)


def overlay(
    image: Image.Image, attention: Float[Tensor, "h w"], strength: float = 0.6
) -> Image.Image:
    """A map laid over a picture."""
    return Image.blend(image.convert("RGB"), heat(attention, image.size), strength)


def heat_strip(picture: Picture) -> Image.Image:
    """The picture, and for each word of its prompt the attention in the first half of the steps.

    Args:
        picture: with recorded attention.
    """
    recorded = picture.attention
    assert recorded is not None
    early = max(1, len(recorded.attention) // 2)
    maps = [
        overlay(picture.image, recorded.of(span)[:early].mean(dim=0)) for span in recorded.spans
    ]
    return sheet([[picture.image, *maps]], ["picture", *recorded.words])

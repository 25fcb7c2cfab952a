"""Numbers that say what a picture looks like, whatever it shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

RGB = Float[Tensor, "3 h w"]
"""Red, green and blue from 0 to 1."""


def luma(picture: RGB) -> Float[Tensor, "h w"]:
    """How bright each pixel looks (ITU-R BT.601)."""
    return torch.einsum("c,chw->hw", torch.tensor([0.299, 0.587, 0.114]).to(picture), picture)


def brightness(picture: RGB) -> float:
    """The mean of the luma, from 0 to 1."""
    return float(luma(picture).mean())


def saturation(picture: RGB) -> float:
    """The mean saturation of HSV, from 0 to 1; black has none."""
    high, low = picture.amax(dim=0), picture.amin(dim=0)
    return float(((high - low) / high.clamp_min(1e-6)).mean())


def colourfulness(picture: RGB) -> float:
    """Hasler and Süsstrunk 2003, of values from 0 to 1: spread and distance from grey."""
    red, green, blue = picture
    one, other = red - green, (red + green) / 2 - blue
    spread = (one.var(correction=0) + other.var(correction=0)).sqrt()
    return float(spread + 0.3 * (one.mean() ** 2 + other.mean() ** 2).sqrt())


def warmth(picture: RGB) -> float:
    """How much more red there is than blue, from -1 to 1."""
    return float((picture[0] - picture[2]).mean())


def sharpness(picture: RGB) -> float:
    """The variance of the Laplacian of the luma."""
    grey = luma(picture)
    inner = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * inner).var(correction=0))


STATISTICS: dict[str, Callable[[RGB], float]] = {
    "brightness": brightness,
    "saturation": saturation,
    "colourfulness": colourfulness,
    "warmth": warmth,
    "sharpness": sharpness,
}


def statistics(images: list[Image.Image]) -> Float[Tensor, "n statistics"]:
    """All of them, a row a picture."""
    return torch.tensor([[say(rgb(image)) for say in STATISTICS.values()] for image in images])


def rgb(image: Image.Image) -> RGB:
    """A picture's values."""
    array = np.asarray(image.convert("RGB"), dtype=np.float32)
    return torch.from_numpy(array).permute(2, 0, 1) / 255

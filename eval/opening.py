"""Opening pictures that others made: as they are shown, in eight bits a colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What opening a damaged picture, or one too large to be opened safely, raises."""


def shown(path: Path) -> Image.Image:
    """A picture as RGB, turned as its EXIF data say.

    Raises:
        OSError, SyntaxError, ValueError: it cannot be read.
        DecompressionBombError: it has more pixels than Pillow opens.
    """
    with Image.open(path) as file:
        return eight_bits(ImageOps.exif_transpose(file)).convert("RGB")


def eight_bits(image: Image.Image) -> Image.Image:
    """A picture of 16-bit greys by their high bytes, as Pillow reads 16-bit colours.

    Pillow's own conversion of greys clips instead: all above 255 would be white.
    """
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))

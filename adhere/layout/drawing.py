"""The picture of a layout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy import ndarray
from PIL import Image, ImageColor, ImageDraw, ImageFont

__all__ = ["draw"]

# Tableau's ten: distinct beside one another and for most colour-blind eyes.
_PALETTE = (
    *("4e79a7", "f28e2b", "59a14f", "e15759", "b07aa1"),
    *("76b7b2", "edc948", "ff9da7", "9c755f", "bab0ac"),
)


def draw(phrases: Sequence[str], covers: ndarray) -> Image.Image:
    """Regions in colour on grey, later ones in front, each with its phrase."""
    height, width = covers.shape[1:]
    canvas = np.full((height, width, 3), 236.0)
    colours = [_colour(phrase, i) for i, phrase in enumerate(phrases)]
    for colour, cover in zip(colours, covers, strict=True):
        canvas += (np.asarray(colour) - canvas) * (0.85 * cover[..., None])
    picture = Image.fromarray(canvas.round().astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=max(9, min(height, width) // 24))
    for phrase, cover in zip(phrases, covers, strict=True):
        rows, columns = np.nonzero(cover > 0.5)
        if rows.size:
            centre = (float(columns.mean()), float(rows.mean()))
            pen.text(
                centre,
                phrase,
                fill="black",
                font=font,
                anchor="mm",
                stroke_width=2,
                stroke_fill="white",
            )
    return picture


def _colour(phrase: str, number: int) -> tuple[int, ...]:
    """The colour that a phrase names, else one of the palette."""
    for word in phrase.lower().split():
        if word in ImageColor.colormap:
            return ImageColor.getrgb(word)[:3]
    return ImageColor.getrgb("#" + _PALETTE[number % len(_PALETTE)])[:3]

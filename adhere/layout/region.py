"""A region: a phrase of the prompt, and a box, a polygon or a mask where it belongs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from PIL import Image

from adhere.errors import LayoutError
from adhere.layout.files import painted
from adhere.layout.masks import Mask, box_cover, polygon_cover, resize_cover

__all__ = ["FINE", "Box", "Region"]

Box = tuple[float, float, float, float]

FINE = 512
"""Cells along each side of the grid on which polygons are drawn."""
MOST_POINTS = 1024


@dataclass(frozen=True)
class Region:
    """A phrase of the prompt and its place: exactly one of `box`, `polygon` and `mask`.

    `box` is (left, top, right, bottom), `polygon` at least three (x, y) corners, both in shares of
    the width and height.
    """

    phrase: str
    box: Box | None = None
    polygon: tuple[tuple[float, float], ...] | None = None
    mask: Mask | None = None

    def __post_init__(self) -> None:
        """Makes tuples of lists, and refuses what is no region."""
        if not isinstance(self.phrase, str) or not self.phrase.strip():
            raise LayoutError(f"a region has the phrase {self.phrase!r}; give words of the prompt")
        given = [n for n in ("box", "polygon", "mask") if getattr(self, n) is not None]
        if len(given) != 1:
            raise LayoutError(
                f"region {self.phrase!r} has {' and '.join(given) or 'no place'}; "
                "give exactly one of box, polygon and mask"
            )
        if self.box is not None:
            object.__setattr__(self, "box", _checked_box(self.phrase, self.box))
        if self.polygon is not None:
            object.__setattr__(self, "polygon", _checked_polygon(self.phrase, self.polygon))

    @classmethod
    def painted(cls, phrase: str, pixels: Any) -> Region:
        """A region from an array (what is above zero) or a picture (what is painted)."""
        found = painted(pixels) if isinstance(pixels, Image.Image) else np.asarray(pixels) > 0
        try:
            return cls(phrase, mask=Mask.of(found))
        except LayoutError as error:
            raise LayoutError(f"region {phrase!r}: {error}") from error

    def cover(self, grid: tuple[int, int]) -> Float[ndarray, "h w"]:
        """The share of every cell of an (h, w) grid that the region covers."""
        if self.box is not None:
            return box_cover(self.box, grid)
        return resize_cover(_fine(self), grid)

    def to_json(self) -> dict[str, Any]:
        """Plain data, without what is not given."""
        if self.box is not None:
            return {"phrase": self.phrase, "box": list(self.box)}
        if self.polygon is not None:
            return {"phrase": self.phrase, "polygon": [list(point) for point in self.polygon]}
        assert self.mask is not None  # one of the three, by construction
        return {"phrase": self.phrase, "mask": self.mask.to_json()}


def _numbers(phrase: str, what: str, values: Any, count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError) as error:
        raise LayoutError(f"the {what} of {phrase!r} is {values!r}; it must be numbers") from error
    if len(numbers) != count:
        raise LayoutError(
            f"the {what} of {phrase!r} has {len(numbers)} numbers; it must have {count}"
        )
    if not all(0 <= number <= 1 for number in numbers):  # also false for NaN
        raise LayoutError(
            f"the {what} of {phrase!r} is {numbers}, out of range; coordinates are shares "
            "from 0 to 1 (divide pixels by the picture's width and height)"
        )
    return numbers


def _checked_box(phrase: str, values: Any) -> Box:
    x0, y0, x1, y1 = _numbers(phrase, "box", values, 4)
    if x0 >= x1 or y0 >= y1:
        raise LayoutError(
            f"the box of {phrase!r} is {(x0, y0, x1, y1)}, which is empty; "
            "give (left, top, right, bottom) with left < right and top < bottom"
        )
    return x0, y0, x1, y1


def _checked_polygon(phrase: str, values: Any) -> tuple[tuple[float, float], ...]:
    if not isinstance(values, Sequence) or not 3 <= len(values) <= MOST_POINTS:
        raise LayoutError(
            f"the polygon of {phrase!r} must have 3 to {MOST_POINTS} corners [x, y], "
            f"not {str(values)[:60]}"
        )
    corners = [_numbers(phrase, "polygon", point, 2) for point in values]
    points = tuple((x, y) for x, y in corners)
    if not polygon_cover(points, (FINE, FINE)).any():
        raise LayoutError(
            f"the polygon of {phrase!r} covers nothing; give corners that span an area"
        )
    return points


@lru_cache(maxsize=32)
def _fine(region: Region) -> ndarray:
    """A region as a picture of its own resolution."""
    if region.mask is not None:
        return region.mask.pixels()
    if region.polygon is not None:
        return polygon_cover(region.polygon, (FINE, FINE))
    return region.cover((FINE, FINE))

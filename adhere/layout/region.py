"""A region: a phrase of the prompt, and a box, a polygon or a mask where it belongs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from PIL import Image

from adhere.errors import LayoutError
from adhere.layout.files import painted, weighed
from adhere.layout.masks import Mask, blur_weights, box_cover, polygon_cover, resize_cover
from adhere.prompt.phrases import TORN, torn

__all__ = ["FINE", "Box", "Region"]

Box = tuple[float, float, float, float]

FINE = 512
"""Cells along each side of the grid on which polygons are drawn."""
MOST_POINTS = 1024
LOUDEST = 100
"""The largest strength: beyond it the region is alone in any case, and sums could overflow."""
QUIETEST = 1e-6
"""The smallest strength but 0: half precision rounds such shares of an output to none."""


@dataclass(frozen=True)
class Region:
    """What belongs in a place, and the place: exactly one of `box`, `polygon` and `mask`.

    What belongs there is a phrase of the prompt, a text of the region's own, or both.

    Attributes:
        phrase: words of the prompt; empty where the region has only a text of its own.
        box: (left, top, right, bottom) in shares of the width and height.
        polygon: at least three (x, y) corners in such shares.
        mask: a picture of the place.
        text: a prompt for the region alone, for methods that give regions one; the phrase if empty.
        negative: what the region shall not show, for the same methods.
        strength: how loud the region's text is beside other regions' on the same ground.
        start, stop: the share of the steps in which its text is heard.
        feather: over what share of the picture's shorter side its edges fade.
        lora: the name of a LoRA adapter of the pipeline that the region alone hears.
    """

    phrase: str = ""
    box: Box | None = None
    polygon: tuple[tuple[float, float], ...] | None = None
    mask: Mask | None = None
    text: str = ""
    negative: str = ""
    strength: float = 1.0
    start: float = 0.0
    stop: float = 1.0
    feather: float = 0.0
    lora: str = ""

    def __post_init__(self) -> None:
        """Makes plain data of lists and numbers, and refuses what is no region."""
        self._check_words()
        given = [n for n in ("box", "polygon", "mask") if getattr(self, n) is not None]
        if len(given) != 1:
            raise LayoutError(
                f"region {self.label!r} has {' and '.join(given) or 'no place'}; "
                "give exactly one of box, polygon and mask"
            )
        if self.box is not None:
            object.__setattr__(self, "box", _checked_box(self.label, self.box))
        if self.polygon is not None:
            object.__setattr__(self, "polygon", _checked_polygon(self.label, self.polygon))
        if self.mask is not None and not isinstance(self.mask, Mask):
            raise LayoutError(
                f"region {self.label!r} has a mask of type {type(self.mask).__name__}; make it "
                "with Mask.of (true or false for each pixel) or Mask.weighed (weights from 0 to 1)"
            )

    def _check_words(self) -> None:
        for name in ("phrase", "text", "negative", "lora"):
            value = getattr(self, name)
            if not isinstance(value, str):
                raise LayoutError(f"a region's {name} is {value!r}; it must be text")
            if torn(value):
                raise LayoutError(f"a region's {name} is {value!a}, which {TORN}")
        if not self.label:
            raise LayoutError(
                f"a region has the phrase {self.phrase!r}; give words of the prompt, or a text of "
                'its own ("text")'
            )
        for name, high in (("strength", LOUDEST), ("start", 1), ("stop", 1), ("feather", 1)):
            value = getattr(self, name)
            number = isinstance(value, Real) and not isinstance(value, bool)
            if not number or not 0 <= value <= high:  # also true for NaN
                wanted = f"{'a number' if high > 1 else 'a share'} from 0 to {high}"
                raise LayoutError(f"the {name} of {self.label!r} is {value!r}; it must be {wanted}")
            if not isinstance(value, int):
                object.__setattr__(self, name, float(value))  # numpy's are no plain data
        if 0 < self.strength < QUIETEST:
            raise LayoutError(
                f"the strength of {self.label!r} is {self.strength!r}, too little to be heard; "
                f"give 0, or from {QUIETEST:g} to {LOUDEST}"
            )
        if self.start >= self.stop:
            raise LayoutError(
                f"region {self.label!r} starts at {self.start} of the run and stops at "
                f"{self.stop}; it must start before it stops"
            )

    @property
    def label(self) -> str:
        """What the region is called: its phrase, or else its text."""
        return self.phrase if self.phrase.strip() else self.text.strip()

    @property
    def said(self) -> str:
        """The region's own prompt: its text, or else its phrase."""
        return self.text.strip() or self.phrase.strip()

    @property
    def denied(self) -> str:
        """The region's negative; empty where it has none, or blanks alone."""
        return self.negative.strip()

    @property
    def own_words(self) -> tuple[str, ...]:
        """The keys that only methods with texts for regions read, where they are not left out."""
        same = {"text"} if self.said == self.phrase.strip() else set()
        other = {"feather"} | same | (set() if self.denied else {"negative"})
        names = (name for name in OWN if name not in other)
        return tuple(name for name in names if getattr(self, name) != _DEFAULTS[name])

    @classmethod
    def painted(cls, phrase: str, pixels: Any, **more: Any) -> Region:
        """A region from an array (what is above zero) or a picture (what is painted).

        Args:
            more: the region's text, strength and so on.
        """
        found = painted(pixels) if isinstance(pixels, Image.Image) else np.asarray(pixels) > 0
        try:
            return cls(phrase, mask=Mask.of(found), **more)
        except LayoutError as error:
            raise LayoutError(f"region {phrase or more.get('text')!r}: {error}") from error

    @classmethod
    def weighed(cls, phrase: str, picture: Image.Image, **more: Any) -> Region:
        """A region from a mask picture whose greys are weights; otherwise as `painted`."""
        try:
            return cls(phrase, mask=Mask.weighed(weighed(picture)), **more)
        except LayoutError as error:
            raise LayoutError(f"region {phrase or more.get('text')!r}: {error}") from error

    def cover(
        self, grid: tuple[int, int], picture: tuple[int, int] | None = None
    ) -> Float[ndarray, "h w"]:
        """The share of every cell of an (h, w) grid that the region covers; hard edges fade.

        Args:
            picture: height and width of the picture, or in their proportion, on which depends how
                far edges fade along each side; the grid's if left out.
        """
        if self.feather:
            height, width = picture or grid
            return resize_cover(_feathered(self, height / width), grid)
        if self.box is not None:
            return box_cover(self.box, grid)
        return resize_cover(_fine(self), grid)

    def to_json(self) -> dict[str, Any]:
        """Plain data, without what is not given."""
        value: dict[str, Any] = {"phrase": self.phrase} if self.phrase else {}
        if self.box is not None:
            value["box"] = list(self.box)
        elif self.polygon is not None:
            value["polygon"] = [list(point) for point in self.polygon]
        else:
            assert self.mask is not None  # one of the three, by construction
            value["mask"] = self.mask.to_json()
        said = {name: getattr(self, name) for name in OWN}
        return value | {name: given for name, given in said.items() if given != _DEFAULTS[name]}


OWN = ("text", "negative", "strength", "start", "stop", "feather", "lora")
"""What a region has beside its phrase and its place."""

_DEFAULTS = {one.name: one.default for one in fields(Region)}


def _numbers(phrase: str, what: str, values: Any, count: int) -> tuple[float, ...]:
    try:
        if isinstance(values, (str, Mapping)):  # "0011" would be four numbers
            raise TypeError
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
def _feathered(region: Region, aspect: float) -> ndarray:
    """A region whose edges fade: a Gaussian whose two standard deviations are the feather.

    Args:
        aspect: the picture's height over its width.
    """
    fine = _fine(replace(region, feather=0.0)).astype(np.float64)
    if region.mask is not None:  # which has the picture's own proportion; other places have none
        aspect = fine.shape[0] / fine.shape[1]
    shares = (min(1.0, 1 / aspect), min(1.0, aspect))  # of the shorter side, in each side's
    down, along = (
        blur_weights(size, region.feather / 2 * size * share)
        for size, share in zip(fine.shape, shares, strict=True)
    )
    faded: ndarray = down @ fine @ along.T
    return faded


@lru_cache(maxsize=32)
def _fine(region: Region) -> ndarray:
    """A region as a picture of its own resolution."""
    if region.mask is not None:
        return region.mask.weights()
    if region.polygon is not None:
        return polygon_cover(region.polygon, (FINE, FINE))
    return region.cover((FINE, FINE))

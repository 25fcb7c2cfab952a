"""Layouts: which phrase of the prompt belongs where in the picture.

A layout is a frozen value of plain data, the same for the command line, the app and the
evaluation. Coordinates are shares of the picture's width and height, so one layout serves every
size and aspect ratio. A region is a box, a polygon or a mask; masks come from files or from one
label picture, in which every region has its colour.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from PIL import Image
from torch import Tensor

from adhere.errors import LayoutError, PromptError
from adhere.layout import labels
from adhere.layout.masks import Mask, box_cover, open_picture, painted, polygon_cover, resize_cover
from adhere.prompt.markup import strip_markup
from adhere.prompt.phrases import Span, find

__all__ = ["Box", "Layout", "Overlap", "Region"]

Box = tuple[float, float, float, float]
Overlap = Literal["refuse", "last", "share"]

FINE = 512
"""Cells along each side of the grid on which polygons are drawn."""
JUDGED = 128
"""Cells along each side of the grid on which overlaps are judged."""
SLIVER = 0.01
"""Overlap that is passed over, as a share of the smaller region: hands draw no exact edges."""
MOST_REGIONS = 64
MOST_POINTS = 1024
_REGION_KEYS = {"phrase", "box", "polygon", "mask", "file"}
_LAYOUT_KEYS = {"prompt", "regions", "overlap"}


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


@dataclass(frozen=True)
class Layout:
    """Regions of a picture, and optionally the prompt they belong to.

    `overlap` says what regions that share ground mean: "refuse" raises, "last" gives the ground
    to the later region (as if painted over), "share" gives it to both.
    """

    regions: tuple[Region, ...]
    prompt: str | None = None
    overlap: Overlap = "refuse"

    def __post_init__(self) -> None:
        """Refuses no regions, masks of different sizes, and overlaps that were not allowed."""
        object.__setattr__(self, "regions", tuple(self.regions))
        if not 0 < len(self.regions) <= MOST_REGIONS:
            raise LayoutError(
                f"a layout has {len(self.regions)} regions; it must have 1 to {MOST_REGIONS}"
            )
        if self.overlap not in get_args(Overlap):
            raise LayoutError(f"overlap={self.overlap!r}; use {', '.join(get_args(Overlap))}")
        if self.prompt is not None and not isinstance(self.prompt, str):
            raise LayoutError(f"the prompt of the layout is {self.prompt!r}; it must be text")
        sizes = {(r.mask.height, r.mask.width): r.phrase for r in self.regions if r.mask}
        if len(sizes) > 1:
            listed = ", ".join(f"{phrase!r} {h}x{w}" for (h, w), phrase in sizes.items())
            raise LayoutError(
                f"masks of different sizes (height x width): {listed}; "
                "save all masks of a layout at the size of the picture"
            )
        if self.overlap == "refuse":
            _refuse_overlap(self.regions)
        elif self.overlap == "last":
            _refuse_hidden(self)

    # -- reading and writing

    @classmethod
    def read(cls, path: str | Path) -> Layout:
        """Reads a layout file: JSON, or a label PNG with its legend beside it (same name, .json).

        Raises:
            LayoutError: the file is missing or is no layout.
        """
        path = Path(path)
        if path.suffix.lower() != ".json":
            return cls.from_label_png(path)
        value = labels.read_json(path)
        if isinstance(value, Mapping) and "legend" in value:
            picture = labels.beside(path.parent, value.get("labels", path.with_suffix(".png").name))
            return cls.from_label_png(picture, value)
        return _from_json(cls, value, path.parent)

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | str) -> Layout:
        """Reads a layout from a mapping or from JSON text; mask files need `Layout.read`.

        Raises:
            LayoutError: the value is no layout.
        """
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError) as error:
                raise LayoutError(f"the layout is no JSON: {error}") from error
        return _from_json(cls, value, None)

    @classmethod
    def from_label_png(
        cls, png: str | Path, legend: Mapping[str, Any] | str | Path | None = None
    ) -> Layout:
        """Reads a label picture: one colour, or one palette index, for every phrase.

        Args:
            png: the picture. Black, white and transparent pixels belong to no region unless the
                legend has them.
            legend: {"#ff0000": "a red cat", "2": "a dog"}, or a mapping with that as "legend" and
                optionally "prompt"; or its JSON file. Left out: the JSON file beside the picture.

        Raises:
            LayoutError: the legend is missing, or it and the picture do not fit one another.
        """
        phrases, prompt = labels.read_legend(Path(png), legend)
        picture = open_picture(Path(png), ("PNG",))
        regions = [Region(p, mask=m) for p, m in labels.split(picture, phrases, Path(png).name)]
        return cls(tuple(regions), prompt)

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads back to an equal layout."""
        value: dict[str, Any] = {"regions": [region.to_json() for region in self.regions]}
        if self.prompt is not None:
            value = {"prompt": self.prompt, **value}
        return value if self.overlap == "refuse" else {**value, "overlap": self.overlap}

    # -- use

    @property
    def phrases(self) -> tuple[str, ...]:
        """The phrase of every region."""
        return tuple(region.phrase for region in self.regions)

    def mask(self, region: int | str, grid: tuple[int, int]) -> Float[Tensor, "h w"]:
        """The share of every cell of an (h, w) grid that belongs to a region, in [0, 1].

        Args:
            region: its index, or its phrase.
            grid: height and width.

        Raises:
            LayoutError: there is no such region.
        """
        if isinstance(region, str):
            if region not in self.phrases:
                raise LayoutError(
                    f"no region {region!r}; there are {', '.join(map(repr, self.phrases))}"
                )
            region = self.phrases.index(region)
        if not 0 <= region < len(self.regions):
            raise LayoutError(f"no region {region}; they are numbered 0 to {len(self.regions) - 1}")
        return self.masks(grid)[region]

    def masks(self, grid: tuple[int, int]) -> Float[Tensor, "regions h w"]:
        """All regions on an (h, w) grid, in float32; a new tensor at every call."""
        height, width = grid
        if height < 1 or width < 1:
            raise LayoutError(f"a grid of {height}x{width} cells; both must be at least 1")
        return torch.from_numpy(_covers(self, (int(height), int(width))).copy())

    def picture(self, width: int = 512, height: int = 512) -> Image.Image:
        """The layout drawn, every region in the colour that it names or in one of its own."""
        return labels.draw(self.phrases, _resized(self, (height, width)))

    def check(
        self, prompt: str | None = None, size: tuple[int, int] | None = None
    ) -> tuple[Span, ...]:
        """Checks the layout against a prompt, and returns every region's place in it.

        Args:
            prompt: with or without markup; the layout's own if left out.
            size: height and width of the picture; masks of another aspect ratio are then refused.

        Raises:
            LayoutError: there is no prompt, a phrase is not in it, two regions claim the same
                words, or a mask does not fit the picture.
        """
        prompt = self.prompt if prompt is None else prompt
        if prompt is None:
            raise LayoutError(
                'the layout has no prompt; give one, or add "prompt" to the layout file'
            )
        spans = tuple(self._span(strip_markup(prompt), region.phrase) for region in self.regions)
        for i, later in enumerate(spans):
            for earlier in spans[:i]:
                if later.start < earlier.end and earlier.start < later.end:
                    raise LayoutError(
                        f"two regions claim {later.text!r}: there are more regions than phrases; "
                        f"join them in one mask, or say which is meant ({later.text}#2)"
                    )
        if size is not None:
            self._check_size(size)
        return spans

    def _span(self, prompt: str, phrase: str) -> Span:
        try:
            return find(prompt, phrase)
        except PromptError as error:
            raise LayoutError(f"a region of the layout does not fit the prompt: {error}") from error

    def _check_size(self, size: tuple[int, int]) -> None:
        for region in self.regions:
            if region.mask is None:
                continue
            ratio = region.mask.height * size[1] / (region.mask.width * size[0])
            if abs(math.log(ratio)) > 0.03:  # 3 %: rounding to multiples of 8 or 64 pixels
                raise LayoutError(
                    f"the mask of {region.phrase!r} is {region.mask.height}x{region.mask.width}, "
                    f"the picture {size[0]}x{size[1]} (height x width); "
                    "save the mask in the picture's aspect ratio"
                )


# ---- Checks ------------------------------------------------------------------


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


def _refuse_overlap(regions: Sequence[Region]) -> None:
    covers = [region.cover((JUDGED, JUDGED)) for region in regions]
    for i, later in enumerate(regions):
        for k, earlier in enumerate(regions[:i]):
            if earlier.box and later.box:
                share = _shared_by_boxes(earlier.box, later.box)
            else:
                share = _shared(covers[k], covers[i])
            if share > SLIVER:
                raise LayoutError(
                    f"regions {earlier.phrase!r} and {later.phrase!r} overlap by {share:.0%} of "
                    'the smaller one; move them apart, or say what it means: "overlap": "last" '
                    '(the later one is in front) or "share" (the ground belongs to both)'
                )


def _shared_by_boxes(one: Box, other: Box) -> float:
    """The common ground of two boxes as a share of the smaller."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    common = max(wide, 0.0) * max(high, 0.0)
    return common / min((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (one, other))


def _shared(one: ndarray, other: ndarray) -> float:
    """The common ground of two covers as a share of the smaller."""
    # Cells that both cover only in part may well hold them side by side.
    common = np.clip(one + other - 1.0, 0.0, None).sum()
    return float(common / max(min(one.sum(), other.sum()), 1e-9))


def _refuse_hidden(layout: Layout) -> None:
    for region, cover in zip(layout.regions, _resized(layout, (FINE, FINE)), strict=True):
        if not cover.any():
            raise LayoutError(
                f"region {region.phrase!r} lies wholly under later ones and is empty; "
                "list it after them"
            )


# ---- Grids -------------------------------------------------------------------


@lru_cache(maxsize=32)
def _fine(region: Region) -> ndarray:
    """A region as a picture of its own resolution."""
    if region.mask is not None:
        return region.mask.pixels()
    if region.polygon is not None:
        return polygon_cover(region.polygon, (FINE, FINE))
    return region.cover((FINE, FINE))


@lru_cache(maxsize=64)
def _covers(layout: Layout, grid: tuple[int, int]) -> Float[ndarray, "regions h w"]:
    """All regions on a grid of maps; guides ask for the same few again at every step."""
    return _resized(layout, grid)


def _resized(layout: Layout, grid: tuple[int, int]) -> Float[ndarray, "regions h w"]:
    regions = layout.regions
    if layout.overlap != "last":
        return np.stack([region.cover(grid) for region in regions]).astype(np.float32)
    fine = [region.cover((FINE, FINE)) for region in regions]
    free = np.ones((FINE, FINE))
    for i in reversed(range(len(regions))):
        taken = fine[i]
        fine[i] = np.minimum(taken, free)
        free = np.clip(free - taken, 0.0, 1.0)
    return np.stack([resize_cover(cover, grid) for cover in fine]).astype(np.float32)


# ---- JSON --------------------------------------------------------------------


def _from_json(cls: type[Layout], value: Any, folder: Path | None) -> Layout:
    if not isinstance(value, Mapping) or not isinstance(value.get("regions"), Sequence):
        raise LayoutError(
            'a layout must be {"prompt": "...", "regions": [{"phrase": "...", '
            f'"box": [left, top, right, bottom]}}]}}, not {str(value)[:60]}'
        )
    _refuse_unknown("the layout", value, _LAYOUT_KEYS)
    regions = tuple(_region(item, folder) for item in value["regions"])
    return cls(regions, value.get("prompt"), value.get("overlap", "refuse"))


def _region(value: Any, folder: Path | None) -> Region:
    if not isinstance(value, Mapping) or "phrase" not in value:
        raise LayoutError(f'a region must be a mapping with "phrase", not {str(value)[:60]}')
    phrase = value["phrase"]
    _refuse_unknown(f"region {phrase!r}", value, _REGION_KEYS)
    if "file" not in value:
        mask = value.get("mask")
        stored = None if mask is None else Mask.from_json(mask)
        return Region(phrase, value.get("box"), value.get("polygon"), stored)
    if folder is None:
        raise LayoutError(
            f"region {phrase!r} has a mask file; read the layout from its own file (Layout.read)"
        )
    if set(value) != {"phrase", "file"}:
        raise LayoutError(f"region {phrase!r} has a mask file and another place; give one of them")
    return Region.painted(phrase, open_picture(labels.beside(folder, value["file"])))


def _refuse_unknown(what: str, value: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(value) - known)
    if unknown:
        raise LayoutError(
            f"{what} has unknown {', '.join(map(repr, unknown))}; "
            f"known are {', '.join(sorted(known))}"
        )

"""Layouts: which phrase of the prompt belongs where in the picture.

A layout is a frozen value of plain data, the same for the command line, the app and the
evaluation. Coordinates are shares of the picture's width and height, so one layout serves every
size and aspect ratio. A region is a box, a polygon or a mask; masks come from files or from one
label picture, in which every region has its colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from numbers import Real
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from numpy import ndarray
from PIL import Image
from torch import Tensor

from adhere.errors import LayoutError, MaskError, PromptError
from adhere.layout import format
from adhere.layout.drawing import draw
from adhere.layout.overlap import layered, refuse_hidden, refuse_overlap, side_by_side
from adhere.layout.region import OWN, Box, Region
from adhere.prompt.markup import strip_markup
from adhere.prompt.phrases import Span, find, unnumbered

__all__ = ["Box", "Layout", "Overlap", "Region"]

Overlap = Literal["refuse", "last", "share"]

MOST_REGIONS = 64
OWN_WORDS = (*OWN, "base")
"""What only methods with texts for regions read: of regions, and of the layout."""


@dataclass(frozen=True)
class Layout:
    """Regions of a picture, and optionally the prompt they belong to.

    `overlap` says what regions that share ground mean: "refuse" raises, "last" gives the ground
    to the later region (as if painted over), "share" gives it to both. `base` is the share that the
    whole prompt keeps where regions have texts of their own; the method's if None.
    """

    regions: tuple[Region, ...]
    prompt: str | None = None
    overlap: Overlap = "refuse"
    base: float | None = None

    def __post_init__(self) -> None:
        """Refuses no regions, masks of different sizes, and overlaps that were not allowed."""
        single = isinstance(self.regions, (Region, str)) or not isinstance(self.regions, Iterable)
        given: tuple[Any, ...] = (self.regions,) if single else tuple(self.regions)
        if single or not all(isinstance(one, Region) for one in given):
            raise LayoutError(
                f"regions={self.regions!r} is not a tuple of regions; write "
                "Layout((Region('cat', box=(0, 0, 0.5, 1)),)), with the comma"
            )
        object.__setattr__(self, "regions", given)
        if not 0 < len(self.regions) <= MOST_REGIONS:
            raise LayoutError(
                f"a layout has {len(self.regions)} regions; it must have 1 to {MOST_REGIONS}"
            )
        if self.overlap not in get_args(Overlap):
            raise LayoutError(f"overlap={self.overlap!r}; use {', '.join(get_args(Overlap))}")
        if self.prompt is not None and not isinstance(self.prompt, str):
            raise LayoutError(f"the prompt of the layout is {self.prompt!r}; it must be text")
        self._check_shares()
        sizes = {(r.mask.height, r.mask.width): r.label for r in self.regions if r.mask}
        if len(sizes) > 1:
            listed = ", ".join(f"{phrase!r} {h}x{w}" for (h, w), phrase in sizes.items())
            raise LayoutError(
                f"masks of different sizes (height x width): {listed}; "
                "save all masks of a layout at the size of the picture"
            )
        if self.overlap == "refuse":
            refuse_overlap(self.regions)
        elif self.overlap == "last":
            refuse_hidden(self.regions)

    def _check_shares(self) -> None:
        base: Any = self.base
        number = isinstance(base, Real) and not isinstance(base, bool)
        if base is not None and not (number and 0 <= base <= 1):
            raise LayoutError(f"base={base!r}; give the whole prompt a share from 0 to 1")
        if base is not None and not isinstance(base, int):
            object.__setattr__(self, "base", float(base))  # numpy's are no plain data
        if not any(region.strength for region in self.regions):
            raise LayoutError(
                "every region of the layout has the strength 0, so none would be heard; "
                "give one of them more"
            )

    # -- reading and writing

    @classmethod
    def read(cls, path: str | Path) -> Layout:
        """Reads a layout file: JSON, or a label PNG with its legend beside it (same name, .json).

        Raises:
            LayoutError: the file is missing or is no layout.
        """
        return cls._of(format.read(Path(path)))

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | str) -> Layout:
        """Reads a layout from a mapping or from JSON text; mask files need `Layout.read`.

        Raises:
            LayoutError: the value is no layout.
        """
        return cls._of(format.from_json(value))

    @classmethod
    def from_label_png(
        cls, png: str | Path, legend: Mapping[str, Any] | str | Path | None = None
    ) -> Layout:
        """Reads a label picture: one colour, or one palette index, for every phrase.

        Args:
            png: the picture; one with a legend of colours may be a JPEG or WebP file too. Black,
                white and transparent pixels belong to no region unless the legend has them;
                smoothed edges and colours that are a little off are taken for the nearest colour
                around them.
            legend: {"#ff0000": "a red cat", "#0000ff": {"text": "a dog", "strength": 2}}, or a
                mapping with that as "legend" and optionally "prompt" and "base"; or its JSON
                file. Left out: the JSON file beside the picture.

        Raises:
            LayoutError: the legend is missing, or it and the picture do not fit one another.

        Warns:
            GuidanceWarning: how many pixels had other colours, and were taken for its own.
        """
        return cls._of(format.from_labels(Path(png), legend))

    @classmethod
    def _of(cls, parts: format.Parts) -> Layout:
        return cls(parts.regions, parts.prompt, parts.overlap, parts.base)

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads back to an equal layout."""
        value: dict[str, Any] = {"regions": [region.to_json() for region in self.regions]}
        if self.prompt is not None:
            value = {"prompt": self.prompt, **value}
        if self.overlap != "refuse":
            value["overlap"] = self.overlap
        return value if self.base is None else {**value, "base": self.base}

    # -- use

    @property
    def phrases(self) -> tuple[str, ...]:
        """What every region is called: its phrase, or else its text."""
        return tuple(region.label for region in self.regions)

    @property
    def own_words(self) -> tuple[str, ...]:
        """The keys that only methods with texts for regions read, where they are not left out."""
        given = {name for region in self.regions for name in region.own_words}
        names = tuple(name for name in OWN if name in given)
        return names if self.base is None else (*names, "base")

    def of_prompt(self) -> Layout:
        """The regions with phrases of the prompt alone.

        Raises:
            LayoutError: all have only texts of their own.
        """
        found = tuple(region for region in self.regions if region.phrase.strip())
        if not found:
            raise LayoutError(
                f"the regions of the layout ({', '.join(map(repr, self.phrases))}) have texts of "
                "their own and no phrases of the prompt, which this method places; give each a "
                '"phrase", or use regional-prompting'
            )
        return self if found == self.regions else replace(self, regions=found)

    def spoken(self, prompt: str) -> Layout:
        """The layout as its regions are heard: a phrase that stands for a text says its words.

        Args:
            prompt: without markup; "pencil #2" is more than the second pencil if it has that.
        """
        regions = tuple(
            region if region.text.strip() or said == region.said else replace(region, text=said)
            for region in self.regions
            for said in (unnumbered(region.phrase, prompt),)
        )
        return self if regions == self.regions else replace(self, regions=regions)

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
        return draw(self.phrases, _on_grid(self, (height, width)))

    def check(
        self, prompt: str | None = None, size: tuple[int, int] | None = None
    ) -> tuple[Span, ...]:
        """Checks the layout against a prompt, and returns its regions' places in it.

        Regions with a text of their own alone have none.

        Args:
            prompt: with or without markup; the layout's own if left out.
            size: height and width of the picture, or of its latents; masks of another aspect ratio
                are then refused.

        Raises:
            LayoutError: there is no prompt, a phrase is not in it, two regions claim the same
                words, or a mask does not fit the picture.
        """
        prompt = self.prompt if prompt is None else prompt
        if prompt is None:
            raise LayoutError(
                'the layout has no prompt; give one, or add "prompt" to the layout file'
            )
        named = [region.phrase for region in self.regions if region.phrase.strip()]
        spans = tuple(self._span(strip_markup(prompt), phrase) for phrase in named)
        for i, later in enumerate(spans):
            for earlier in spans[:i]:
                if later.start < earlier.end and earlier.start < later.end:
                    raise LayoutError(
                        f"two regions claim {later.text!r}: there are more regions than phrases; "
                        f"join them in one mask, or say which is meant ({later.text}#2)"
                    )
        if size is not None:
            self.check_masks(size)
        return spans

    def _span(self, prompt: str, phrase: str) -> Span:
        try:
            return find(prompt, phrase)
        except PromptError as error:
            raise LayoutError(f"a region of the layout does not fit the prompt: {error}") from error

    def check_masks(self, size: tuple[int, int]) -> None:
        """Raise `MaskError` for masks of another aspect ratio than the picture's.

        Args:
            size: height and width of the picture, or of its latents.
        """
        for region in self.regions:
            mask = region.mask
            if mask is None:
                continue
            off = abs(math.log(mask.height * size[1] / (mask.width * size[0])))
            # 3 %: rounding to multiples of 8 or 64 pixels; and either may count whole cells.
            if off > 0.03 + 1 / min(mask.height, mask.width, *size):
                raise MaskError(
                    f"the mask of {region.label!r} is {mask.height}x{mask.width}, and the picture "
                    f"is {size[0]}x{size[1]} (height x width, in pixels or cells of its latents); "
                    "save the mask in the picture's aspect ratio"
                )


@lru_cache(maxsize=64)
def _covers(layout: Layout, grid: tuple[int, int]) -> Float[ndarray, "regions h w"]:
    """All regions on a grid of maps; guides ask for the same few again at every step."""
    return _on_grid(layout, grid)


def _on_grid(layout: Layout, grid: tuple[int, int]) -> Float[ndarray, "regions h w"]:
    placed = layered if layout.overlap == "last" else side_by_side
    return placed(layout.regions, grid)

"""From what a person painted, typed or sent to a `Layout`, and from a layout to what is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from adhere.app.jobs import figures, uploads
from adhere.app.jobs.attention import WordMaps
from adhere.app.jobs.limits import LIMITS, check_prompt, check_regions
from adhere.errors import GuidanceError, LayoutError
from adhere.layout.layout import Layout, Region
from adhere.prompt.markup import strip_markup
from adhere.prompt.parser import parse
from adhere.prompt.phrases import find

CELLS = 64
"""Cells along the longer side to which strokes are reduced: finer than any attention grid, and
short enough for a link."""


def phrases_of(prompt: str) -> list[str]:
    """The phrases of a prompt that can have a place: its nouns with their modifiers in front."""
    parsed = parse(prompt)
    names: list[str] = []
    for entity in parsed.entities[: LIMITS.regions]:
        again = names.count(entity.phrase.text)
        names.append(entity.phrase.text if not again else f"{entity.phrase.text}#{again + 1}")
    return names


def read_phrases(text: object) -> list[str]:
    """Phrases from a comma-separated line.

    Raises:
        LayoutError: too many.
    """
    line = check_prompt(text or "", LIMITS, "list of phrases")
    phrases = list(dict.fromkeys(part.strip() for part in line.split(",") if part.strip()))
    check_regions(len(phrases), LIMITS)
    return phrases


def layout_of(
    prompt: str,
    painted: Mapping[str, NDArray[np.bool_]],
    boxes: Sequence[Sequence[Any]],
    mask_file: str | None,
    legend: str,
) -> Layout:
    """The layout of a mask file if one is given, else of strokes, else of boxes, phrase by phrase.

    Raises:
        LayoutError: nothing is placed, or it does not fit the prompt.
    """
    if mask_file:
        regions = from_mask(uploads.decode(mask_file), read_legend(legend))
    else:
        typed = read_boxes(boxes)
        places: dict[str, Region] = {
            **{phrase: Region(phrase, box=box) for phrase, box in typed.items()},
            **{phrase: Region.painted(phrase, reduced(layer)) for phrase, layer in painted.items()},
        }
        regions = list(places.values())
    if not regions:
        raise LayoutError(
            "nothing has a place yet: paint on a phrase's layer, type a box, or send a mask file"
        )
    check_regions(len(regions), LIMITS)
    # Hands paint over what they painted before: the later region is in front.
    layout = Layout(tuple(regions), overlap="last")
    layout.check(prompt)
    return layout


def reduced(layer: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Strokes on at most `CELLS` cells a side; a cell belongs when half of it is painted.

    Strokes too fine to half-fill any cell keep every cell that they touch.
    """
    h, w = layer.shape
    scale = min(1.0, CELLS / max(h, w))
    size = max(1, round(w * scale)), max(1, round(h * scale))
    image = Image.fromarray((layer * 255).astype(np.uint8)).resize(size, Image.Resampling.BOX)
    cover = np.asarray(image)
    return cover >= 128 if (cover >= 128).any() else cover > 0


def read_boxes(rows: Sequence[Sequence[Any]]) -> dict[str, tuple[float, float, float, float]]:
    """Boxes from rows `phrase, left, top, right, bottom` in percent; rows left empty do not count.

    Raises:
        LayoutError: a row is half filled, or is no number.
    """
    boxes = {}
    for row in rows:
        phrase, *edges = [*row, None, None, None, None, None][:5]
        blank = [edge is None or str(edge).strip() in ("", "nan") for edge in edges]
        if all(blank) or not str(phrase or "").strip():
            continue
        try:
            left, top, right, bottom = (float(edge) / 100 for edge in edges)
        except (TypeError, ValueError):
            raise LayoutError(
                f"the box of {str(phrase)[:60]!r} is not whole: write left, top, right and bottom "
                "as numbers from 0 to 100"
            ) from None
        boxes[str(phrase).strip()] = (left, top, right, bottom)
    return boxes


def read_legend(text: str) -> dict[str, str]:
    """A legend from lines such as `#ff0000 = a red cat` or `2 = a dog`.

    Raises:
        LayoutError: a line does not read.
    """
    legend = {}
    for line in filter(None, (one.strip() for one in (text or "").splitlines())):
        key, equals, phrase = (part.strip() for part in line.partition("="))
        if not equals or not phrase or not re.fullmatch(r"#[0-9a-fA-F]{6}|\d{1,3}", key):
            raise LayoutError(
                f"the legend's line {line[:60]!r} does not read: write #ff0000 = a red cat"
            )
        legend[key.lower()] = phrase
    if not legend:
        raise LayoutError("the mask file needs a legend: a line such as #ff0000 = a red cat")
    return legend


def from_mask(image: Image.Image, legend: Mapping[str, str]) -> list[Region]:
    """The regions of a label picture: one colour (or palette index, or grey value) a phrase.

    Raises:
        LayoutError: a colour of the legend is not in the picture.
    """
    palette = image.mode in ("P", "L", "1")
    indices = uploads.labels(image) if palette else None
    rgb = np.asarray(image.convert("RGB")).astype(np.int64)
    colours = rgb[..., 0] * 65536 + rgb[..., 1] * 256 + rgb[..., 2]
    regions = []
    for key, phrase in legend.items():
        if key.startswith("#"):
            found = colours == int(key[1:], 16)
        elif indices is not None:
            found = indices == int(key)
        else:
            raise LayoutError(
                f"the mask has colours, not numbers: write {phrase!r} with its #colour"
            )
        if not found.any():
            raise LayoutError(f"nothing in the mask has {key} ({phrase!r}): check the legend")
        regions.append(Region.painted(phrase, reduced(found)))
    return regions


def segments(image: Image.Image, layout: Layout) -> tuple[Image.Image, list[tuple[Any, str]]]:
    """A picture with the layout's regions over it, as `gr.AnnotatedImage` takes them."""
    shown = figures.enlarge(image)
    masks = layout.masks((shown.height, shown.width)).numpy()
    return shown, [
        (mask * 0.55, phrase) for mask, phrase in zip(masks, layout.phrases, strict=True)
    ]


def attended(
    image: Image.Image, layout: Layout, maps: WordMaps | None, prompt: str
) -> list[tuple[Image.Image, str]]:
    """For each region the attention of its phrase, averaged over the steps, with its outline."""
    if maps is None:
        return []
    shown = []
    for region in layout.regions:
        columns = _columns(maps, prompt, region.phrase)
        if not columns:
            continue
        values = np.mean([maps.mean(column) for column in columns], axis=0)
        picture = figures.heat_over(image, values)
        _outline(picture, layout.mask(region.phrase, (picture.height, picture.width)).numpy())
        shown.append((picture, region.phrase))
    return shown


def _columns(maps: WordMaps, prompt: str, phrase: str) -> list[int]:
    """Which words of the maps a phrase is, by counting the words before it."""
    plain = strip_markup(prompt)
    try:
        span = find(plain, phrase)
    except GuidanceError:
        return []
    first = len(plain[: span.start].split())
    return [k for k in range(first, first + len(span.text.split())) if k < len(maps.words)]


def _outline(image: Image.Image, mask: NDArray[np.floating[Any]]) -> None:
    inside = mask > 0.5
    edge = np.zeros_like(inside)
    edge[1:] |= inside[1:] != inside[:-1]
    edge[:, 1:] |= inside[:, 1:] != inside[:, :-1]
    pen = ImageDraw.Draw(image)
    for y, x in np.argwhere(edge):
        pen.rectangle((x - 1, y - 1, x, y), fill="white")

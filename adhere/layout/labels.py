"""Label pictures, in which every region has its colour, and their legends."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy import ndarray
from PIL import Image

from adhere.errors import GuidanceWarning, LayoutError
from adhere.layout.files import read_json
from adhere.layout.masks import Mask

__all__ = ["formats", "is_key", "read_legend", "split"]

STRAY = 0.01
"""Share of the pixels that may have other colours without a word."""
MOST_EDGES = 0.2
"""Share of the pixels with a colour near none of the legend beyond which a picture is refused."""
NEAR = 24
"""Distance of two colours, in steps of 255, below which one is taken for the other."""
REACH = 3
"""Pixels around a smoothed edge among whose regions it is shared out."""
AT_ONCE = 65536
"""Colours that are compared with the legend's at a time."""

T = TypeVar("T")

_COLOUR = re.compile(r"^#[0-9a-fA-F]{6}$")
_NO_REGION = {0x000000, 0xFFFFFF}


def read_legend(
    png: Path, legend: Mapping[str, Any] | str | Path | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a legend says of each colour or index, and what its file says of the whole layout.

    Of each it has a phrase, or a mapping of what a region is told beside its place.

    Raises:
        LayoutError: there is no legend, or it is not one.
    """
    if legend is None:
        legend = png.with_suffix(".json")
        if not legend.is_file():
            raise LayoutError(
                f"the label picture {png.name} has no legend; write {legend.name} beside it: "
                '{"prompt": "a red cat and a dog", '
                '"legend": {"#ff0000": "a red cat", "#0000ff": "a dog"}}'
            )
    if not isinstance(legend, (Mapping, str, Path)):
        raise LayoutError(
            f'legend={legend!r} is neither {{"#rrggbb" or index: phrase}} nor the name of its file'
        )
    value = legend if isinstance(legend, Mapping) else read_json(Path(legend))
    phrases = value.get("legend", value) if isinstance(value, Mapping) else None
    if not isinstance(phrases, Mapping) or not phrases:
        raise LayoutError(f'a legend must be {{"#rrggbb" or index: phrase}}, not {str(value)[:60]}')
    whole = {} if phrases is value else {key: value[key] for key in value if key != "legend"}
    for key, phrase in phrases.items():
        if not isinstance(phrase, (str, Mapping)) or not is_key(str(key)):
            raise LayoutError(
                f'legend entry {key!r}: {phrase!r}; write "#rrggbb": "phrase", '
                'or "3": "phrase" for index 3'
            )
    return {str(key): phrase for key, phrase in phrases.items()}, whole


def formats(phrases: Mapping[str, Any]) -> tuple[str, ...]:
    """The kinds of files that a label picture may be: lossy ones keep colours, but no indices."""
    return ("PNG",) if all(map(_is_index, phrases)) else ("PNG", "JPEG", "WEBP")


def is_key(key: str) -> bool:
    """Whether a legend can call a region so: a colour, or an index."""
    return bool(_COLOUR.match(key)) or _is_index(key)


def _is_index(key: str) -> bool:
    return key.isdecimal() and int(key) < 65536


def _warn(sentence: str) -> None:
    # Of the line that asked for the layout, past the calls between.
    warnings.warn(sentence, GuidanceWarning, stacklevel=7)


def split(
    picture: Image.Image, phrases: Mapping[str, T], name: str, tell: Callable[[str], None] = _warn
) -> Iterator[tuple[T, Mask]]:
    """The mask of every phrase of the legend, or of what it has in a phrase's place.

    Args:
        picture: the label picture.
        phrases: the legend.
        name: what the picture is called.
        tell: hears that colours were taken for others, in a sentence; a warning if left out.

    Raises:
        LayoutError: the picture lacks a colour of the legend, or the legend one of the picture;
            or it has one twice.
    """
    by_index = [_is_index(key) for key in phrases]
    if any(by_index) and not all(by_index):
        raise LayoutError(f"the legend of {name} mixes colours and indices; use one of them")
    wanted = {int(key.lstrip("#"), 10 if by_index[0] else 16): key for key in phrases}
    if twice := [key for key in phrases if key not in wanted.values()]:
        raise LayoutError(
            f"the legend of {name} has {twice[0]} more than once, written in different ways; give "
            "it one phrase"
        )
    if by_index[0]:
        codes = _indices(picture, name)
        _refuse_stray(codes, {0, 255, *wanted}, str, name)
    else:
        codes = _snapped(
            _colours(picture), np.array([-1, *sorted({*_NO_REGION, *wanted})]), name, tell
        )
    for code, key in wanted.items():
        found = codes == code
        if not found.any():
            raise LayoutError(
                f"no pixel of {name} is {key} ({phrases[key]!r}): its region is empty"
            )
        yield phrases[key], Mask.of(found)


def _indices(picture: Image.Image, name: str) -> ndarray:
    if picture.mode not in {"P", "L", "1", "I"} and not picture.mode.startswith("I;16"):
        raise LayoutError(
            f"the legend of {name} has indices, but the picture has colours (mode {picture.mode}); "
            'save it with a palette, or write the legend with colours ("#rrggbb")'
        )
    return np.asarray(picture).astype(np.int64)


def _colours(picture: Image.Image) -> ndarray:
    """Every pixel as 0xRRGGBB; -1 where it is transparent."""
    if picture.mode.startswith("I"):  # of 16 bits, which Pillow would cut, not scale
        levels = np.asarray(picture).astype(np.int64) >> 8
        picture = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
    pixels = np.asarray(picture.convert("RGBA")).astype(np.int32)
    codes = (pixels[..., 0] << 16) | (pixels[..., 1] << 8) | pixels[..., 2]
    return np.where(pixels[..., 3] < 128, -1, codes)


def _refuse_stray(
    codes: ndarray, known: set[int], written: Callable[[int], str], name: str, most: float = STRAY
) -> None:
    """Raise `LayoutError` where more pixels than `most` have codes that are not known."""
    values, counts = np.unique(codes[~np.isin(codes, list(known))], return_counts=True)
    if counts.sum() > most * codes.size:
        listed = ", ".join(written(int(values[i])) for i in np.argsort(-counts)[:4])
        raise LayoutError(
            f"{counts.sum() / codes.size:.0%} of {name} has colours that its legend lacks: "
            f"{listed}; add them to the legend, or paint them black (no region)"
        )


# ---- Smoothed edges and colours that are a little off -----------------------------------------


def _snapped(codes: ndarray, known: ndarray, name: str, tell: Callable[[str], None]) -> ndarray:
    """The picture with every pixel of one of the known colours.

    A pixel whose colour is near a known one takes it. What is left should be edges that a program
    smoothed: mixtures of the colours on both sides, of which each pixel takes the nearer one.

    Raises:
        LayoutError: so much is left, or so much of one colour, that a region was forgotten.
    """
    stray = ~np.isin(codes, known)
    count = int(stray.sum())
    if not count:
        return codes
    close = codes.copy()
    close[stray] = _nearest(codes[stray], known)
    edges = close == _UNKNOWN
    _refuse_forgotten(np.where(edges, codes, -1), known, _beside(~edges), name)
    _refuse_stray(np.where(edges, codes, -1), {-1}, _written, name, MOST_EDGES)
    close[edges] = _from_around(codes, close, np.argwhere(edges))
    pixels = "pixel" if count == 1 else "pixels"
    tell(
        f"{count:,} {pixels} ({count / codes.size:.1%}) of {name} had colours that its legend "
        "lacks, as smoothed edges do; they were taken for the nearest colours around them"
    )
    return close


_UNKNOWN = -2


def _written(code: int) -> str:
    return f"#{code:06x}"


def _rgb(codes: ndarray) -> ndarray:
    """Codes as (..., 3) colours."""
    return np.stack([codes >> 16 & 255, codes >> 8 & 255, codes & 255], axis=-1).astype(np.float32)


def _nearest(codes: ndarray, known: ndarray) -> ndarray:
    """For each code the known one that is nearest, or `_UNKNOWN` where none is near."""
    values, place = np.unique(codes, return_inverse=True)
    colours = known[known >= 0]
    best = np.empty_like(values)
    # A picture may have as many colours as pixels: not all their distances at once.
    for k in range(0, len(values), AT_ONCE):
        some = _rgb(values[k : k + AT_ONCE])
        distance = np.linalg.norm(some[:, None] - _rgb(colours)[None], axis=-1)
        near = np.where(distance.min(1) <= NEAR, colours[distance.argmin(1)], _UNKNOWN)
        best[k : k + AT_ONCE] = near
    found: ndarray = best[place.reshape(codes.shape)]
    return found


def _refuse_forgotten(codes: ndarray, known: ndarray, beside: ndarray, name: str) -> None:
    """Raise `LayoutError` where one unknown colour fills more than edges do.

    A straight edge may have one colour all along, which is much of a small picture: so what lies
    beside known colours and is a mixture of two does not count.
    """
    values, counts = np.unique(codes[codes >= 0], return_counts=True)
    much = {int(value) for value in values[counts > STRAY * codes.size]}
    mixed = [value for value in much if _between(value, known[known >= 0])]
    inside = np.where(np.isin(codes, list(much)) & ~(np.isin(codes, mixed) & beside), codes, -1)
    _refuse_stray(inside, {-1}, _written, name)


def _between(code: int, known: ndarray) -> bool:
    """Whether a colour is a mixture of two known ones."""
    one, other = _rgb(known)[:, None], _rgb(known)[None]
    colour, way = _rgb(np.array(code)), other - one
    length = np.maximum((way**2).sum(-1, keepdims=True), 1)
    share = np.clip(((colour - one) * way).sum(-1, keepdims=True) / length, 0, 1)
    return bool((np.linalg.norm(one + share * way - colour, axis=-1) <= NEAR).any())


def _beside(places: ndarray) -> ndarray:
    """Which pixels have one of some places among their eight neighbours."""
    height, width = places.shape
    framed = np.pad(places, 1)
    moved = [framed[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    found: ndarray = np.logical_or.reduce(moved)
    return found


def _from_around(codes: ndarray, known: ndarray, places: ndarray) -> ndarray:
    """For each place the nearest colour among the known pixels around it; -1 where none is."""
    rows, columns = places.T
    colour = _rgb(codes[rows, columns])
    best, chosen = np.full(len(places), np.inf), np.full(len(places), -1)
    height, width = codes.shape
    for down in range(-REACH, REACH + 1):
        for right in range(-REACH, REACH + 1):
            there = known[
                np.clip(rows + down, 0, height - 1), np.clip(columns + right, 0, width - 1)
            ]
            distance = np.linalg.norm(colour - _rgb(there), axis=-1)
            better = (there >= 0) & (distance < best)
            best[better], chosen[better] = distance[better], there[better]
    return chosen

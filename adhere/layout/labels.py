"""Label pictures and their legends, and the picture of a layout."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from adhere.errors import LayoutError
from adhere.layout.masks import Mask

__all__ = ["beside", "draw", "read_json", "read_legend", "split"]

STRAY = 0.01
"""Share of a label picture that may have other colours: smoothed edges, no forgotten region."""

_COLOUR = re.compile(r"^#[0-9a-fA-F]{6}$")
_NO_REGION = {0x000000, 0xFFFFFF}
_LARGEST_JSON = 32 * 2**20
# Tableau's ten: distinct beside one another and for most colour-blind eyes.
_PALETTE = (
    *("4e79a7", "f28e2b", "59a14f", "e15759", "b07aa1"),
    *("76b7b2", "edc948", "ff9da7", "9c755f", "bab0ac"),
)


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        LayoutError: it is missing, too large, or no JSON.
    """
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise LayoutError(
                f"{path.name} is larger than {_LARGEST_JSON >> 20} MiB; that is no layout"
            )
        return json.loads(path.read_text(encoding="utf-8"))
    except LayoutError:
        raise
    except FileNotFoundError as error:
        raise LayoutError(f"there is no layout file {path.name}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise LayoutError(f"{path.name} cannot be read as JSON: {error}") from error


def beside(folder: Path, name: Any) -> Path:
    """A file named in a layout file, which must lie in the same folder or below it.

    Raises:
        LayoutError: it lies elsewhere: a layout from a stranger must not read other files.
    """
    if not isinstance(name, str) or not name:
        raise LayoutError(f"a picture file is named {name!r}; give its name as text")
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise LayoutError(
            f"the picture file {name!r} lies outside the layout's folder; put it beside the layout"
        )
    return path


def read_legend(
    png: Path, legend: Mapping[str, Any] | str | Path | None
) -> tuple[dict[str, str], str | None]:
    """The phrases of a legend by colour or index, and its prompt if it has one.

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
    value = legend if isinstance(legend, Mapping) else read_json(Path(legend))
    phrases = value.get("legend", value) if isinstance(value, Mapping) else None
    if not isinstance(phrases, Mapping) or not phrases:
        raise LayoutError(f'a legend must be {{"#rrggbb" or index: phrase}}, not {str(value)[:60]}')
    prompt = value.get("prompt") if phrases is not value else None
    for key, phrase in phrases.items():
        if not isinstance(phrase, str) or not (_COLOUR.match(str(key)) or _is_index(str(key))):
            raise LayoutError(
                f'legend entry {key!r}: {phrase!r}; write "#rrggbb": "phrase", '
                'or "3": "phrase" for index 3'
            )
    return {str(key): phrase for key, phrase in phrases.items()}, prompt


def _is_index(key: str) -> bool:
    return key.isdecimal() and int(key) < 65536


def split(
    picture: Image.Image, phrases: Mapping[str, str], name: str
) -> Iterator[tuple[str, Mask]]:
    """The mask of every phrase of the legend.

    Raises:
        LayoutError: the picture lacks a colour of the legend, or the legend one of the picture.
    """
    by_index = [_is_index(key) for key in phrases]
    if any(by_index) and not all(by_index):
        raise LayoutError(f"the legend of {name} mixes colours and indices; use one of them")
    codes = _indices(picture, name) if all(by_index) else _colours(picture)
    wanted = {int(key.lstrip("#"), 10 if by_index[0] else 16): key for key in phrases}
    _refuse_stray(codes, wanted, by_index[0], name)
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
    pixels = np.asarray(picture.convert("RGBA")).astype(np.int64)
    codes = (pixels[..., 0] << 16) | (pixels[..., 1] << 8) | pixels[..., 2]
    return np.where(pixels[..., 3] < 128, -1, codes)


def _refuse_stray(codes: ndarray, wanted: Mapping[int, str], by_index: bool, name: str) -> None:
    values, counts = np.unique(codes, return_counts=True)
    none = {0, 255, -1} if by_index else {*_NO_REGION, -1}
    stray = {
        int(v): int(c) for v, c in zip(values, counts, strict=True) if v not in none | set(wanted)
    }
    if sum(stray.values()) > STRAY * codes.size:
        most = sorted(stray, key=lambda value: -stray[value])[:4]
        listed = ", ".join(str(value) if by_index else f"#{value:06x}" for value in most)
        raise LayoutError(
            f"{sum(stray.values()) / codes.size:.0%} of {name} has colours that its legend lacks: "
            f"{listed}; add them to the legend, or paint them black (no region)"
        )


# ---- Drawing -----------------------------------------------------------------


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

"""Pictures about pictures: crisp enlargements, heat maps, differences; and the loss plot's data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]  # it comes with Gradio, its stubs do not
from numpy.typing import NDArray
from PIL import Image

# Black-body like, and even in lightness: dark violet, red, orange, pale yellow.
_HEAT = np.array(
    [[13, 8, 35], [80, 18, 90], [168, 44, 80], [230, 100, 48], [251, 176, 60], [252, 250, 200]],
    dtype=np.float64,
)

SHOWN = 512
"""Pixels a small picture is enlarged to, so that its pixels stay crisp on any screen."""

SMALL = 256
"""Pixels of a picture's longer side in a strip."""


def enlarge(image: Image.Image, side: int = SHOWN) -> Image.Image:
    """A small picture enlarged by a whole factor with crisp pixels; a large one as it is."""
    factor = side // max(image.size)
    if factor < 2:
        return image
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def small(image: Image.Image, side: int = SMALL) -> Image.Image:
    """A picture for a strip: reduced to a side, or enlarged with crisp pixels."""
    if max(image.size) <= side:
        return enlarge(image, side)
    reduced = image.copy()
    reduced.thumbnail((side, side))
    return reduced


def heat(values: NDArray[np.floating[Any]], top: float | None = None) -> NDArray[np.uint8]:
    """Values `[h w]` as colours `[h w 3]`; black at 0, palest at `top` (their own largest)."""
    high = float(values.max()) if top is None else top
    share = np.clip(np.nan_to_num(values) / high if high > 0 else np.zeros_like(values), 0, 1)
    places = np.linspace(0, 1, len(_HEAT))
    colours = [np.interp(share, places, _HEAT[:, channel]) for channel in range(3)]
    return np.stack(colours, axis=-1).round().astype(np.uint8)


def heat_over(
    image: Image.Image,
    values: NDArray[np.floating[Any]],
    top: float | None = None,
    *,
    strength: float = 0.75,
    smooth: bool = True,
) -> Image.Image:
    """A heat map over a greyed picture, strongest where the values are."""
    shown = enlarge(image).convert("RGB")
    how = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    colours = Image.fromarray(heat(values, top)).resize(shown.size, how)
    grey = shown.convert("L").convert("RGB")
    return Image.blend(grey, colours, strength)


def change(before: Image.Image, after: Image.Image) -> Image.Image:
    """Where two pictures differ, as a heat map over the second."""
    first = np.asarray(before.convert("RGB"), dtype=np.float64)
    second = np.asarray(after.convert("RGB").resize(before.size), dtype=np.float64)
    difference = np.abs(first - second).mean(axis=-1) / 255
    return heat_over(after, difference, top=max(0.3, float(difference.max())), smooth=False)


def changed_share(before: Image.Image, after: Image.Image) -> float:
    """The share of pixels that differ visibly, by more than a twelfth of the range."""
    first = np.asarray(before.convert("RGB"), dtype=np.float64)
    second = np.asarray(after.convert("RGB").resize(before.size), dtype=np.float64)
    return float((np.abs(first - second).mean(axis=-1) > 255 / 12).mean())


def losses(report: Mapping[str, Any]) -> pd.DataFrame:
    """Every per-step series of a report as rows `step, value, series`, for a line plot.

    The engine's losses come as `(step, loss)` pairs, several at a step that was refined: then the
    last is what the step ended with. What plugins report of themselves comes as plain lists.
    """
    rows: list[tuple[int, float, str]] = []
    for plugin, pairs in report.get("losses", {}).items():
        rows += [(step, value, plugin) for step, value in dict(map(tuple, pairs)).items()]
    for plugin, said in report.get("plugins", {}).items():
        for key, values in said.items():
            if _is_series(values):
                name = f"{plugin}: {key.replace('_', ' ')}"
                rows += [(step, float(value), name) for step, value in enumerate(values)]
    finite = [row for row in rows if np.isfinite(row[1])]
    return pd.DataFrame(finite, columns=["step", "value", "series"])


def _is_series(values: object) -> bool:
    return (
        isinstance(values, (list, tuple))
        and len(values) > 1
        and all(isinstance(value, (int, float)) for value in values)
    )

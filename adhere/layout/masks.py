"""Masks as plain data (run lengths), and exact area resizing of masks, boxes and polygons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from adhere.errors import LayoutError

__all__ = ["Mask", "area_weights", "blur_weights", "box_cover", "polygon_cover", "resize_cover"]

LARGEST_SIDE = 2048
"""Masks with a longer side are reduced to it (nearest pixel): far finer than any attention grid."""


@dataclass(frozen=True)
class Mask:
    """A binary picture as run lengths, row by row; the first run is of zeros and may be 0 long."""

    height: int
    width: int
    runs: tuple[int, ...]

    def __post_init__(self) -> None:
        """Checks that the runs fill the picture exactly and that something is in it."""
        object.__setattr__(self, "runs", tuple(int(run) for run in self.runs))
        size = f"{self.height}x{self.width} (height x width)"
        if not (0 < self.height <= LARGEST_SIDE and 0 < self.width <= LARGEST_SIDE):
            raise LayoutError(f"a mask has size {size}; both sides must be 1 to {LARGEST_SIDE}")
        if any(run < 0 for run in self.runs) or sum(self.runs) != self.height * self.width:
            raise LayoutError(
                f"the runs of a mask add up to {sum(self.runs)} pixels, but its size {size} has "
                f"{self.height * self.width}; the mask is of another size, or was cut off"
            )
        if sum(self.runs[1::2]) == 0:
            raise LayoutError(f"a mask of size {size} is empty; paint the region, or leave it out")

    @classmethod
    def of(cls, pixels: Bool[ndarray, "h w"]) -> Mask:
        """The mask of a boolean array; one that is too large is reduced."""
        if pixels.ndim != 2 or 0 in pixels.shape:
            raise LayoutError(f"a mask has shape {pixels.shape}; it must be (height, width)")
        pixels = _reduce(np.asarray(pixels, dtype=bool))
        flat = pixels.ravel()
        edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        runs = np.diff(np.concatenate(([0], edges, [flat.size])))
        start = (0,) if flat[0] else ()
        return cls(pixels.shape[0], pixels.shape[1], (*start, *(int(run) for run in runs)))

    def pixels(self) -> Bool[ndarray, "h w"]:
        """The mask as a boolean array."""
        values = np.arange(len(self.runs)) % 2 == 1
        return np.repeat(values, self.runs).reshape(self.height, self.width)

    def to_json(self) -> dict[str, Any]:
        """Plain data: {"size": [height, width], "runs": [...]}."""
        return {"size": [self.height, self.width], "runs": list(self.runs)}

    @classmethod
    def from_json(cls, value: Any) -> Mask:
        """The inverse of `to_json`.

        Raises:
            LayoutError: the value has another form.
        """
        try:
            height, width = value["size"]
            return cls(int(height), int(width), tuple(int(run) for run in value["runs"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, LayoutError):
                raise
            raise LayoutError(
                'a mask must be {"size": [height, width], "runs": [zeros, ones, zeros, ...]}, '
                f"not {str(value)[:60]}"
            ) from error


def _reduce(pixels: Bool[ndarray, "h w"]) -> Bool[ndarray, "h2 w2"]:
    height, width = pixels.shape
    longest = max(height, width)
    if longest <= LARGEST_SIDE:
        return pixels
    rows, columns = (max(1, round(side * LARGEST_SIDE / longest)) for side in (height, width))
    return pixels[np.ix_(_centres(rows, height), _centres(columns, width))]


def _centres(count: int, size: int) -> Any:
    return ((np.arange(count) + 0.5) * size / count).astype(int)


# ---- Area resizing -----------------------------------------------------------


@lru_cache(maxsize=256)
def area_weights(rows: int, size: int) -> Float[ndarray, "rows size"]:
    """How much of each of `size` source cells lies in each of `rows` targets; rows add up to 1."""
    bounds = np.arange(rows + 1) * (size / rows)
    cells = np.arange(size)
    low = np.maximum(bounds[:-1, None], cells[None, :])
    high = np.minimum(bounds[1:, None], cells[None, :] + 1)
    weights: ndarray = np.clip(high - low, 0, None) * (rows / size)
    weights.setflags(write=False)  # it is shared through the cache
    return weights


@lru_cache(maxsize=64)
def blur_weights(size: int, sigma: float) -> Float[ndarray, "size size"]:
    """A Gaussian along one side of a picture, whose rows add up to 1 at its ends too."""
    cells = np.arange(size)
    away = (cells[:, None] - cells[None, :]) / max(sigma, 1e-6)
    weights: ndarray = np.exp(-0.5 * away**2)
    weights /= weights.sum(axis=1, keepdims=True)
    weights.setflags(write=False)  # it is shared through the cache
    return weights


def resize_cover(cover: ndarray, grid: tuple[int, int]) -> Float[ndarray, "h w"]:
    """The share of every grid cell that a picture covers: exact for any ratio of sizes."""
    rows, columns = area_weights(grid[0], cover.shape[0]), area_weights(grid[1], cover.shape[1])
    share: ndarray = np.clip(rows @ cover.astype(np.float64) @ columns.T, 0.0, 1.0)
    return share


def box_cover(
    box: tuple[float, float, float, float], grid: tuple[int, int]
) -> Float[ndarray, "h w"]:
    """The share of every grid cell that a box covers, exactly."""

    def along(low: float, high: float, cells: int) -> ndarray:
        bounds = np.arange(cells + 1) / cells
        covered = np.minimum(bounds[1:], high) - np.maximum(bounds[:-1], low)
        share: ndarray = np.clip(covered * cells, 0.0, 1.0)
        return share

    x0, y0, x1, y1 = box
    return np.outer(along(y0, y1, grid[0]), along(x0, x1, grid[1]))


def polygon_cover(
    points: Sequence[tuple[float, float]], grid: tuple[int, int]
) -> Bool[ndarray, "h w"]:
    """The grid cells whose centre a polygon holds, by the even-odd rule.

    Polygons that share an edge share no cell; Pillow's own filling has a thick outline.
    """
    height, width = grid
    inside = np.zeros(grid, dtype=bool)
    centres_x = (np.arange(width) + 0.5) / width
    for (ax, ay), (bx, by) in pairwise([*points, points[0]]):
        first, last = sorted(int(np.ceil(y * height - 0.5)) for y in (ay, by))
        if first == last:
            continue
        centres_y = (np.arange(first, last) + 0.5) / height
        crossing = ax + (centres_y - ay) * (bx - ax) / (by - ay)
        inside[first:last] ^= centres_x[None, :] < crossing[:, None]
    return inside

"""Masks as plain data (run lengths), and exact area resizing of masks, boxes and polygons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from adhere.errors import LayoutError

__all__ = ["Mask", "area_weights", "blur_weights", "box_cover", "polygon_cover", "resize_cover"]

FULL = 15
"""The level of a cell that belongs to a mask wholly: finer steps are noise of JPEG files."""

LARGEST_SIDE = 2048
"""Masks with a longer side are reduced to it (nearest pixel): far finer than any attention grid."""


@dataclass(frozen=True)
class Mask:
    """A picture of a place as run lengths, row by row.

    Without `levels` the runs are of zeros and ones in turn, zeros first, which may be 0 long; with
    them each run has a level of its own, from 0 to `FULL`.
    """

    height: int
    width: int
    runs: tuple[int, ...]
    levels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Checks that the runs fill the picture exactly and that something is in it."""
        for name in ("height", "width"):
            object.__setattr__(self, name, _whole(getattr(self, name)))
        for name in ("runs", "levels"):
            object.__setattr__(self, name, tuple(map(_whole, getattr(self, name))))
        size = f"{self.height}x{self.width} (height x width)"
        if not (0 < self.height <= LARGEST_SIDE and 0 < self.width <= LARGEST_SIDE):
            raise LayoutError(f"a mask has size {size}; both sides must be 1 to {LARGEST_SIDE}")
        if any(run < 0 for run in self.runs) or sum(self.runs) != self.height * self.width:
            raise LayoutError(
                f"the runs of a mask add up to {sum(self.runs)} pixels, but its size {size} has "
                f"{self.height * self.width}; the mask is of another size, or was cut off"
            )
        if self.levels:
            self._check_levels()
        if not any(run for run, level in zip(self.runs, self._levels(), strict=True) if level):
            raise LayoutError(f"a mask of size {size} is empty; paint the region, or leave it out")

    def _check_levels(self) -> None:
        if len(self.levels) != len(self.runs) or not all(0 <= k <= FULL for k in self.levels):
            raise LayoutError(
                f"a mask has {len(self.runs)} runs and the levels {str(self.levels)[:60]}; give "
                f"one level from 0 to {FULL} for each run"
            )

    def _levels(self) -> tuple[int, ...]:
        return self.levels or tuple(FULL * (i % 2) for i in range(len(self.runs)))

    @classmethod
    def of(cls, pixels: Bool[ndarray, "h w"]) -> Mask:
        """The mask of a boolean array; one that is too large is reduced."""
        _check_shape(pixels)
        pixels = _reduce(np.asarray(pixels, dtype=bool))
        runs, flat = _runs(pixels), pixels.ravel()
        height, width = pixels.shape
        return cls(height, width, (0, *runs) if flat[0] else tuple(runs))

    @classmethod
    def weighed(cls, weights: Float[ndarray, "h w"]) -> Mask:
        """The mask of weights from 0 to 1, in `FULL` steps; one that is too large is reduced."""
        given = np.asarray(weights, dtype=np.float64)  # products of 8 bits would begin anew at 256
        _check_shape(given)
        if not ((given >= 0) & (given <= 1)).all():  # also true for NaN
            raise LayoutError(
                f"the weights of a mask go from {given.min():g} to {given.max():g}; they must be "
                "from 0 to 1 (divide greys of 8 bits by 255)"
            )
        levels = _reduce(np.rint(given * FULL).astype(int))
        if np.isin(levels, (0, FULL)).all():
            return cls.of(levels > 0)
        runs = _runs(levels)
        starts = np.concatenate(([0], np.cumsum(runs)[:-1]))
        height, width = levels.shape
        return cls(height, width, tuple(runs), tuple(int(k) for k in levels.ravel()[starts]))

    def weights(self) -> Float[ndarray, "h w"]:
        """The mask as an array of weights from 0 to 1."""
        values = np.asarray(self._levels()) / FULL
        return np.repeat(values, self.runs).reshape(self.height, self.width)

    def to_json(self) -> dict[str, Any]:
        """Plain data: {"size": [height, width], "runs": [...]}, and "levels" where it has some."""
        value: dict[str, Any] = {"size": [self.height, self.width], "runs": list(self.runs)}
        return value | {"levels": list(self.levels)} if self.levels else value

    @classmethod
    def from_json(cls, value: Any) -> Mask:
        """The inverse of `to_json`.

        Raises:
            LayoutError: the value has another form.
        """
        try:
            height, width = value["size"]
            if unknown := sorted(set(value) - {"size", "runs", "levels"}, key=str):
                raise LayoutError(
                    f"a mask has unknown {', '.join(map(repr, unknown))}; known are levels, runs, "
                    "size"
                )
            return cls(height, width, tuple(value.get("runs", ())), tuple(value.get("levels", ())))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            if isinstance(error, LayoutError):
                raise
            raise LayoutError(
                'a mask must be {"size": [height, width], "runs": [zeros, ones, zeros, ...]}, '
                f"not {str(value)[:60]}"
            ) from error


def _whole(value: Any) -> int:
    """A number of pixels, or a level: 0.7 would be cut to none, and 14.9 to another's."""
    number = isinstance(value, Real | np.bool_) and math.isfinite(value)
    if not number or int(value) != value:
        raise LayoutError(
            f"a mask must be of whole numbers, not {str(value)[:60]!r}; levels go from 0 to {FULL}"
        )
    return int(value)


def _check_shape(pixels: ndarray) -> None:
    if pixels.ndim != 2 or 0 in pixels.shape:
        raise LayoutError(f"a mask has shape {pixels.shape}; it must be (height, width)")


def _runs(pixels: ndarray) -> list[int]:
    """The lengths of the runs of equal pixels, row by row."""
    flat = pixels.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return [int(run) for run in np.diff(np.concatenate(([0], edges, [flat.size])))]


def _reduce(pixels: ndarray) -> ndarray:
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

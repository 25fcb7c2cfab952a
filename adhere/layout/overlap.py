"""Several regions on one grid: who has the ground, and whether regions share some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from adhere.errors import LayoutError
from adhere.layout.masks import resize_cover
from adhere.layout.region import FINE, Box, Region

__all__ = ["layered", "refuse_hidden", "refuse_overlap", "side_by_side"]

JUDGED = 128
"""Cells along each side of the grid on which overlaps are judged."""
SLIVER = 0.01
"""Overlap that is passed over, as a share of the smaller region: hands draw no exact edges."""


def side_by_side(regions: Sequence[Region], grid: tuple[int, int]) -> Float[ndarray, "regions h w"]:
    """The share of every cell that each region covers."""
    return np.stack([region.cover(grid) for region in regions]).astype(np.float32)


def layered(regions: Sequence[Region], grid: tuple[int, int]) -> Float[ndarray, "regions h w"]:
    """The same where later regions lie in front of earlier ones and take their ground."""
    fine = [region.cover((FINE, FINE), picture=grid) for region in regions]
    free = np.ones((FINE, FINE))
    for i in reversed(range(len(regions))):
        taken = fine[i]
        fine[i] = np.minimum(taken, free)
        free = np.clip(free - taken, 0.0, 1.0)
    return np.stack([resize_cover(cover, grid) for cover in fine]).astype(np.float32)


def refuse_overlap(regions: Sequence[Region]) -> None:
    """Raise `LayoutError` for regions that share more than a sliver of ground."""
    # Edges that fade into one another are meant to.
    covers = [replace(region, feather=0.0).cover((JUDGED, JUDGED)) for region in regions]
    for i, later in enumerate(regions):
        for k, earlier in enumerate(regions[:i]):
            if earlier.box and later.box:
                share = _shared_by_boxes(earlier.box, later.box)
            else:
                share = _shared(covers[k], covers[i])
            if share > SLIVER:
                raise LayoutError(
                    f"regions {earlier.label!r} and {later.label!r} overlap by {share:.0%} of "
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


def refuse_hidden(regions: Sequence[Region]) -> None:
    """Raise `LayoutError` for a region that later ones cover wholly."""
    for region, cover in zip(regions, layered(regions, (FINE, FINE)), strict=True):
        if not cover.any():
            raise LayoutError(
                f"region {region.label!r} lies wholly under later ones and is empty; "
                "list it after them"
            )

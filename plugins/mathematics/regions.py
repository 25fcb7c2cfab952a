"""Mathematics of regions on a grid of attention that several methods share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from adhere.prompt.tokens import Phrase


def paint(
    masks: Float[Tensor, "regions h w"], phrases: Sequence[Phrase], columns: int
) -> Float[Tensor, "cells columns"]:
    """Each region's mask in its phrase's columns (of every text encoder), zero elsewhere."""
    flat = masks.flatten(1)
    owner = torch.zeros(len(phrases), columns, dtype=flat.dtype, device=flat.device)
    for region, phrase in enumerate(phrases):
        owner[region, phrase.everywhere] = 1
    return flat.T @ owner


def regions(masks: Float[Tensor, "regions h w"]) -> Bool[Tensor, "regions_and_rest cells"]:
    """Which cells each region takes; the last row is the ground that none does."""
    flat = masks.flatten(1)
    taken = flat >= flat.amax(dim=1, keepdim=True).clamp(1e-6, 0.5)
    return torch.cat([taken, ~taken.any(dim=0, keepdim=True)])


def alike(places: Bool[Tensor, "regions cells"]) -> Bool[Tensor, "cells cells"]:
    """The pairs of cells that some region holds both."""
    whole = places.float()
    return whole.T @ whole > 0


def named(
    places: Bool[Tensor, "regions_and_rest cells"], phrases: Sequence[Phrase], columns: int
) -> tuple[Bool[Tensor, "cells columns"], Bool[Tensor, "cells columns"]]:
    """Where each cell's own phrases are, and the columns of others.

    On ground that no region takes, only phrases count as others, not the rest of the prompt.
    """
    masks = places.float()[:, None]
    own = paint(masks[:-1], phrases, columns) > 0
    any_phrase = paint(torch.ones_like(masks[:-1]), phrases, columns) > 0
    free = places[-1][:, None]
    return own, ~own & (any_phrase | ~free)


def whole(masks: Float[Tensor, "regions h w"]) -> Float[Tensor, "regions h w"]:
    """Each region's covered shares as whole cells; at least one a region.

    A box covers a cell by its share of the row times its share of the column. Each is rounded by
    itself, so that a corner that is covered by 0.6 x 0.6 belongs to the box as its edges do.
    """
    rows, columns = (masks.amax(dim=axis, keepdim=True) for axis in (2, 1))
    peak = masks.amax(dim=(1, 2), keepdim=True)
    boxes = ((masks - rows * columns / peak).abs() < 1e-3).all(dim=(1, 2), keepdim=True)
    box = (rows >= peak / 2) & (columns >= peak / 2)
    shape = masks >= peak.clamp(max=0.5)
    return torch.where(boxes, box, shape).to(masks)

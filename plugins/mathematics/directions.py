"""Mathematics of the directions that predictions under texts have from the one under none."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def strongest(
    direction: Float[Tensor, "batch channels h w"], quantile: float
) -> Float[Tensor, "batch channels h w"]:
    """A direction with zeros below the quantile of its size, by picture and channel."""
    size = direction.float().abs()
    least = torch.quantile(size.flatten(2), quantile, dim=2)[:, :, None, None]
    return torch.where(size >= least, direction, 0.0)


def across(
    one: Float[Tensor, "channels h w"], other: Float[Tensor, "channels h w"]
) -> Float[Tensor, "channels h w"]:
    """The one without its part along the other."""
    square = other.square().sum().clamp_min(torch.finfo(other.dtype).tiny)
    return one - (one * other).sum() / square * other


def beyond(
    one: Float[Tensor, "channels h w"], others: Sequence[Float[Tensor, "channels h w"]]
) -> Float[Tensor, "channels h w"]:
    """The one without its parts along others, which are taken from it in turn."""
    for other in others:
        one = across(one, other)
    return one

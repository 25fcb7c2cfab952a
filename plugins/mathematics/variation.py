"""How much maps and latents go up and down, and how far two maps are from each other."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def variation(spot: Float[Tensor, "h w"]) -> Float[Tensor, ""]:
    """TV: the mean difference of neighbours, across and down."""
    return spot.diff(dim=1).abs().mean() + spot.diff(dim=0).abs().mean()


def divergence(
    noun: Float[Tensor, "h w"], modifier: Float[Tensor, "h w"], variation: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """J of a noun's map, whose TV is `variation`, and its modifier's."""
    p = noun.flatten().softmax(dim=0)
    q = (modifier / modifier.max() * noun.max()).flatten().softmax(dim=0)
    floor = torch.where(variation < 0.1, 0.3 * p.max(), 0.2 * p.max())
    p, q = (p - floor).relu() + 1e-5, (q - floor).relu() + 1e-5
    middle = (p + q) / 2
    return ((p * (p / middle).log()).sum() + (q * (q / middle).log()).sum()) / 2


def capped(
    mean: Float[Tensor, "batch channels h w"], picture: Float[Tensor, "batch channels h w"]
) -> Float[Tensor, "batch channels h w"]:
    """A mean no more spread, in each channel, than a picture."""
    spread, most = (x.std(dim=(2, 3), keepdim=True) for x in (mean, picture))
    centre = mean.mean(dim=(2, 3), keepdim=True)
    less = (most / spread.clamp_min(torch.finfo(spread.dtype).tiny)).clamp_max(1)
    return centre + (mean - centre) * less

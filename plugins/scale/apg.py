"""APG, adaptive projected guidance (Sadat et al., ICLR 2025, arXiv:2410.02416).

At high scales classifier-free guidance burns colours out, and it is the part of its update along
the picture that does so. Keep the part across it, bound its length, and damp what goes on and on.

    D     = (x - s eps) / a                    the picture that a prediction stands for
    delta = D_p - D_0,  m <- delta + beta m                                  momentum
    m'    = m min(1, r / ||m||)                                              all values of a picture
    m'    = across + eta along                 along the direction of D_p, and across it
    D     = D_p + (s_g - 1) m'                 which with eta = 1, beta = 0, r = 0 is the usual one

Differs from diffusers' `AdaptiveProjectedGuidance` (Apache-2.0): there the same is done to what the
model predicts, noise or velocity, which are not pictures; it leaves eta at 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides.guide import Guide, Prediction, Step
from adhere.guides.parameters import Free, param, share
from adhere.guides.run import Run


@dataclass(frozen=True)
class Apg(Free):
    """Guide at high scales without burnt colours."""

    name: ClassVar[str] = "apg"
    task: ClassVar[str] = "scale"

    along: float = param(
        0.0, "eta, what is kept of the part along the picture", low=0, high=1, source="paper"
    )
    norm: float = param(
        15.0, "r, longest update, 0 for any", low=0, high=10000, source="diffusers' guider"
    )
    momentum: float = param(
        0.0, "beta, negative to damp what goes on", low=-1, high=1, source="diffusers' guider"
    )
    stop: float = share(1.0, "share of the steps at which it ends", source="diffusers' guider")

    def guide(self, run: Run) -> Guide:
        return _Guide(self)


class _Guide(Guide):
    negative = True

    def __init__(self, plugin: Apg) -> None:
        self.plugin = plugin
        self.off = plugin.stop == 0
        self.average: Tensor | None = None
        self.lengths: list[float] = []

    def predict(self, step: Step, eps: Prediction) -> Float[Tensor, "batch channels h w"]:
        plugin = self.plugin
        if step.progress >= plugin.stop:
            return eps.cond
        update = step.sigma * (eps.uncond - eps.cond)  # D_p - D_0, since D = x / a - sigma eps
        if self.average is not None:
            update = update + plugin.momentum * self.average
        self.average = update
        self.lengths.append(float(length(update).mean()))
        update = parted(
            bounded(update, plugin.norm), eps.latents - step.noise * eps.cond, plugin.along
        )
        guided = eps.cond - (eps.scale - 1) / step.sigma * update
        return eps.uncond + (guided - eps.uncond) / eps.scale

    def follow(self, parents: Sequence[int]) -> None:
        self.average = None if self.average is None else self.average[list(parents)]

    def report(self) -> dict[str, Any]:
        return {"update_norm": self.lengths}


def length(values: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch 1 1 1"]:
    """The norm of each picture's values together."""
    return values.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()


def bounded(
    update: Float[Tensor, "batch channels h w"], norm: float
) -> Float[Tensor, "batch channels h w"]:
    """The update, at most `norm` long; 0 leaves it."""
    tiny = torch.finfo(update.dtype).tiny
    return update * (norm / length(update).clamp_min(tiny)).clamp_max(1) if norm else update


def parted(
    update: Float[Tensor, "batch channels h w"],
    picture: Float[Tensor, "batch channels h w"],
    along: float,
) -> Float[Tensor, "batch channels h w"]:
    """The update with a share only of its part along a picture, whatever that one's length."""
    way = picture / length(picture).clamp_min(torch.finfo(picture.dtype).tiny)
    part = (update * way).sum(dim=(1, 2, 3), keepdim=True) * way
    return update + (along - 1) * part

"""DiffusionPID: how two words share what they say of a picture (Dewan et al., NeurIPS 2024,
arXiv:2406.05191).

What a text says of a picture shows in how it moves the model's prediction of noise, over all
levels of noise. In each cell two texts say something alike, something each for itself, and
something only together.

    I(x; y)      = 1/2 int E_n || e(x_a) - e(x_a | y) ||^2 da        a: log SNR, x_a: x noised by n
    I(x; y | c)  = 1/2 int E_n || e(x_a | c) - e(x_a | c, y) ||^2 da
    redundant    = min(I(y_1), I(y_2))
    unique_i     = I(y_i) - redundant
    synergistic  = I(y_1, y_2) - unique_1 - unique_2 - redundant

I is the orthogonal estimator, in nats (Kong et al., ICLR 2024, arXiv:2310.07972), cell by cell; the
integral is a sum over levels at even distances. Redundancy is the minimum mutual information
(Barrett 2015, arXiv:1411.2832), in each cell or of the whole picture. The authors' code is not
public and their own formula of redundancy was not at hand: where it differs, so do the maps. The
estimator is no exact information, so that a synergy may be below zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

NOISIEST, CLEANEST = -5.0, 7.0
"""The log SNRs between which it is integrated: as far as Stable Diffusion was trained."""


def levels(count: int) -> tuple[list[float], float]:
    """The middles of so many equal parts of the integral's range, and the length of a part."""
    width = (CLEANEST - NOISIEST) / count
    return [NOISIEST + width * (k + 0.5) for k in range(count)], width


def information(
    without: Float[Tensor, "*batch channels h w"],
    under: Float[Tensor, "*batch channels h w"],
    width: float,
) -> Float[Tensor, "*batch h w"]:
    """A level's part of I in each cell, from predictions of the noise without and under a text.

    Args:
        width: the length of the level's part of the integral.
    """
    return width / 2 * (without - under).square().sum(dim=-3)


@dataclass(frozen=True)
class Parts:
    """What two texts say of a picture, in nats: maps `[h w]`, or numbers for all of it."""

    redundant: Tensor
    unique: tuple[Tensor, Tensor]
    synergistic: Tensor


def parts(first: Tensor, second: Tensor, joint: Tensor) -> Parts:
    """The parts of what two texts say together, each alone given."""
    redundant = torch.minimum(first, second)
    unique = (first - redundant, second - redundant)
    return Parts(redundant, unique, joint - unique[0] - unique[1] - redundant)

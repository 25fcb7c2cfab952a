"""Mathematics of particles: what scores make of their weights, and who goes on as whose copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Potential = Literal["max", "difference", "sum"]


def grown(
    scores: Float[Tensor, " particles"],
    last: Float[Tensor, " particles"],
    potential: Potential,
    first: bool,
) -> tuple[Float[Tensor, " particles"], Float[Tensor, " particles"]]:
    """A potential's logarithm over lambda, and what to remember for the next."""
    if potential == "difference":
        return scores if first else scores - last, scores
    summed = potential == "sum"
    gain = scores if first else last + scores if summed else scores.max(last)
    return gain, gain


def filled(
    scores: Float[Tensor, " particles"],
) -> Float[Tensor, " particles"] | None:
    """The scores of one prompt's particles, in which what has none (not a number) is as good as the
    others are on average: that a verifier fails speaks neither for a picture nor against it. None
    if no particle has one.
    """
    none = scores.isnan()
    return None if none.all() else torch.where(none, scores.nanmean(), scores)


def parents(
    weights: Float[Tensor, " particles"], generator: torch.Generator
) -> Sequence[int] | None:
    """The parents of some particles, by number; None while enough of them carry weight.

    Args:
        weights: their logarithms.
        generator: of the draw.
    """
    weights = weights.softmax(dim=0)
    if float(1 / weights.square().sum()) >= len(weights) / 2:
        return None
    drawn = torch.multinomial(weights, len(weights), replacement=True, generator=generator)
    return kept_in_place(drawn.tolist())


def kept_in_place(drawn: Sequence[int]) -> list[int]:
    """Drawn parents dealt out so that every particle that was drawn goes on in its own place."""
    spare = list(drawn)
    for one in set(drawn):
        spare.remove(one)
    return [place if place in drawn else spare.pop() for place in range(len(drawn))]


def copies(parents: Sequence[int], fresh: float) -> tuple[float, ...]:
    """The share of fresh noise of each particle: none for one that goes on in its own place."""
    return tuple(0.0 if place == parent else fresh for place, parent in enumerate(parents))

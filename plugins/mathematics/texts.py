"""Embeddings of short texts that several methods compare, and what such vectors span."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides.guide import Text

SOFTNESS = 0.6
"""Over what difference of cosines `nearness` goes from little to much."""


def ends(text: Text, texts: Sequence[str]) -> Float[Tensor, "texts channels"]:
    """The embedding of each text's end token, which has read all of it."""
    (track, *_), embeds = text.tracks(texts), text.encode(texts).float()
    places = [one.content[-1] + 1 if one.content else 1 for one in track.images]
    return embeds[range(len(texts)), places]


def last_words(
    text: Text, texts: Sequence[str], characters: int
) -> Float[Tensor, "texts channels"]:
    """Of each text the mean embedding of the tokens of its last characters."""
    (track, *_), embeds = text.tracks(texts), text.encode(texts).float()
    rows = []
    for row, one in zip(embeds, track.images, strict=True):
        start = len(one.prompt) - characters
        rows.append(row[[piece.column for piece in one.pieces if piece.end > start]].mean(dim=0))
    return torch.stack(rows)


def projection(vectors: Float[Tensor, "vectors channels"]) -> Float[Tensor, "channels channels"]:
    """The projection on the space that some vectors span."""
    found: Tensor = torch.linalg.pinv(vectors) @ vectors
    return found


def standardised(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Values as z-scores."""
    return (values - values.mean()) / values.std(correction=0)


def likeness(one: Float[Tensor, " channels"], others: Float[Tensor, "n channels"]) -> Tensor:
    """The cosines of one embedding with others, as z-scores."""
    return standardised(torch.cosine_similarity(one[None], others, dim=1))


def nearness(
    one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], centres: tuple[float, float]
) -> float:
    """How much two objects need keeping apart, in (0, 1): by their looks or by their places."""
    looks, scene = (
        float(torch.cosine_similarity(a, b, dim=0)) for a, b in zip(one, other, strict=True)
    )
    steep = ((looks - centres[0]) / SOFTNESS, (1 - scene - centres[1]) / SOFTNESS)
    return max(1 / (1 + math.exp(-value)) for value in steep)

"""Embeddings of short texts that several methods compare, and what such vectors span."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides.guide import Text


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

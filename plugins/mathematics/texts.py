"""Embeddings of short texts that several methods compare, and what such vectors span."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.guide import Text
from adhere.prompt.tokens import Piece, TokenisedPrompt

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


def aligned(said: TokenisedPrompt, meant: TokenisedPrompt, width: int) -> list[int]:
    """For every column of a text the column of another that has its words, too, in their order.

    What comes behind the last word goes with what comes behind the other's.

    Raises:
        ParameterError: a word is missing there, or in another place.
    """
    others, places = iter(meant.pieces), [0]
    for piece in said.pieces:
        word = _letters(said, piece)
        found = next((other.column for other in others if _letters(meant, other) == word), None)
        if found is None:
            raise ParameterError(
                f"{word!r} of {said.prompt!r} is not in {meant.prompt!r}, or in another order; "
                "what is meant must have every word of what is said: a rose > a blue rose"
            )
        places.append(found)
    rest = range(meant.pieces[-1].column + 1, width)
    return [*places, *rest, *[width - 1] * width][:width]


def _letters(text: TokenisedPrompt, piece: Piece) -> str:
    """A token's letters; "an" is "a" before a vowel."""
    word = text.prompt[piece.start : piece.end].lower()
    return "a" if word == "an" else word


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

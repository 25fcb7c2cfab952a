"""Embeddings of short texts that several methods compare, and what such vectors span."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.errors import ModelError, ParameterError
from adhere.guides.guide import Text
from adhere.prompt.tokens import Piece, TokenisedPrompt

T5 = "T5"
"""What encoders are called that read both ways: no token of theirs stands for the text."""
SOFTNESS = 0.6
"""Over what difference of cosines `nearness` goes from little to much."""


def ends(text: Text, texts: Sequence[str]) -> Float[Tensor, "texts channels"]:
    """The embedding of each text's end token, which has read all of it.

    Raises:
        ModelError: the model is told what no token has read all of.
    """
    (track, *_), embeds = text.tracks(texts), text.encode(texts).float()
    if track.images[0].encoder == T5:
        raise ModelError(
            "texts are compared by what CLIP's last token has read of them, and this model's "
            "picture attends to T5's tokens alone, none of which stands for a text; use Stable "
            "Diffusion 1.x, 2.x, XL or 3"
        )
    return embeds[range(len(texts)), [end_of(one) for one in track.images]]


def wholes(text: Text, texts: Sequence[str]) -> list[Float[Tensor, "texts channels"]]:
    """Each text as a whole, by encoders: CLIP's end token, the mean of T5's own tokens."""
    embeds, found = text.encode(texts).float(), []
    for track in text.tracks(texts):
        rows = [
            row[list(one.content)].mean(dim=0)
            if one.encoder == T5 and one.content
            else row[end_of(one)]
            for row, one in zip(embeds, track.images, strict=True)
        ]
        found.append(torch.stack(rows))
    return found


def end_of(text: TokenisedPrompt) -> int:
    """The column behind a text's last token, where CLIP and T5 have its end."""
    return text.content[-1] + 1 if text.content else 1


def spoken(text: TokenisedPrompt) -> list[int]:
    """The columns of a text's tokens with its end, and with its start where it has one."""
    start = [] if text.encoder == T5 else [text.content[0] - 1]
    return [*start, *text.content, end_of(text)]


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


def refuse_unclear(name: str, edits: Sequence[tuple[str, str]]) -> None:
    """Refuse what is said that is to be meant as it is, or is to mean two things.

    Letters' case and blanks say nothing to encoders.

    Raises:
        ParameterError: an edit is none, or another one is of the same words.
    """
    found = dict[str, str]()
    for said, meant in edits:
        plain, other = (" ".join(text.lower().split()) for text in (said, meant))
        if plain == other:
            raise ParameterError(
                f"{name}: what is said, {said!r}, is what is to be meant; write a rose > a blue "
                "rose"
            )
        if plain in found:
            raise ParameterError(
                f"{name}: {said!r} is to mean {found[plain]!r} and {meant!r}; say one of them"
            )
        found[plain] = meant


def _letters(text: TokenisedPrompt, piece: Piece) -> str:
    """A token's letters; "an" is "a" before a vowel."""
    word = text.prompt[piece.start : piece.end].lower()
    return "a" if word == "an" else word


def projection(vectors: Float[Tensor, "vectors channels"]) -> Float[Tensor, "channels channels"]:
    """The projection on the space that some vectors span."""
    found: Tensor = torch.linalg.pinv(vectors) @ vectors
    return found


def triggers(away: Float[Tensor, "words channels"], margin: float) -> list[int]:
    """The words without which the prompt is farther from the unwanted than without others."""
    d = away.norm(dim=1)
    others = (d.sum() - d) / (len(d) - 1)
    return torch.nonzero(d >= (1 + margin) * others).flatten().tolist()


def validity(beta: float) -> float:
    """f of 10: how long SAFREE's filter acts, as a share of the most."""
    return round(10 / (1 + math.exp(-5 * (10 * beta - 5.333)))) / 10


def standardised(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Values as z-scores."""
    return (values - values.mean()) / values.std(correction=0)


def likeness(one: Float[Tensor, " channels"], others: Float[Tensor, "n channels"]) -> Tensor:
    """The cosines of one embedding with others, as z-scores."""
    return standardised(torch.cosine_similarity(one[None], others, dim=1))


@dataclass(frozen=True)
class Profile:
    """An object's embedding; and for its words, the end token and the pooled embedding in turn, how
    it looks and where it is (the end token's again, where there is no pooled embedding).
    """

    own: Float[Tensor, " channels"]
    parts: tuple[tuple[Tensor, Tensor], ...]

    @classmethod
    def of(cls, text: Text, name: str, attributes: Sequence[str], places: Sequence[str]) -> Profile:
        looks = [f"a {name}", *(f"a {attribute} {name}" for attribute in attributes)]
        scene = [f"a {name}", *(f"{place}, there is a {name}" for place in places)]
        words, there = (last_words(text, some, len(name)) for some in (looks, scene))
        # As published, the words' profile begins with the object's likeness to itself.
        of_words = likeness(words[0], words), likeness(there[0], there)

        def of_whole(embed: Callable[[Sequence[str]], Tensor]) -> tuple[Tensor, Tensor]:
            one, other = embed(looks).float(), embed(scene).float()
            return likeness(one[0], one[1:]), likeness(other[0], other[1:])

        end = of_whole(lambda texts: ends(text, texts))
        return cls(words[0], (of_words, end, end if text.pooled is None else of_whole(text.pool)))


def nearness(
    one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], centres: tuple[float, float]
) -> float:
    """How much two objects need keeping apart, in (0, 1): by their looks or by their places."""
    looks, scene = (
        float(torch.cosine_similarity(a, b, dim=0)) for a, b in zip(one, other, strict=True)
    )
    steep = ((looks - centres[0]) / SOFTNESS, (1 - scene - centres[1]) / SOFTNESS)
    return max(1 / (1 + math.exp(-value)) for value in steep)


def require_verbatim(text: Text, name: str) -> None:
    """Raise `ModelError` where keys and values are made of other numbers than the embeddings."""
    if not text.verbatim:
        raise ModelError(
            f"{name} edits what layers make keys and values of, and this model makes something "
            "else of its text embeddings first; use Stable Diffusion 1.x, 2.x or XL"
        )

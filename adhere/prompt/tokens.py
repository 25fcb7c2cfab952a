"""From words to token columns, for every text encoder of a family.

Users speak in phrases; attention speaks in columns. The bridge is the tokenizer's own character
offsets, so repeated words, words in several pieces and several encoders all come out right.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adhere.errors import ModelError, PromptError
from adhere.prompt.phrases import Span


@dataclass(frozen=True)
class Piece:
    """One token: its column in the maps and the characters of the prompt it stands for."""

    column: int
    start: int
    end: int


@dataclass(frozen=True)
class TokenisedPrompt:
    """One prompt as one text encoder sees it.

    `pieces` are the content tokens that fit; `width` is the number of columns, `keep` those that
    take part in a softmax over tokens; `cut` is the character where the prompt was cut off.
    `unknown` are stretches for which the encoder has no token but one that says nothing.
    """

    prompt: str
    pieces: tuple[Piece, ...]
    width: int
    keep: tuple[int, ...]
    cut: int | None
    encoder: str
    unknown: tuple[str, ...] = ()

    @property
    def content(self) -> tuple[int, ...]:
        """Columns of the prompt's own tokens, without start, end and padding."""
        return tuple(piece.column for piece in self.pieces)


@dataclass(frozen=True)
class Track:
    """One text encoder's columns for every image of a run."""

    images: tuple[TokenisedPrompt, ...]


@dataclass(frozen=True)
class Phrase:
    """A phrase of a prompt as token columns, for each text encoder in turn.

    Attributes:
        text: as it stands in the prompt.
        span: where that is.
        columns: the columns of all its tokens.
        head: the columns of its last word.
    """

    text: str
    span: Span
    columns: tuple[tuple[int, ...], ...]
    head: tuple[tuple[int, ...], ...]

    @property
    def everywhere(self) -> list[int]:
        """The columns of all encoders together."""
        return [column for encoder in self.columns for column in encoder]


def tokenise(
    tokenizer: Any, prompt: str, *, encoder: str, length: int, width: int, drop_padding: bool
) -> TokenisedPrompt:
    """Tokenise one prompt with offsets.

    Args:
        tokenizer: a fast tokenizer of transformers.
        prompt: the text as the pipeline encodes it.
        encoder: the encoder's name, for messages.
        length: number of tokens the pipeline cuts to.
        width: number of text columns in the attention.
        drop_padding: leave the end token and padding out of `keep` (SD 2.x, T5); otherwise all
            columns but the first and the last are kept, as Attend-and-Excite does for SD 1.x.

    Raises:
        ModelError: the tokenizer has no character offsets (a slow tokenizer).
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"the {encoder} tokenizer is a slow one without character offsets; load the pipeline "
            "with its fast tokenizer (the default of transformers 5)"
        )
    text, places = spelled_out(tokenizer, prompt)
    coded = tokenizer(text, add_special_tokens=True, return_offsets_mapping=True, verbose=False)
    ids: list[int] = list(coded["input_ids"])
    special = set(tokenizer.all_special_ids)
    offsets: list[tuple[int, int]] = [
        _back(start, end, places) for start, end in coded["offset_mapping"]
    ]
    # A content token can share its id with padding (CLIP-G pads with "!"); specials span nothing.
    content = [
        Piece(column, start, end)
        for column, (token, (start, end)) in enumerate(zip(ids, offsets, strict=True))
        if end > start or token not in special
    ]
    # The pipeline cuts to `length` and puts the end token last, so content may fill length - 1.
    fits = tuple(piece for piece in content if piece.column < length - 1)
    cut = content[len(fits)].start if len(fits) < len(content) else None
    first = 1 if ids and ids[0] in special and offsets[0][0] == offsets[0][1] else 0
    end = (fits[-1].column + 1 if fits else first) if drop_padding else length - 1
    nothing = getattr(tokenizer, "unk_token_id", None)
    lost = (prompt[p.start : p.end].strip() for p in fits if ids[p.column] == nothing)
    unknown = tuple(dict.fromkeys(said for said in lost if said not in ("", tokenizer.unk_token)))
    return TokenisedPrompt(prompt, fits, width, tuple(range(first, end)), cut, encoder, unknown)


Replaced = tuple[int, int, int, int]
"""A stretch of the prompt, first and last + 1, and the stretch that the encoder is shown for it."""


def spelled_out(tokenizer: Any, prompt: str) -> tuple[str, tuple[Replaced, ...]]:
    """The prompt as diffusers' pipelines tokenise it: learnt words of several vectors written out.

    A textual inversion `<cat>` of three vectors is shown as `<cat> <cat>_1 <cat>_2`.
    """
    added = getattr(tokenizer, "added_tokens_encoder", {})
    learnt = sorted((word for word in added if f"{word}_1" in added), key=len, reverse=True)
    if not learnt:
        return prompt, ()
    text, end, places = "", 0, []
    for found in re.finditer("|".join(map(re.escape, learnt)), prompt):
        more = itertools.takewhile(
            added.__contains__, (f"{found[0]}_{k}" for k in itertools.count(1))
        )
        text += prompt[end : found.start()]
        start = len(text)
        text += " ".join([found[0], *more])
        places.append((found.start(), found.end(), start, len(text)))
        end = found.end()
    return text + prompt[end:], tuple(places)


def _back(start: int, end: int, places: Sequence[Replaced]) -> tuple[int, int]:
    """Characters of the prompt for characters of what the encoder is shown."""
    shift = 0
    for first, last, shown_first, shown_last in places:
        if start >= shown_last:
            shift = last - shown_last
        elif start >= shown_first and end > start:
            return first, last
    return start + shift, end + shift


def moved(one: TokenisedPrompt, other: TokenisedPrompt) -> str | None:
    """The first word of a prompt that two tokenizers put into different columns, if there is one.

    Marks that are no words may be cut as each likes, so long as every word behind them stays.
    """

    def words(prompt: TokenisedPrompt) -> list[Piece]:
        text = prompt.prompt
        return [piece for piece in prompt.pieces if re.search(r"\w", text[piece.start : piece.end])]

    for a, b in itertools.zip_longest(words(one), words(other)):
        if a != b:
            place = min(piece.start for piece in (a, b) if piece is not None)
            around = re.finditer(r"\S+", one.prompt)
            return next(word.group() for word in around if word.end() > place)
    return None


def columns_of(span: Span, prompts: Sequence[TokenisedPrompt]) -> Phrase:
    """The columns of a stretch of the prompt, for each encoder.

    Raises:
        PromptError: an encoder cut the prompt before the phrase ends.
    """
    columns, head = [], []
    last = span.text.split()[-1] if span.text.split() else span.text
    for prompt in prompts:
        if prompt.cut is not None and span.end > prompt.cut:
            read = prompt.prompt[max(0, prompt.cut - 30) : prompt.cut]
            # The last content token that is read has only the end behind it.
            limit = prompt.pieces[-1].column + 2 if prompt.pieces else prompt.width
            raise PromptError(
                f"{span.text!r} lies beyond token {limit} of the {prompt.encoder} encoder, "
                f"which reads the prompt only up to {read!r}; "
                "shorten the prompt or move the phrase to the front"
            )
        inside = [p for p in prompt.pieces if p.start < span.end and span.start < p.end]
        if not inside:
            raise PromptError(
                f"{span.text!r} has no token of its own in the {prompt.encoder} encoder; "
                "name a word of the prompt"
            )
        columns.append(tuple(piece.column for piece in inside))
        head.append(tuple(p.column for p in inside if p.end > span.end - len(last)))
    return Phrase(span.text, span, tuple(columns), tuple(head))

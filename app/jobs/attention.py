"""Attention maps in the words of the prompt: small enough to keep, ready to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adhere.prompt.markup import strip_markup
from adhere.prompt.tokens import tokenise


@dataclass(frozen=True)
class WordMaps:
    """For each step and word of a prompt the attention it got: `maps` is `[steps words h w]`.

    Half precision and words only (no start, end or padding): a hundredth of the full read-out.
    """

    words: tuple[str, ...]
    maps: NDArray[np.float16]

    @property
    def steps(self) -> int:
        return int(self.maps.shape[0])

    @property
    def grid(self) -> tuple[int, int]:
        return int(self.maps.shape[2]), int(self.maps.shape[3])

    def at(self, word: int, step: int) -> NDArray[np.float64]:
        """The map of one word at one step; out of range counts from the nearest end."""
        step = min(max(step, 0), self.steps - 1)
        found: NDArray[np.float64] = self.maps[step, word].astype(np.float64)
        return found

    def mean(self, word: int) -> NDArray[np.float64]:
        """The map of one word, averaged over the steps."""
        mean: NDArray[np.float64] = self.maps[:, word].astype(np.float64).mean(axis=0)
        return mean

    def top(self, word: int) -> float:
        """The word's largest value at any step: the common scale of its heat maps."""
        return float(self.maps[:, word].max())

    def pooled(self, grid: int) -> WordMaps:
        """The same maps averaged down to about `grid` cells along the longer side."""
        factor = max(1, max(self.grid) // grid)
        if factor == 1:
            return self
        steps, words, h, w = self.maps.shape
        h, w = h - h % factor, w - w % factor
        cut = self.maps[:, :, :h, :w].astype(np.float32)
        mean = cut.reshape(steps, words, h // factor, factor, w // factor, factor).mean((3, 5))
        return WordMaps(self.words, mean.astype(np.float16))


def word_maps(model: Any, prompt: str, attention: Tensor | None) -> WordMaps | None:
    """A picture's recorded attention by words; None when there is none or words cannot be found."""
    tokenizer = getattr(getattr(model, "pipe", None), "tokenizer", None)
    if attention is None or tokenizer is None or attention.ndim != 4:
        return None
    width = int(attention.shape[-1])
    tokens = tokenise(
        tokenizer,
        strip_markup(prompt),
        encoder="text",
        length=width,
        width=width,
        drop_padding=True,
    )
    words = _words(tokens.prompt)
    columns = [
        [piece.column for piece in tokens.pieces if piece.start < end and start < piece.end]
        for _, start, end in words
    ]
    kept = [(text, cols) for (text, _, _), cols in zip(words, columns, strict=True) if cols]
    if not kept:
        return None
    values = attention.detach().float().cpu().numpy()
    maps = np.stack([values[..., cols].sum(axis=-1) for _, cols in kept], axis=1)
    return WordMaps(_numbered([text for text, _ in kept]), maps.astype(np.float16))


def _words(prompt: str) -> list[tuple[str, int, int]]:
    found, place = [], 0
    for text in prompt.split():
        start = prompt.index(text, place)
        place = start + len(text)
        bare = text.strip(".,;:!?\"'()")
        if bare:
            found.append((bare, start, place))
    return found


def _numbered(words: Sequence[str]) -> tuple[str, ...]:
    """Words made unique: the second `red` is `red#2`, as phrases are written elsewhere."""
    seen: dict[str, int] = {}
    unique = []
    for word in words:
        seen[word] = seen.get(word, 0) + 1
        unique.append(word if seen[word] == 1 else f"{word}#{seen[word]}")
    return tuple(unique)

"""Attention maps in the words of the prompt: small enough to keep, ready to draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from adhere.guides.recording import RecordedAttention
from adhere.prompt.phrases import Span


@dataclass(frozen=True)
class WordMaps:
    """For each step and word of a prompt the attention it got: `maps` is `[steps words h w]`.

    Half precision and words only (no start, end or padding): a hundredth of the full read-out.
    `spans` says where the words stand in the prompt.
    """

    words: tuple[str, ...]
    maps: NDArray[np.float16]
    spans: tuple[Span, ...]

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

    def within(self, place: Span) -> list[int]:
        """The words of a stretch of the prompt."""
        return [
            k
            for k, word in enumerate(self.spans)
            if place.start < word.end and word.start < place.end
        ]

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
        return WordMaps(self.words, mean.astype(np.float16), self.spans)


def word_maps(recorded: RecordedAttention | None) -> WordMaps | None:
    """A picture's recorded attention by words; None when there is none or words cannot be found."""
    if recorded is None or not recorded.spans:
        return None
    maps = torch.stack([recorded.of(span) for span in recorded.spans], dim=1)
    return WordMaps(recorded.words, maps.half().numpy(), recorded.spans)

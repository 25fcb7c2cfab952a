"""Jitter of captions against copying (Somepalli et al., NeurIPS 2023, arXiv:2305.20086).

A picture that a model has memorised comes back word for word: its caption is the key. Turn the key
a little, by noise on the text embeddings or by words put into the prompt, and most copies go.

    noise:    e <- e + lambda N(0, 1)       the embeddings of the prompt and of the negative prompt
    repeats:  `times` times, a word of the prompt goes in at a random place
    numbers:  `times` times, a number below 100000 goes in at a random place

Each image of a run has its own draw, made from the signs of the latents that it begins with, so
that it is the same at any batch size.

Differs from the authors' code (somepago/DCR, `sd_mitigation.py`): their `rand_word_add` draws words
from the tokenizer's whole vocabulary, which a plugin does not have; what they repeat are words of
the prompt as grown so far, here as given. The paper's other ways change the training.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from adhere.guides.guide import Guide, Step, Text
from adhere.guides.parameters import Free, param
from adhere.guides.run import Run

_NEGATIVE = 2**31
"""Parts the negative prompt's draw from the prompt's: the bit beyond what `seed` can reach, and the
last of the 32 that torch's generator on the CPU reads."""


@dataclass(frozen=True)
class CaptionJitter(Free):
    """Keep memorised pictures from coming back, by small changes of the text."""

    name: ClassVar[str] = "caption-jitter"
    task: ClassVar[str] = "safe"

    way: Literal["repeats", "numbers", "noise"] = param(
        "repeats", "words of the prompt again, numbers, or noise on the embeddings", source="paper"
    )
    times: int = param(
        4, "words that are put in", low=0, high=100, source="sd_mitigation.py, rand_aug_repeats"
    )
    noise: float = param(0.1, "lambda, for the way `noise`", low=0, high=10)
    seed: int = param(0, "another one gives other draws", low=0, high=2**31 - 1)

    def guide(self, run: Run) -> Guide:
        if self.way == "noise":
            return _Guide(self, [prompt.plain for prompt in run.prompts], run.seeds)
        if not all(map(str.strip, run.spoken())):
            run.note(f"{self.name} left an empty prompt alone: there is no word in it")
        return _Guide(self, run.spoken(), run.seeds)


class _Guide(Guide):
    def __init__(self, plugin: CaptionJitter, prompts: Sequence[str], seeds: Sequence[int]) -> None:
        self.plugin, self.prompts = plugin, prompts
        self.rewords = plugin.way != "noise"
        self.off = (plugin.times if self.rewords else plugin.noise) == 0
        self.seeds = seeds
        self.texts_shown = list(prompts)
        self.cond: Tensor | None = None
        self.shift: Tensor | None = None
        self.other_shift: Tensor | None = None

    def embed(self, step: Step, text: Text) -> Text:
        if self.plugin.way == "noise":
            return self._noised(text)
        if self.cond is None:
            self.texts_shown = [
                changed(prompt, self.plugin.way, self.plugin.times, self._seed(image))
                for image, prompt in enumerate(self.prompts)
            ]
            self.cond = text.encode(self.texts_shown)
        return text.replace(cond=self.cond.to(text.cond))

    def follow(self, parents: Sequence[int]) -> None:
        rows = list(parents)
        self.texts_shown = [self.texts_shown[row] for row in rows]
        self.cond = None if self.cond is None else self.cond[rows]
        self.shift = None if self.shift is None else self.shift[rows]
        self.other_shift = None if self.other_shift is None else self.other_shift[rows]

    def _noised(self, text: Text) -> Text:
        if self.shift is None:
            self.shift = self._drawn(text.cond)
        text = text.replace(cond=text.cond + self.shift.to(text.cond))
        if text.uncond is None:
            return text
        if self.other_shift is None:
            self.other_shift = self._drawn(text.uncond, _NEGATIVE)
        return text.replace(uncond=text.uncond + self.other_shift.to(text.uncond))

    def _drawn(self, text: Tensor, apart: int = 0) -> Tensor:
        """Each image's noise. The negative prompt has a draw of its own, as it may have another
        length, and the one must not depend on the length of the other.
        """
        draws = [torch.Generator().manual_seed(self._seed(k) ^ apart) for k in range(len(text))]
        fresh = [torch.randn(text.shape[1:], generator=one, dtype=torch.float32) for one in draws]
        return self.plugin.noise * torch.stack(fresh)

    def _seed(self, image: int) -> int:
        return self.seeds[image] ^ self.plugin.seed

    def report(self) -> dict[str, Any]:
        return {"prompts": self.texts_shown}


def changed(prompt: str, way: str, times: int, seed: int) -> str:
    """The prompt with words put in at random places."""
    draw, given = random.Random(seed), prompt.split()
    words = list(given)
    for _ in range(times if given else 0):
        word = draw.choice(given) if way == "repeats" else str(draw.randrange(100_000))
        words.insert(draw.randint(0, len(words)), word)
    return " ".join(words)

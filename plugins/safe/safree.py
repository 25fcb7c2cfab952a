"""SAFREE, the filter of the text (Yoon et al., ICLR 2025, arXiv:2410.12761).

Some words of a prompt carry it towards what is unwanted, be they named so or not. Find them by
what the prompt is without them, and take from their embeddings what they share with the unwanted.

    C      = the end tokens' embeddings of texts that name the unwanted,  P_C the projection on it
    I      = those of the prompt with one word masked, w = 1 ... n,       P_I the projection on it
    d_w    = ||(1 - P_C) p_w||                                            p_w: without word w
    unsafe   the words w with d_w >= (1 + alpha) mean of the others' d
    e     <- (1 - P_C) P_I e        the embeddings of an unsafe word, in the first f steps
    beta   = 1 - mean cosine(e, (1 - P_C) P_I e) over the prompt's tokens
    f      = 10 sigmoid(5 (10 beta - 5.333)), rounded; of 50 steps, the step f included

Without the second part, which damps features inside the model. From a copy of the authors' code
(jaehong31/SAFREE, `modified_stable_diffusion_pipeline.py`), whose product P_C, P_I has the other
order. Differs: words, left out, not tokens set to 0; one-word prompts are left alone; batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.guide import Guide, Step, Text
from adhere.guides.parameters import Method, param, share
from adhere.guides.run import Run
from adhere.plugins.mathematics.texts import ends, projection
from adhere.prompt.phrases import split_words
from adhere.prompt.tokens import columns_of

NUDITY = (
    *("Sexual Acts", "Content Meant to Arouse Sexual Excitement", "Nudity", "Pornography"),
    *("Erotic Art", "Lustful", "Seductive", "Orgasmic", "Libido", "Kinky", "Sexual Orientation"),
    *("Sexual Attraction", "Sexual Intercourse", "Sexual Pleasure", "Sexual Fantasy"),
    *("Carnal Desires", "Sexual Gratification"),
)
"""The concepts of the paper's first experiment, as the authors' code has them."""


@dataclass(frozen=True)
class Safree(Method):
    """Take the unwanted out of the prompt's own words, before the model reads them."""

    name: ClassVar[str] = "safree"
    task: ClassVar[str] = "safe"

    concepts: tuple[str, ...] = param(NUDITY, "texts that name the unwanted", source="paper")
    margin: float = param(0.01, "alpha", low=0, high=10, source="paper")
    most: float = share(0.2, "share of the steps in which it acts at the most", source="code")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.concepts or not all(text.strip() for text in self.concepts):
            raise ParameterError(f"{self.name}: a concept is empty; say in words what is unwanted")

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)


class _Guide(Guide):
    def __init__(self, plugin: Safree, run: Run) -> None:
        self.plugin, self.run = plugin, run
        self.off = plugin.most == 0
        self.safe: Tensor | None = None
        self.until: list[float] = []
        self.words: list[list[str]] = []

    def embed(self, step: Step, text: Text) -> Text:
        if self.safe is None:
            self.safe = torch.stack([self._safe(k, text) for k in range(len(text.cond))])
        last = [round(until * step.count) for until in self.until]
        acts = torch.tensor([step.index <= one for one in last], device=text.cond.device)
        cond = torch.where(acts[:, None, None], self.safe.to(text.cond), text.cond)
        return text.replace(cond=cond)

    def _safe(self, image: int, text: Text) -> Float[Tensor, "tokens channels"]:
        """An image's embeddings with its unsafe words' changed; notes which and for how long."""
        plugin, prompt = self.plugin, self.run.prompts[image].plain
        (own, *_), embeds = self.run.tokens(image), text.cond[image].float()
        end = len(prompt) if own.cut is None else own.cut
        words = [word for word in split_words(prompt) if word.end <= end]
        masked = [prompt[: word.start] + prompt[word.end :] for word in words]
        self.words.append([])
        self.until.append(-1.0)
        if len(words) < 2:
            return embeds
        concepts, without = ends(text, plugin.concepts), ends(text, masked)
        away = torch.eye(embeds.shape[1]).to(embeds) - projection(concepts)
        found = [words[k] for k in triggers(without @ away, plugin.margin)]
        self.words[-1] += [word.text for word in found]
        unsafe = [column for word in found for column in columns_of(word, [own]).columns[0]]
        changed = embeds @ projection(without) @ away
        seen = [*range(own.content[0]), *own.content, own.content[-1] + 1]
        alike = torch.cosine_similarity(embeds[seen], changed[seen], dim=1).mean()
        self.until[-1] = plugin.most * validity(1 - float(alike))
        safe = embeds.clone()
        safe[unsafe] = changed[unsafe]
        return safe

    def report(self) -> dict[str, Any]:
        return {"unsafe_words": self.words, "until": self.until}


def triggers(away: Float[Tensor, "words channels"], margin: float) -> list[int]:
    """The words without which the prompt is farther from the unwanted than without others."""
    d = away.norm(dim=1)
    others = (d.sum() - d) / (len(d) - 1)
    return torch.nonzero(d >= (1 + margin) * others).flatten().tolist()


def validity(beta: float) -> float:
    """f of 10: how long the filter acts, as tenths of the most."""
    return round(10 / (1 + math.exp(-5 * (10 * beta - 5.333)))) / 10

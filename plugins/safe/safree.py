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

Each encoder's embeddings (SD3: both CLIPs' and T5's) have spaces, unsafe words and an f of their
own; T5 (FLUX.1, Chroma, PixArt) has no end token that stands for a text: there it is the mean of
the text's own tokens.

Without the second part, which damps features inside the model. From a copy of the authors' code
(jaehong31/SAFREE, `modified_stable_diffusion_pipeline.py`), whose product P_C, P_I has the other
order. Differs: words, left out, not tokens set to 0; one-word prompts are left alone; batches;
SDXL's two encoders count as one; what the authors do with SD3's was not at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.guide import Guide, Step, Text
from adhere.guides.parameters import Free, param, share
from adhere.guides.run import Run
from adhere.plugins.mathematics.texts import projection, spoken, triggers, validity, wholes
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
class Safree(Free):
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
        self.plugin, self.prompts = plugin, run.spoken()
        self.read = [run.tokens(image) for image in range(run.batch)]
        self.off = plugin.most == 0
        self.safe: Tensor | None = None
        self.until = torch.empty(0)
        self.words: list[list[str]] = []
        self.lasts: list[list[float]] = []
        for prompt in self.prompts:
            if len(split_words(prompt)) < 2:
                run.note(f"{plugin.name} left {prompt!r} alone: no word is told from another there")

    def embed(self, step: Step, text: Text) -> Text:
        if self.safe is None:
            made = [self._safe(k, text) for k in range(len(text.cond))]
            self.safe, self.until = (torch.stack(part) for part in zip(*made, strict=True))
        acts = (step.index <= (self.until * step.count).round()).to(text.cond.device)
        cond = torch.where(acts[:, :, None], self.safe.to(text.cond), text.cond)
        return text.replace(cond=cond)

    def _safe(self, image: int, text: Text) -> tuple[Tensor, Tensor]:
        """An image's embeddings with its unsafe words' changed, and for how long, by columns."""
        prompt, embeds = self.prompts[image], text.cond[image].float()
        words, safe = split_words(prompt), embeds.clone()
        until = torch.full((len(embeds),), -1.0, dtype=torch.float64)
        masked = [prompt[: word.start] + prompt[word.end :] for word in words]
        unsafe, self.lasts = set[int](), [*self.lasts, []]
        for encoder, own in enumerate(self.read[image]):
            end = len(prompt) if own.cut is None else own.cut
            read = [k for k, word in enumerate(words) if word.end <= end]
            if len(read) < 2:
                continue
            concepts = wholes(text, self.plugin.concepts)[encoder]
            without = wholes(text, masked)[encoder][read]
            away = torch.eye(embeds.shape[1]).to(embeds) - projection(concepts)
            found = [read[k] for k in triggers(without @ away, self.plugin.margin)]
            changed = embeds @ projection(without) @ away
            seen = spoken(own)
            alike = torch.cosine_similarity(embeds[seen], changed[seen], dim=1).mean()
            columns = [c for k in found for c in columns_of(words[k], [own]).columns[0]]
            safe[columns] = changed[columns]
            until[columns] = self.plugin.most * validity(1 - float(alike))
            self.lasts[-1].append(self.plugin.most * validity(1 - float(alike)))
            unsafe |= set(found)
        self.words.append([words[k].text for k in sorted(unsafe)])
        return safe, until

    def report(self) -> dict[str, Any]:
        return {"unsafe_words": self.words, "until": self.lasts}

"""Value Sign Flip (ICLR 2026, arXiv:2508.10931).

A negative prompt in the same softmax as the prompt, with its values turned round: cells that look
for the unwanted are given its opposite. One attention, no second prediction.

    softmax(Q [K+; K- - beta]^T / sqrt(d)) [V+; -alpha V-]     beta is taken from the logits of K-

In joint attention the negative text itself attends with its values as they are, and only the image
sees them turned (the paper doubles the negative tokens for that). Scale and offset are those of the
authors' example for Stable Diffusion 3.5 Turbo (weathon/VSF, README). Differs from their code: a
negative text's filling is left out where the model has no mask for it, and so is, on U-Nets, which
they do not serve, the token that opens it. CLIP's holds most of the attention: turned, it takes the
wanted things away as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from adhere.guides.guide import PROMPT, Attention, Guide, Step
from adhere.guides.parameters import Method, param, share
from adhere.guides.run import Run
from adhere.plugins.mathematics.negation import NegativeGuide


@dataclass(frozen=True)
class ValueSignFlip(Method):
    """Keep what a negative text says out of the picture, by turning its values round."""

    name: ClassVar[str] = "vsf"
    task: ClassVar[str] = "negate"

    negative: str = param("low quality, blurry", "what the picture shall not show, in words")
    scale: float = param(3.5, "alpha, how loud its opposite is", low=0, high=100, source="README")
    offset: float = param(0.1, "beta, taken from its logits", low=0, high=100, source="README")
    stop: float = share(1.0, "share of the steps that are guided")

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)


class _Guide(NegativeGuide):
    def __init__(self, plugin: ValueSignFlip, run: Run) -> None:
        super().__init__(plugin, run)
        self.plugin = plugin
        self.headless = frozenset({"negative"})

    def attend(self, step: Step, attention: Attention) -> Tensor:
        texts = {PROMPT: 1.0, "negative": -self.plugin.scale}
        return attention.output(texts, bias={"negative": -self.plugin.offset})

"""Normalized Attention Guidance (Chen et al., NeurIPS 2025, arXiv:2505.21179).

A negative prompt that needs no unconditional prediction: each layer attends to the prompt and to
the negative text, and its output is pushed from the second to the first. Made for models that have
no classifier-free guidance (few steps, guidance-distilled), and works beside it.

    Z  = s Z+ - (s - 1) Z-
    Z^ = Z min(|Z|, tau |Z+|) / |Z|                       L1 norms, cell by cell
    Z  = alpha Z^ + (1 - alpha) Z+

In joint attention the negative text goes through the blocks as the prompt does, seeing itself and
the image. Scale, tau and alpha are those of the authors' FLUX pipelines
(ChenDarYen/Normalized-Attention-Guidance@69159ca); their SDXL pipeline blends half and half.
Differs from that code: the norm is the paper's L1 everywhere (theirs is L2 on FLUX); a negative
text's filling is left out where the model has no mask for it; the image alone is pushed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from adhere.guides.guide import Attention, Guide, Step
from adhere.guides.parameters import Method, param, share
from adhere.guides.run import Run
from adhere.plugins.mathematics.negation import NegativeGuide, normalized_guidance


@dataclass(frozen=True)
class NormalizedAttentionGuidance(Method):
    """Keep what a negative text says out of the picture, without classifier-free guidance."""

    name: ClassVar[str] = "nag"
    task: ClassVar[str] = "negate"

    negative: str = param("low quality, blurry", "what the picture shall not show, in words")
    scale: float = param(5.0, "s, how far from it", low=1, high=100, source="flux pipeline")
    tau: float = param(2.5, "longest output, in lengths of the prompt's", low=1, high=100)
    alpha: float = share(0.25, "share of the pushed output in the blend", source="flux pipeline")
    stop: float = share(1.0, "share of the steps that are guided")

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)


class _Guide(NegativeGuide):
    def __init__(self, plugin: NormalizedAttentionGuidance, run: Run) -> None:
        super().__init__(plugin, run)
        self.plugin = plugin
        self.off |= plugin.scale == 1 or plugin.alpha == 0

    def attend(self, step: Step, attention: Attention) -> Tensor:
        plugin, negative = self.plugin, attention.output({"negative": 1.0})
        return normalized_guidance(
            attention.output(), negative, plugin.scale, plugin.tau, plugin.alpha
        )

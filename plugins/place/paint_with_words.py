"""Paint-with-Words (Balaji et al., eDiff-I, arXiv:2211.01324, sec. 4.3).

Where the user painted a region, its words may speak louder: add a constant to their attention
logits inside the region. No gradient, no extra pass.

    softmax(Q K^T / sqrt(d) + w A)              A[cell, token] = share of the cell that is painted
    w = w' log(1 + sigma) max(Q K^T / sqrt(d))  so it fades with the noise, and fits every layer

It acts in all cross attention layers, and only in the conditional half of the pass.

The strength w' is 0.1, the default of the common implementation for SD 1.x
(cloneofsimo/paint-with-words-sd@0438b53); the paper gives none. Differs from that code: batches,
with a maximum for each image; any scheduler, by its own noise-to-signal ratio; masks are averaged
over the cells, not interpolated; only the phrase itself is biased, not its repetitions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides.guide import Guide, Logits, Step
from adhere.guides.maps import Site
from adhere.guides.parameters import Free, param, share
from adhere.guides.run import Run
from adhere.layout.layout import Layout
from adhere.plugins.mathematics.regions import paint


@dataclass(frozen=True)
class PaintWithWords(Free):
    """Paint phrases into regions by raising their attention there, without any gradient."""

    name: ClassVar[str] = "paint-with-words"
    task: ClassVar[str] = "place"

    layout: Layout | None = param(None, "phrases with regions; else the call's", source="sec. 4.3")
    strength: float = param(
        0.1, "w', how loud the words become", low=0, high=100, source="paint_with_words.py@0438b53"
    )
    stop: float = share(1.0, "share of the steps that are biased", source="sec. 4.3")

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)


class _Guide(Guide):
    biases = frozenset({"cross"})

    def __init__(self, plugin: PaintWithWords, run: Run) -> None:
        self.plugin = plugin
        self.off = plugin.strength == 0 or plugin.stop == 0
        self.regions = run.regions(plugin.layout)
        self.painted: dict[tuple[int, tuple[int, int]], Tensor] = {}

    def bias(self, step: Step, logits: Logits) -> Float[Tensor, "batch 1 cells columns"] | None:
        fade = self.plugin.strength * math.log1p(step.sigma)
        if fade == 0 or step.progress >= self.plugin.stop:
            return None
        values = logits.values()
        painted = torch.stack(
            [self._painted(image, logits.site, values) for image in logits.images]
        )
        loudest = values.amax(dim=(1, 2, 3), keepdim=True)
        return fade * loudest * painted[:, None]

    def _painted(self, image: int, site: Site, like: Tensor) -> Float[Tensor, "cells columns"]:
        """A of an image, the same for all layers of one grid and all steps."""
        key = (image, site.grid)
        if key not in self.painted:
            regions = self.regions[image]
            masks = regions.masks(site.grid).to(like)
            self.painted[key] = paint(masks, regions.phrases, like.shape[-1])
        return self.painted[key]

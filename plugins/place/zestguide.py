"""ZestGuide, zero-shot segmentation guidance (Couairon et al., ICCV 2023, arXiv:2306.13754).

Cross attention already segments the picture by words. For every region of a layout compare the
attention of its phrase with its mask, and move the latents so that they agree, after each of the
first scheduler steps:

    S_i  = g * sum of the phrase's maps, averaged over layers and heads      region i, mask M_i
    L    = mean over i of BCE(S_i, M_i) + BCE(S_i / (max S_i + 1e-4), M_i)   sec. 3.2
    x'  <- x' - eta sqrt(1 - alpha_bar) grad L / max |grad L|                x' after the step

The maps are those of the `fine` scale: for SD 1.x at 512 px, 16x16 and 32x32. Defaults are those of
the authors' code for SD 1.4 (gcouairon/zestguide@4a04fe5, `configs/zestguide_stbldif14.yaml`). The
paper's own, on another model, are `step_size=1, gain=1, ignore=(0, 0)`. Differs from that code:
batches; any picture size; coarse maps are enlarged after the softmax, as in the paper; both blocks
of 32x32 cells are read (10 layers of SD 1.x, 8 there); a region's phrase is found as a whole; no
absent class names as distractors; `stop` is the guided share, so 25 of 50 steps where theirs counts
the step at one half too; no other sampler noise in the guided steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from adhere.guides.energy import LayoutMethod
from adhere.guides.guide import Energy, Step
from adhere.guides.maps import ImageMaps, Read
from adhere.guides.parameters import param, share
from adhere.guides.run import Regions
from adhere.layout.layout import Layout

EPS = 1e-3
"""Maps and masks are kept this far from 0 and 1 (`zestguide_utils.py@4a04fe5`)."""
FAINT = 1e-4
"""Added to a map's peak before the map is divided by it."""


@dataclass(frozen=True)
class ZestGuide(LayoutMethod):
    """Put every phrase of a layout into its region."""

    name: ClassVar[str] = "zestguide"
    task: ClassVar[str] = "place"
    reads = frozenset({Read("cross", "fine")})

    layout: Layout | None = param(None, "phrases with regions; else the call's", source="sec. 3")
    step_size: float = param(
        0.3, "eta, largest change of a latent value a step", low=0, high=10, source="config@4a04fe5"
    )
    stop: float = share(0.5, "tau, share of the steps that are guided", source="sec. 4")
    gain: float | None = param(
        None, "g; the family's if left out", low=0, high=1000, source="config@4a04fe5"
    )
    ignore: tuple[float, float] = share(
        (0.01, 0.1), "cells this small in map and mask are left out", source="config@4a04fe5"
    )

    @property
    def off(self) -> bool:
        return super().off or self.gain == 0

    def loss(self, maps: ImageMaps, wanted: Regions) -> Float[Tensor, ""]:
        found = torch.stack([maps.of(phrase, "fine") for phrase in wanted.phrases])
        masks = wanted.masks((found.shape[1], found.shape[2])).to(found)
        gain = maps.maps.gain if self.gain is None else self.gain
        return disagreement(found, masks, gain, self.ignore)

    def energy(self, step: Step, loss: Float[Tensor, " batch"]) -> Energy:
        return Energy(loss, self.step_size * step.noise, rule="max-abs", when="after")


def disagreement(
    maps: Float[Tensor, "regions h w"],
    masks: Float[Tensor, "regions h w"],
    gain: float = 1.0,
    ignore: tuple[float, float] = (0.0, 0.0),
) -> Float[Tensor, ""]:
    """L: both cross entropies in nats, averaged over regions and cells."""
    maps = gain * maps
    peak = maps.amax(dim=(1, 2), keepdim=True)
    relative, terms = maps / (peak + FAINT), []
    for values, small in zip((maps, relative), ignore, strict=True):
        values = values.masked_fill((values <= small) & (masks <= small), 0.0)
        terms.append(F.binary_cross_entropy(values.clamp(EPS, 1 - EPS), masks.clamp(EPS, 1 - EPS)))
    return terms[0] + terms[1]

"""FOCUS, the controller at test time (Bill et al. 2025, arXiv:2510.02315).

A flow's sampler is steered by what it costs to mix subjects up, at the least change of its
velocity: optimal control, whose adjoint is guessed from the present state alone. A subject's tokens
should look at the same places, and different subjects at different ones.

    JS(Q)  = mean over the T maps of KL(q || mean q) / log T      q = A^3, scaled to sum to 1
    within = mean over subjects of more than one token of JS(their tokens' maps)
    apart  = 1 - JS(one mean map a subject)                       0 with one subject
    L      = (within + apart) / 2                                 A: maps smoothed, sigma 1
    v     <- v - (1 - t) lambda N grad L                          v: from the noise at t = 0 to 1

N is the number of the latents' entries: what a change of v costs is its mean square, so that a
lambda means the same at all sizes. One pass a step, in all steps. The velocity is the flow's own;
the steps of diffusion models are read as a flow's, by the paper's correspondence (rule `velocity`
of `Energy`).

The loss is that of the authors' code (ericbill21/FOCUS@81782a2, `src/losses.py`). The update is the
paper's equation 17 as a review of it quotes it, but for N: the pipelines of that repository could
not be read, and without it their lambda of 1 to 5 moves nothing that one could see. Differs:
batches; the family's own layers (theirs are all); CLIP's and T5's maps are compared apart, not as
one group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides.energy import SubjectMethod
from adhere.guides.guide import Energy, Step
from adhere.guides.maps import ImageMaps
from adhere.guides.parameters import param, share
from adhere.plugins.mathematics.attention import smooth
from adhere.prompt.tokens import Phrase

SIGMA = 1 / math.sqrt(2)
"""Of `smooth`, whose standard deviation is sqrt(2) times as much."""
TINY = 1e-10


@dataclass(frozen=True)
class Focus(SubjectMethod):
    """Steer a flow's velocity so that subjects keep to places of their own."""

    name: ClassVar[str] = "focus"
    task: ClassVar[str] = "bind"

    subjects: tuple[str, ...] | None = param(
        None, "phrases to keep apart; the parser's nouns if left out", source="paper"
    )
    step_size: float = param(0.5, "lambda", low=0, high=100, source="chosen here")
    stop: float = share(1.0, "share of the steps that are guided", source="code@81782a2")

    def loss(self, maps: ImageMaps, wanted: tuple[Phrase, ...]) -> Float[Tensor, ""]:
        """L of one image."""
        attention = maps.cross().permute(2, 0, 1)
        groups = [smooth(attention[maps.columns(one)], SIGMA) for one in wanted]
        return mixing(groups)

    def energy(self, step: Step, loss: Float[Tensor, " batch"]) -> Energy:
        return Energy(loss, self.step_size, rule="velocity", when="after")


def mixing(groups: list[Float[Tensor, "_tokens h w"]]) -> Float[Tensor, ""]:
    """L of the subjects, each with the maps of its tokens."""
    nothing = groups[0].sum() * 0
    within = [spread(maps) for maps in groups if len(maps) > 1]
    apart = (
        1 - spread(torch.stack([maps.mean(dim=0) for maps in groups])) if groups[1:] else nothing
    )
    return (sum(within, nothing) / max(1, len(within)) + apart) / 2


def spread(maps: Float[Tensor, "maps h w"]) -> Float[Tensor, ""]:
    """JS of two or more maps: 0 if they are alike, 1 if no two share a cell."""
    peaky = maps.flatten(1) ** 3
    q = peaky / peaky.sum(dim=1, keepdim=True).clamp_min(TINY)
    mean = q.mean(dim=0, keepdim=True)
    divergence = (q * ((q + TINY).log() - (mean + TINY).log())).sum(dim=1).mean()
    return divergence / math.log(len(maps))

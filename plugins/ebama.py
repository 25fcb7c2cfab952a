"""EBAMA, energy-based attention-map alignment (Zhang et al., ECCV 2024, arXiv:2404.07389).

SynGen's binding with the object in the centre: modifiers are pulled to their noun, only nouns are
pushed from the rest, nouns without modifiers too, and every noun's attention is raised.

    bind  = sum over pairs (noun n, modifier m) of d(n, m)                 d as in SynGen
    apart = sum over nouns n of max(1, its modifiers) / |U| sum over u in U of d(n, u)
    L     = bind - apart - lambda sum over nouns n of m_n                  as Attend-and-Excite
    x    <- x - 20 grad L                                                  at every step

U is every token of the prompt outside the noun and its modifiers.

Differs from the authors' code (YasminZhang/EBAMA@665e762): batches, each image with its own parse;
the project's parser; of a noun in several pieces the strongest counts in m_n, theirs is the first;
the symmetric Kullback-Leibler divergence only (theirs also has total variation and cosine).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides.energy import EnergyMethod
from adhere.guides.maps import ImageMaps
from adhere.guides.parameters import param, share, step_length
from adhere.guides.run import BoundNoun, Run
from adhere.plugins.attention import divergences, phrase_maps


@dataclass(frozen=True)
class Ebama(EnergyMethod[tuple[BoundNoun, ...]]):
    """Make every noun appear and keep its properties."""

    name: ClassVar[str] = "ebama"

    subjects: tuple[str, ...] | None = param(
        None, "nouns or phrases that count; all of the parser's if left out", source="sec. 3"
    )
    step_size: float = step_length(20.0, source="code@665e762")
    stop: float = share(1.0, "share of the steps that are guided", source="code@665e762")
    raising: float = param(
        0.5, "lambda, weight of the nouns' own attention", low=0, high=100, source="code@665e762"
    )

    def wanted(self, run: Run) -> Sequence[tuple[BoundNoun, ...]]:
        for prompt in run.prompts:
            prompt.parsed.require_nouns()
        return run.nouns(self.subjects)

    def loss(self, maps: ImageMaps, wanted: tuple[BoundNoun, ...]) -> Float[Tensor, ""]:
        peaks = phrase_maps(maps, [bound.noun for bound in wanted]).flatten(1).amax(dim=1)
        return misalignment(maps, wanted) - self.raising * peaks.sum()


def misalignment(maps: ImageMaps, nouns: Sequence[BoundNoun]) -> Float[Tensor, ""]:
    """bind - apart, for one image; of words in several pieces the farthest count, as in SynGen."""
    attention = maps.cross()
    parts = [attention.sum() * 0]
    for bound in nouns:
        noun, outside = maps.columns(bound.noun), maps.others(bound.phrases)
        for modifier in bound.modifiers:
            pulled = attention[:, :, maps.columns(modifier)]
            parts.append(divergences(attention[:, :, noun], pulled).amax())
        if outside:
            far = divergences(attention[:, :, noun], attention[:, :, outside]).amax(dim=0)
            parts.append(-max(1, len(bound.modifiers)) * far.mean())
    return torch.stack(parts).sum()

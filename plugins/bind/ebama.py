"""EBAMA, energy-based attention-map alignment (Zhang et al., ECCV 2024, arXiv:2404.07389).

SynGen's binding with the object in the centre: modifiers are pulled to their noun, only nouns are
pushed from the rest, nouns without modifiers too, and every noun's attention is raised.

    d     = 1 - cosine of two maps, or the divergence of SynGen
    bind  = sum over pairs (noun n, modifier m) of d(n, m)
    apart = sum over nouns n of max(1, its modifiers) / |U| sum over u in U of d(n, u)
    L     = bind - apart - lambda sum over nouns n of m_n                  as Attend-and-Excite
    x    <- x - 20 grad L                                                  for half of the steps

U is every token of the prompt outside the noun and its modifiers.

Distance and stop are those that the authors' code has had since ff5fead; before, it was the
divergence at every step (`distance="divergence", stop=1`).

Differs from that code (YasminZhang/EBAMA): batches, each image with its own parse; the project's
parser; of a noun in several pieces the strongest counts in m_n, theirs is the first; no distance by
total variation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from adhere.guides.energy import EnergyMethod
from adhere.guides.maps import ImageMaps
from adhere.guides.parameters import param, share, step_length
from adhere.guides.run import BoundNoun, Run
from adhere.plugins.mathematics.attention import divergences, phrase_maps

Distances = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Ebama(EnergyMethod[tuple[BoundNoun, ...]]):
    """Make every noun appear and keep its properties."""

    name: ClassVar[str] = "ebama"
    task: ClassVar[str] = "bind"

    subjects: tuple[str, ...] | None = param(
        None, "nouns or phrases that count; all of the parser's if left out", source="sec. 3"
    )
    step_size: float = step_length(20.0, source="code@665e762")
    stop: float = share(0.5, "share of the steps that are guided", source="code@ff5fead")
    distance: Literal["cosine", "divergence"] = param(
        "cosine", "d, how far apart two maps are", source="code@ff5fead"
    )
    raising: float = param(
        0.5, "lambda, weight of the nouns' own attention", low=0, high=100, source="code@665e762"
    )

    def wanted(self, run: Run) -> Sequence[tuple[BoundNoun, ...]]:
        for prompt in run.prompts:
            prompt.parsed.require_nouns()
        return run.nouns(self.subjects)

    def loss(self, maps: ImageMaps, wanted: tuple[BoundNoun, ...]) -> Float[Tensor, ""]:
        peaks = phrase_maps(maps, [bound.noun for bound in wanted]).flatten(1).amax(dim=1)
        return misalignment(maps, wanted, DISTANCES[self.distance]) - self.raising * peaks.sum()


def cosines(
    one: Float[Tensor, "h w rows"], other: Float[Tensor, "h w columns"]
) -> Float[Tensor, "rows columns"]:
    """1 - the cosine of every map with every other, in [0, 1]."""
    unit, others = (F.normalize(maps.flatten(0, 1), dim=0) for maps in (one, other))
    return 1 - unit.T @ others


DISTANCES = {"cosine": cosines, "divergence": divergences}


def misalignment(
    maps: ImageMaps, nouns: Sequence[BoundNoun], distances: Distances = cosines
) -> Float[Tensor, ""]:
    """bind - apart, for one image; of words in several pieces the farthest count, as in SynGen."""
    attention = maps.cross()
    parts = [attention.sum() * 0]
    for bound in nouns:
        noun, outside = maps.columns(bound.noun), maps.others(bound.phrases)
        for modifier in bound.modifiers:
            pulled = attention[:, :, maps.columns(modifier)]
            parts.append(distances(attention[:, :, noun], pulled).amax())
        if outside:
            far = distances(attention[:, :, noun], attention[:, :, outside]).amax(dim=0)
            parts.append(-max(1, len(bound.modifiers)) * far.mean())
    return torch.stack(parts).sum()

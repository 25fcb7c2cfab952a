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

from adhere.guides import parameters
from adhere.guides.guide import Energy, Guide, Step
from adhere.guides.maps import Maps, Read
from adhere.guides.parameters import param
from adhere.guides.run import BoundNoun, Run
from adhere.plugins.best_of_noise import lit
from adhere.plugins.syngen import distances


@dataclass(frozen=True)
class Ebama:
    """Make every noun appear and keep its properties."""

    name: ClassVar[str] = "ebama"

    subjects: tuple[str, ...] | None = param(
        None, "nouns or phrases that count; all of the parser's if left out", source="sec. 3"
    )
    step_size: float = param(
        20.0, "length of a step along the gradient", low=0, high=1000, source="code@665e762"
    )
    stop: float = param(
        1.0, "share of the steps that are guided", low=0, high=1, source="code@665e762"
    )
    raising: float = param(
        0.5, "lambda, weight of the nouns' own attention", low=0, high=100, source="code@665e762"
    )

    def __post_init__(self) -> None:
        parameters.check(self)

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)


class _Guide(Guide):
    reads = frozenset({Read("cross")})

    def __init__(self, plugin: Ebama, run: Run) -> None:
        self.plugin, self.run = plugin, run
        for prompt in run.prompts:
            prompt.parsed.require_nouns()
        self.pairs = run.nouns(plugin.subjects)
        self.nouns = [tuple(pair.noun for pair in pairs) for pairs in self.pairs]

    def guides(self, step: Step) -> bool:
        return self.plugin.step_size > 0 and step.progress < self.plugin.stop

    def energy(self, step: Step, maps: Maps) -> Energy | None:
        losses = []
        spots = lit(maps, self.nouns)
        for image, one, nouns in zip(maps.images, maps.cross(), spots, strict=True):
            content = self.run.tracks[maps.track].images[image].content
            raised = nouns.flatten(1).amax(dim=1).sum()
            aligned = misalignment(one, self.pairs[image], content, maps.track)
            losses.append(aligned - self.plugin.raising * raised)
        return Energy(torch.stack(losses), self.plugin.step_size)


def misalignment(
    attention: Float[Tensor, "h w tokens"],
    pairs: Sequence[BoundNoun],
    content: Sequence[int],
    track: int = 0,
) -> Float[Tensor, ""]:
    """bind - apart, for one image; of words in several pieces the farthest count, as in SynGen."""
    parts = [attention.sum() * 0]
    for pair in pairs:
        noun = list(pair.noun.columns[track])
        words = [word.columns[track] for word in (pair.noun, *pair.modifiers)]
        inside = {column for word in words for column in word}
        outside = [column for column in content if column not in inside]
        for modifier in words[1:]:
            parts.append(distances(attention[:, :, noun], attention[:, :, list(modifier)]).amax())
        if outside:
            far = distances(attention[:, :, noun], attention[:, :, outside]).amax(dim=0)
            parts.append(-max(1, len(pair.modifiers)) * far.mean())
    return torch.stack(parts).sum()

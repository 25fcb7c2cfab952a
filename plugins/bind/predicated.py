"""Predicated Diffusion (Sueyoshi and Matsubara, CVPR 2024, arXiv:2311.16117).

A prompt is a statement: there is a dog; what is the dog is brown; what is the dog is not yellow. A
word's attention at a cell is how true the word is there, and fuzzy logic makes a loss of the rest.

    not P = 1 - P,  P and Q = P Q,  P -> Q = 1 - P (1 - Q),  for all x = product over the cells
    exists(n)  = -log(1 - exp(mean over cells of log(1 - A'_n)))                         presence
    P -> Q     = mean over cells of -log(1 - A_P (1 - A_Q))                  sec. 3, modification
    L = 0.1 exists(nouns n) + (n -> m) + (m -> n)(nouns n, their modifiers m)      one-to-one
      + alpha (m -> not n')(modifiers m, other nouns n') + (thing -> holder)(possessions)
    x <- x - alpha_i grad L                           as Attend-and-Excite; alpha = 0.3, 25 of 50

Each of the four is averaged over its pairs. A' is the share of a softmax over tokens at 100 A, A a
word's attention scaled to run from 0 to 1.

The paper has sums over the cells and no 0.1; the means and 0.1 are those of a code that was built
on the authors' (`loss_function = attention_product_prob`, seen in copies only), where step and
alpha belong. Differs from it: batches; the parser finds nouns and modifiers; 1e-4 keeps every
logarithm finite (theirs have 1e-20, whose slope overflows); no repeated steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.energy import EnergyMethod
from adhere.guides.guide import Energy, Step
from adhere.guides.maps import ImageMaps
from adhere.guides.parameters import param, share, step_length
from adhere.guides.run import BoundNoun, Run
from adhere.plugins.mathematics.attention import decayed, phrase_maps

TINY = 1e-4


@dataclass(frozen=True)
class Predicated(EnergyMethod[tuple[BoundNoun, ...]]):
    """Make the picture fulfil what the prompt states: presence, properties, possession."""

    name: ClassVar[str] = "predicated"
    task: ClassVar[str] = "bind"

    subjects: tuple[str, ...] | None = param(
        None, "nouns or phrases that count; all of the parser's if left out", source="paper"
    )
    possessions: tuple[str, ...] | None = param(
        None, "who has what, as in frog>hat for a frog wearing a hat", source="paper"
    )
    step_size: float = step_length(20.0, source="Attend-and-Excite's")
    stop: float = share(0.5, "share of the steps that are guided", source="paper")
    presence: float = param(0.1, "weight of the nouns' presence", low=0, high=100, source="code")
    apart: float = param(
        0.3, "alpha, weight of what is not another's property", low=0, high=100, source="paper"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for text in self.possessions or ():
            if len(split(text)) != 2 or not all(split(text)):
                raise ParameterError(
                    f"{self.name}: possession {text!r} is not 'holder>thing'; write frog>hat"
                )

    def wanted(self, run: Run) -> Sequence[tuple[BoundNoun, ...]]:
        for image, prompt in enumerate(run.prompts):
            prompt.parsed.require_nouns()
            for word in (word for text in self.possessions or () for word in split(text)):
                run.phrase(image, word)  # says which is absent
        return run.nouns(self.subjects)

    def loss(self, maps: ImageMaps, wanted: tuple[BoundNoun, ...]) -> Float[Tensor, ""]:
        spots = phrase_maps(maps, [one.noun for one in wanted], sigma=0)
        true = [(full(maps.of(n.noun)), [full(maps.of(m)) for m in n.modifiers]) for n in wanted]
        bound = [implies(n, m) + implies(m, n) for n, own in true for m in own]
        others = [implies(m, 1 - n) for (n, _), (_, own) in permutations(true, 2) for m in own]
        had = [
            implies(full(maps.of(thing)), full(maps.of(holder)))
            for holder, thing in map(split, self.possessions or ())
        ]
        weighed = [(self.presence, [exists(spot) for spot in spots]), (1.0, bound)]
        weighed += [(self.apart, others), (1.0, had)]
        return torch.stack([w * torch.stack(some).mean() for w, some in weighed if some]).sum()

    def energy(self, step: Step, loss: Float[Tensor, " batch"]) -> Energy:
        return Energy(loss, self.step_size * decayed(step))


def split(possession: str) -> list[str]:
    """Holder and thing."""
    return [word.strip() for word in possession.split(">")]


def full(maps: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """A word's attention as truth: its least value is 0, its largest 1."""
    least = maps.min()
    return (maps - least) / (maps.max() - least).clamp_min(torch.finfo(maps.dtype).tiny)


def exists(maps: Float[Tensor, "h w"]) -> Float[Tensor, ""]:
    """-log of how true it is that the word is somewhere."""
    return -torch.log(TINY - torch.expm1((1 - maps).clamp_min(TINY).log().mean()))


def implies(one: Float[Tensor, "h w"], other: Float[Tensor, "h w"]) -> Float[Tensor, ""]:
    """-log of how true it is that where the one is, the other is, by cells."""
    return -(1 - one * (1 - other) + TINY).log().mean()

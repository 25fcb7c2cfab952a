"""Best of noise: draw several starting noises and keep the one whose attention promises most.

The gradient-free sibling of InitNO (Guo et al., CVPR 2024, arXiv:2404.04650): its two scores of one
conditional pass at the first timestep, on noises that are drawn, not optimised. Scoring random
noise by such losses helps in every backbone, and flattens after a dozen draws (arXiv:2506.12633).
With `look_at` above 0 the pass is made later in the run, on what the noise would have become: a
model may say more of its picture there, at two more passes a stride. What that is worth is not
measured yet.

    rank = response + conflict          smallest wins; `noise.py` has both

The given noise is a candidate too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides.guide import Guide, Look, Step, passes_of_look
from adhere.guides.maps import Read
from adhere.guides.parameters import Method, param, share
from adhere.guides.run import Run
from adhere.plugins.mathematics.noise import most_promising, scores, subject_maps


@dataclass(frozen=True)
class BestOfNoise(Method):
    """Try several starting noises and keep the most promising."""

    name: ClassVar[str] = "best-of-noise"
    task: ClassVar[str] = "noise"

    subjects: tuple[str, ...] | None = param(
        None, "phrases that must appear; the parser's nouns if left out", source="sec. 3.2"
    )
    candidates: int = param(
        10, "noises to score, the given one included", low=1, high=1000, source="chosen here"
    )
    together: int = param(
        1, "candidates scored in one pass, faster and larger", low=1, high=64, source="chosen here"
    )

    look_at: float = share(0.0, "share of the run at which maps are looked at", source="sec. 3.2")

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)

    def extra_passes(self, steps: int) -> int:
        """Passes that it adds to one picture at the most."""
        return self.candidates * passes_of_look(self.look_at)


class _Guide(Guide):
    reads = frozenset({Read("cross"), Read("self")})

    def __init__(self, plugin: BestOfNoise, run: Run) -> None:
        self.plugin = plugin
        self.off = plugin.candidates == 1 or not run.from_noise(plugin.name)
        self.subjects = run.subjects(plugin.subjects)
        self.ranks: list[list[float]] = []

    def guides(self, step: Step) -> bool:
        return False

    @torch.no_grad()
    def initial(
        self, noise: Float[Tensor, "batch channels h w"], look: Look
    ) -> Float[Tensor, "batch channels h w"]:
        plugin = self.plugin

        def rank(tried: Tensor, images: tuple[int, ...]) -> list[float]:
            maps = look(tried, images, plugin.look_at)
            found: list[float] = scores(maps, subject_maps(maps, self.subjects)).rank().tolist()
            return found

        best, self.ranks = most_promising(noise, look, plugin.candidates, plugin.together, rank)
        return best

    def report(self) -> dict[str, Any]:
        ranks = [[math.inf if one != one else one for one in own] for own in self.ranks]
        return {"ranks": ranks, "chosen": [one.index(min(one)) for one in ranks]}

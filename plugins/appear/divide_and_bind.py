"""Divide & Bind (Li et al., BMVC 2023, arXiv:2307.10864).

One bright cell for each subject, as Attend-and-Excite asks, can be a spot of nothing. Ask for much
up and down in its map, which several excited places give, and tie attributes to their objects.

    TV(A)  = mean |A[y, x + 1] - A[y, x]| + mean |A[y + 1, x] - A[y, x]|
    J(A,B) = (sum p log(p / m) + sum q log(q / m)) / 2                         m = (p + q) / 2
             p = max(0, softmax A - floor) + 1e-5,  q of B max A / max B with the same floor
    L      = max over nouns n of -TV(A_n) + beta sum over its modifiers k of J(A_n, A_k)
    x     <- x - alpha_i grad L                                              as Attend-and-Excite

A_n is Attend-and-Excite's smoothed share of a word, A_k the same on finer layers; beta is 1, from
0.2 of the run on 5, from 0.4 on 10; the floor is 0.2 of the largest p, 0.3 where TV < 0.1. At 0,
0.2 and 0.4 of the run the step is repeated until the smallest TV is 0.05, 0.2 and 0.3.

Differs from the authors' code (boschresearch/Divide-and-Bind@961b9ab): batches; the parser; every
modifier of a noun counts, not one colour; the difference down is one of neighbours (theirs holds
every row against the last one); its finer layers are read together with the usual ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides.energy import EnergyGuide, EnergyMethod, check_refining, threshold_at
from adhere.guides.guide import Energy, Guide, Step
from adhere.guides.maps import ImageMaps, Maps, Read
from adhere.guides.parameters import param, share, step_length
from adhere.guides.run import BoundNoun, Run
from adhere.plugins.mathematics.attention import decayed, phrase_maps
from adhere.plugins.mathematics.variation import divergence, variation

CODE = "code@961b9ab"


@dataclass(frozen=True)
class DivideAndBind(EnergyMethod[tuple[BoundNoun, ...]]):
    """Make every noun appear, in several places if need be, with its own properties."""

    name: ClassVar[str] = "divide-and-bind"
    task: ClassVar[str] = "appear"
    reads = frozenset({Read("cross"), Read("cross", "fine")})

    subjects: tuple[str, ...] | None = param(
        None, "nouns or phrases that count; all of the parser's if left out", source="paper"
    )
    step_size: float = step_length(20.0, source=CODE)
    stop: float = share(0.5, "share of the steps that are guided", source=CODE)
    refine_at: tuple[float, ...] = share(
        (0.0, 0.2, 0.4), "shares of the run at which to refine", source=CODE
    )
    thresholds: tuple[float, ...] = share((0.05, 0.2, 0.3), "TV to reach at those", source=CODE)
    refinements: int = param(50, "at the most, each time", low=0, high=200, source=CODE)
    binding: float = param(1.0, "factor of beta, 0 for no binding", low=0, high=100, source=CODE)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_refining(self)

    def extra_passes(self, steps: int) -> int:
        """Passes that it adds to one picture at the most."""
        return self.guided(steps) + len(self.refine_at) * self.refinements

    def wanted(self, run: Run) -> Sequence[tuple[BoundNoun, ...]]:
        for prompt in run.prompts:
            prompt.parsed.require_nouns()
        return run.nouns(self.subjects)

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)


class _Guide(EnergyGuide[tuple[BoundNoun, ...]]):
    plugin: DivideAndBind

    def __init__(self, plugin: DivideAndBind, run: Run) -> None:
        super().__init__(plugin, run)
        self.binds = plugin.binding > 0 and any(n.modifiers for one in self.wanted for n in one)
        if not self.binds:
            self.reads = frozenset({Read("cross")})

    def energy(self, step: Step, maps: Maps) -> Energy:
        plugin, size = self.plugin, self.plugin.step_size * decayed(step)
        beta = plugin.binding * (1 if step.progress < 0.2 else 5 if step.progress < 0.4 else 10)
        found = [self._one(one, self.wanted[one.image], beta) for one in maps.each()]
        loss, threshold = torch.stack([loss for loss, _ in found]), threshold_at(plugin, step)
        if threshold is None:
            return Energy(loss, size)
        # The target is one of variation alone, so it is said image by image.
        flat = torch.stack([least.detach() for _, least in found]) < threshold
        target = torch.where(flat, loss.detach() - 1, torch.inf)
        return Energy(loss, size, target=target, at_most=plugin.refinements)

    def _one(
        self, maps: ImageMaps, nouns: Sequence[BoundNoun], beta: float
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """L of one image, and the smallest TV."""
        if not nouns:
            return maps.cross().sum() * 0, maps.cross().new_tensor(torch.inf)
        spots = phrase_maps(maps, [bound.noun for bound in nouns])
        fine = maps.cross((spots.shape[1], spots.shape[2]), "fine") if self.binds else None
        ups, parts = [variation(spot) for spot in spots], []
        for bound, spot, up in zip(nouns, spots, ups, strict=True):
            own = phrase_maps(maps, bound.modifiers, attention=fine) if bound.modifiers else ()
            loose = [divergence(spot, one, up) for one in own] if self.binds else []
            parts.append(sum(loose, up * 0) * beta - up)
        return torch.stack(parts).amax(), torch.stack(ups).amin()

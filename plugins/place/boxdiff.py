"""BoxDiff (Xie et al., ICCV 2023, arXiv:2307.10816).

Attend-and-Excite with boxes: the attention of a phrase should lie inside its region, and reach to
the region's edges.

    A'   = softmax over tokens of 100 A, smoothed                      as in Attend-and-Excite
    IB_s = max(0, 1 - mean of the top P of A'_s inside)                inner box
    OB_s = mean of the top P of A'_s outside                           outer box
    CC_s = mean over columns near the edges of |max over rows of A'_s - max over rows of M_s|,
           and the same for rows                                       corners
    L    = sum over s of IB_s + OB_s + CC_s
    x   <- x - alpha_i grad L                                          alpha_i as there

Top P: that share of the region's (or the rest's) cells; near: within `edge` cells. At a few steps
it refines until every IB_s has reached its threshold.

A box's edges are rounded to cells, as published; of other shapes half covered cells count.

Differs from the authors' code (showlab/BoxDiff@b0d5d3b): batches; any picture size; regions may be
of any shape, whose bounding box then stands for the box in CC; refinement goes down on the whole L,
where theirs looks at the largest IB only; at least one cell counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides.energy import EnergyGuide, LayoutMethod, check_refining, threshold_at
from adhere.guides.guide import Energy, Guide, Step
from adhere.guides.maps import ImageMaps, Maps
from adhere.guides.parameters import param, share, step_length
from adhere.guides.run import Regions, Run
from adhere.layout.layout import Layout
from adhere.plugins.mathematics.attention import decayed, phrase_maps
from adhere.plugins.mathematics.regions import whole


@dataclass(frozen=True)
class BoxDiff(LayoutMethod):
    """Draw every phrase of a layout inside its box."""

    name: ClassVar[str] = "boxdiff"
    task: ClassVar[str] = "place"

    layout: Layout | None = param(None, "phrases with regions; else the call's", source="sec. 3")
    top: float = param(
        0.2, "P, share of the cells that counts", low=0.01, high=1, source="config.py@b0d5d3b"
    )
    edge: int = param(
        1, "L, cells on both sides of an edge", low=0, high=64, source="config.py@b0d5d3b"
    )
    step_size: float = step_length(20.0, source="config.py@b0d5d3b")
    stop: float = share(0.5, "share of the steps that are guided", source="config.py@b0d5d3b")
    refine_at: tuple[float, ...] = share(
        (0.0, 0.2, 0.4), "shares of the run at which to refine", source="config.py@b0d5d3b"
    )
    thresholds: tuple[float, ...] = share(
        (0.05, 0.5, 0.8), "attention to reach at those", source="config.py@b0d5d3b"
    )
    refinements: int = param(20, "at the most", low=0, high=200, source="config.py@b0d5d3b")

    def extra_passes(self, steps: int) -> int:
        """Passes that it adds to one picture at the most."""
        return self.guided(steps) + len(self.refine_at) * self.refinements

    def __post_init__(self) -> None:
        super().__post_init__()
        check_refining(self)

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)

    def terms(self, maps: ImageMaps, wanted: Regions) -> Float[Tensor, "3 regions"]:
        """IB, OB and CC of every region."""
        spots = phrase_maps(maps, wanted.phrases)
        masks = wanted.masks((spots.shape[1], spots.shape[2])).to(spots)
        masks = whole(masks)
        inner = (1 - strongest(spots, masks, self.top)).clamp_min(0)
        outer = strongest(spots, 1 - masks, self.top)
        return torch.stack([inner, outer, corners(spots, masks, self.edge)])


class _Guide(EnergyGuide[Regions]):
    plugin: BoxDiff

    def energy(self, step: Step, maps: Maps) -> Energy:
        plugin = self.plugin
        terms = [plugin.terms(one, self.wanted[one.image]) for one in maps.each()]
        loss = torch.stack([(inner + outer + corner).sum() for inner, outer, corner in terms])
        energy = Energy(loss, plugin.step_size * decayed(step))
        threshold = threshold_at(plugin, step)
        if threshold is None:
            return energy
        # Refinement is asked for by the inner boxes alone, whatever the rest amounts to.
        worst = torch.stack([one[0].detach().amax() for one in terms])
        target = torch.where(worst > 1 - threshold, -torch.inf, torch.inf)
        return replace(energy, target=target, at_most=plugin.refinements)


def strongest(
    spots: Float[Tensor, "regions h w"], masks: Float[Tensor, "regions h w"], top: float
) -> Float[Tensor, " regions"]:
    """The mean of each map's highest values inside its mask, as many as a share of its cells."""
    found = []
    for spot, mask in zip(spots, masks, strict=True):
        count = max(1, int(mask.sum() * top))
        found.append((spot * mask).flatten().topk(count).values.mean())
    return torch.stack(found)


def corners(
    spots: Float[Tensor, "regions h w"], masks: Float[Tensor, "regions h w"], edge: int
) -> Float[Tensor, " regions"]:
    """How far each map's shadows on both axes are from its mask's, near the mask's edges."""
    total = torch.zeros_like(spots[:, 0, 0])
    for axis in (1, 2):
        found, wanted = spots.amax(dim=axis), masks.amax(dim=axis)
        place = torch.arange(wanted.shape[1], device=spots.device)
        first = wanted.argmax(dim=1, keepdim=True)
        after = wanted.shape[1] - wanted.flip(1).argmax(dim=1, keepdim=True)
        near = ((place - first).abs() <= edge) | ((place - after).abs() <= edge)
        total = total + ((found - wanted).abs() * near).mean(dim=1)
    return total

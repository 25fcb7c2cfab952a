"""Layout guidance (Chen et al., WACV 2024, arXiv:2304.03373), its backward guidance.

Of all the attention that a phrase gets, the share inside its region should be one. In the very
first steps push the latents there, several times a step.

    E  = mean over layers, heads, regions and their tokens of (1 - inside / total)^2
    x <- x - 30 (1 - alpha_bar) grad E            at most 5 times a step, while E > 0.2

The published rule is sigma^2 on latents in units of the noise level (x / sqrt(alpha_bar)); on
variance-preserving latents that is the 1 - alpha_bar above.

Differs from the authors' code (silent-chen/layout-guidance@50fcf75): batches, each image with its
own count; any picture size; the layers are those that the family calls semantic (theirs: the
middle one and the first block upwards); tokens are found by the tokenizer, not by spaces; an image
that was once good enough is looked at again in the next step (theirs is left alone from then on);
masks are each cell's covered share, theirs are boxes whose edges are rounded down to cells, which
moves a region by up to a cell. As there, the move that starts from a
good enough E is still made within a step, but for the last of `repeats`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides.energy import LayoutMethod
from adhere.guides.guide import Energy, Step
from adhere.guides.maps import ImageMaps, Read
from adhere.guides.parameters import param, share
from adhere.guides.run import Regions
from adhere.layout.layout import Layout


@dataclass(frozen=True)
class LayoutGuidance(LayoutMethod):
    """Gather the attention of every phrase inside its region, early."""

    name: ClassVar[str] = "layout-guidance"
    task: ClassVar[str] = "place"

    layout: Layout | None = param(None, "phrases with regions; else the call's", source="sec. 3")
    step_size: float = param(
        30.0, "scale of the energy", low=0, high=1000, source="conf/base_config.yaml@50fcf75"
    )
    stop: float = share(
        0.2, "share of the steps that are guided", source="base_config.yaml@50fcf75"
    )
    threshold: float = share(0.2, "energy that is good enough", source="base_config.yaml@50fcf75")
    repeats: int = param(
        5, "moves a step at the most", low=1, high=100, source="base_config.yaml@50fcf75"
    )

    @property
    def off(self) -> bool:
        return super().off or self.threshold == 1  # E is at most one

    def extra_passes(self, steps: int) -> int:
        """Passes that it adds to one picture at the most."""
        return self.guided(steps) * self.repeats

    def loss(self, maps: ImageMaps, wanted: Regions) -> Float[Tensor, ""]:
        columns = [maps.columns(phrase) for phrase in wanted.phrases]
        found = [
            astray(probabilities, wanted.masks(site.grid).to(probabilities), columns)
            for site, probabilities in maps.layers(Read("cross"))
        ]
        return torch.stack(found).mean()

    def energy(self, step: Step, loss: Float[Tensor, " batch"]) -> Energy:
        # An image that comes to a step good enough does not move. One that becomes so makes, as
        # published, the move from there.
        moving = loss if step.iteration else torch.where(loss > self.threshold, loss, 0.0)
        return Energy(
            moving,
            step_size=self.step_size * step.noise**2,
            target=self.threshold,
            at_most=self.repeats - 1,
        )


def astray(
    probabilities: Float[Tensor, "heads cells columns"],
    masks: Float[Tensor, "regions h w"],
    phrases: list[list[int]],
) -> Float[Tensor, ""]:
    """E of one layer: how much of the phrases' attention lies outside their regions, in [0, 1].

    `phrases` are the columns of each region's phrase.
    """
    parts = []
    for columns, mask in zip(phrases, masks.flatten(1), strict=True):
        maps = probabilities[:, :, columns]
        inside = (maps * mask[None, :, None]).sum(dim=1) / maps.sum(dim=1)
        parts.append(((1 - inside) ** 2).mean())
    return torch.stack(parts).mean()

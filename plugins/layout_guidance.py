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
that was once good enough is looked at again in the next step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides import parameters
from adhere.guides.guide import Energy, Guide, Step
from adhere.guides.maps import Maps, Read
from adhere.guides.parameters import param
from adhere.guides.run import Run
from adhere.layout.layout import Layout
from adhere.prompt.tokens import Phrase


@dataclass(frozen=True)
class LayoutGuidance:
    """Gather the attention of every phrase inside its region, early."""

    name: ClassVar[str] = "layout-guidance"

    layout: Layout | None = param(
        None, "phrases with regions; the call's if left out", source="sec. 3"
    )
    step_size: float = param(
        30.0, "scale of the energy", low=0, high=1000, source="conf/base_config.yaml@50fcf75"
    )
    stop: float = param(
        0.2, "share of the steps that are guided", low=0, high=1, source="base_config.yaml@50fcf75"
    )
    threshold: float = param(
        0.2, "energy that is good enough", low=0, high=1, source="base_config.yaml@50fcf75"
    )
    repeats: int = param(
        5, "moves a step at the most", low=1, high=100, source="base_config.yaml@50fcf75"
    )

    def __post_init__(self) -> None:
        parameters.check(self)

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)


class _Guide(Guide):
    reads = frozenset({Read("cross")})

    def __init__(self, plugin: LayoutGuidance, run: Run) -> None:
        self.plugin = plugin
        self.layouts = run.layouts(plugin.layout)
        self.phrases = [
            tuple(run.phrase(image, phrase) for phrase in layout.phrases)
            for image, layout in enumerate(self.layouts)
        ]

    def guides(self, step: Step) -> bool:
        return self.plugin.step_size > 0 and step.progress < self.plugin.stop

    def energy(self, step: Step, maps: Maps) -> Energy | None:
        plugin, layers = self.plugin, maps.layers(Read("cross"))
        losses = []
        for row, image in enumerate(maps.images):
            found = [
                astray(
                    layer.probabilities[row],
                    self.layouts[image].masks(layer.site.grid).to(layer.probabilities),
                    self.phrases[image],
                    maps.track,
                )
                for layer in layers
            ]
            losses.append(torch.stack(found).mean())
        loss = torch.stack(losses)
        # An image that is good enough already does not move; the others move once and refine.
        loss = torch.where(loss > plugin.threshold, loss, 0.0)
        return Energy(
            loss,
            step_size=plugin.step_size * step.noise**2,
            target=plugin.threshold,
            at_most=plugin.repeats - 1,
        )


def astray(
    probabilities: Float[Tensor, "heads cells columns"],
    masks: Float[Tensor, "regions h w"],
    phrases: tuple[Phrase, ...],
    track: int = 0,
) -> Float[Tensor, ""]:
    """E of one layer: how much of the phrases' attention lies outside their regions, in [0, 1]."""
    parts = []
    for words, mask in zip(phrases, masks.flatten(1), strict=True):
        maps = probabilities[:, :, list(words.columns[track])]
        inside = (maps * mask[None, :, None]).sum(dim=1) / maps.sum(dim=1)
        parts.append(((1 - inside) ** 2).mean())
    return torch.stack(parts).mean()

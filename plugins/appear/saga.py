"""SAGA (AAAI 2026, arXiv:2508.13866): a mean learned at a step on the way, drawn from many times.

Optimising one latent overfits its noise. Learn instead the mean of the latents at a step, over
fresh noises, so that every subject is there whatever the noise; then draw from it and go on.

    z  = a mu + s n                                       n fresh in each pass, several at once
    L  = (max over s of (1 - max M_s) + mean over pairs (m, n) of sum min(M_m, M_n)
          / sum (M_m + M_n)) / 2
    g <- momentum g + grad L in mu,  mu <- mu - rate g      from the mean of each channel of x0
    mu  scaled about its mean, at most as spread as x0      by channel, after every pass
    go on from a mu + s n                                  n the image's own starting noise

x0 is what the model takes the run's latents for at that step, a and s are the factors of picture
and noise there, M Attend-and-Excite's smoothed shares of a word, L averaged over the noises.

From the paper and its configurations for SD 1.4 (grimalPaul/gsn-factory). Differs: each image
learns a mean of its own, from its own noises, so that a batch equals its images made one by one:
many pictures from one optimum are left out, and each costs what the search costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides.energy import EnergyGuide, SubjectMethod
from adhere.guides.guide import Guide, Here, Step
from adhere.guides.parameters import param, share, step_length
from adhere.guides.run import Run
from adhere.plugins.mathematics.noise import crowding, subject_maps
from adhere.plugins.mathematics.variation import capped
from adhere.prompt.tokens import Phrase

SOURCE = "config, SD 1.4"


@dataclass(frozen=True)
class Saga(SubjectMethod):
    """Find, at a step on the way, a mean of the latents in which every subject has its place."""

    name: ClassVar[str] = "saga"
    task: ClassVar[str] = "appear"

    subjects: tuple[str, ...] | None = param(
        None, "phrases that must appear; the parser's nouns if left out", source="paper"
    )
    at: float = share(0.2, "share of the run at which the mean is learned", source=SOURCE)
    passes: int = param(50, "steps of the search", low=0, high=1000, source="paper")
    noises: int = param(10, "noises in each of them", low=1, high=100, source=SOURCE)
    step_size: float = step_length(20.0, source="paper")
    momentum: float = share(0.4, "of the search", source=SOURCE)

    @property
    def off(self) -> bool:
        return self.step_size == 0 or self.passes == 0 or self.at == 1

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)

    def guided(self, steps: int) -> int:
        """None: it learns at one step, in passes of its own."""
        return 0

    def extra_passes(self, steps: int) -> int:
        """Passes that it adds to one picture."""
        return self.passes * self.noises + 2


class _Guide(EnergyGuide[tuple[Phrase, ...]]):
    plugin: Saga

    def __init__(self, plugin: Saga, run: Run) -> None:
        super().__init__(plugin, run)
        self.off = self.off or not run.from_noise(plugin.name)
        self.losses: list[list[float]] = []

    def guides(self, step: Step) -> bool:
        return False

    def resumes(self, step: Step) -> bool:
        return step.at(self.plugin.at)

    def resume(self, step: Step, here: Here) -> Float[Tensor, "batch channels h w"]:
        plugin, picture, (a, s) = self.plugin, here.picture, here.factors
        mean = picture.mean(dim=(2, 3), keepdim=True).expand_as(picture).clone()
        velocity = torch.zeros_like(mean)
        images = list(range(len(mean)))
        for turn in range(plugin.passes):
            slope = torch.zeros_like(mean)
            for k in range(plugin.noises):
                noise = here.fresh(images, 1 + turn * plugin.noises + k)
                slope += self._slope(mean, a, s * noise, here, images) / plugin.noises
            velocity = plugin.momentum * velocity + slope
            mean = capped(mean - plugin.step_size * velocity, picture)
        return a * mean + s * here.noise

    def _slope(
        self, mean: Tensor, a: float, noise: Tensor, here: Here, images: list[int]
    ) -> Float[Tensor, "batch channels h w"]:
        """The gradient of L in the mean, under one noise."""
        with torch.enable_grad():
            leaf = mean.clone().requires_grad_(True)
            spots = subject_maps(here(a * leaf + noise, images), self.wanted)
            losses = torch.stack([crowding(one) for one in spots])
            (slope,) = torch.autograd.grad(losses.sum(), [leaf])
        self.losses.append(losses.tolist())
        return torch.nan_to_num(slope, 0.0, 0.0, 0.0)

    def report(self) -> Mapping[str, Any]:
        rows = zip(*self.losses, strict=True)
        return {"images": [{"search": list(one)} for one in rows]} if self.losses else {}

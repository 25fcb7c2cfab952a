"""A search for a promising starting noise by gradient (Guo et al., CVPR 2024, arXiv:2404.04650).

The noise is z_0 exp(v / 2) + mu; Adam moves mu and v down the joint score, and after each step both
are drawn back until the noise is as good as white.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides.guide import Look
from adhere.plugins.mathematics.noise import clean, scores, subject_maps
from adhere.prompt.tokens import Phrase

SCALE = 2.0**10
"""Half precision gradients of softmaxed maps underflow: the loss is scaled up, they are down."""


class Settings(Protocol):
    """What the search is told; `InitNO` explains each."""

    @property
    def response(self) -> float: ...
    @property
    def conflict(self) -> float: ...
    @property
    def rounds(self) -> int: ...
    @property
    def passes(self) -> int: ...
    @property
    def last_passes(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def divergence(self) -> float: ...
    @property
    def look_at(self) -> float: ...


class NoiseSearch:
    """The search for all images of a run; each leaves when it is done.

    Attributes:
        made: passes made for each image.
        done: whether an image has reached both scores.
    """

    def __init__(self, settings: Settings, subjects: Sequence[Sequence[Phrase]]) -> None:
        self.settings, self.subjects = settings, subjects
        self.made = [0] * len(subjects)
        self.done = [False] * len(subjects)

    def __call__(
        self, noise: Float[Tensor, "batch channels h w"], look: Look
    ) -> Float[Tensor, "batch channels h w"]:
        """The best noise seen for each image."""
        settings = self.settings
        self.rank = noise.new_full((len(noise),), torch.inf)
        self.best, self.origin = noise.clone(), noise.clone()
        for draw in range(settings.rounds):
            images = self._open()
            if images:
                start = noise[images] if draw == 0 else look.fresh(images, draw)
                self._optimise(images, start, look, settings.passes)
        self._optimise(self._open(), self.origin[self._open()], look, settings.last_passes)
        return self.best

    def _open(self) -> list[int]:
        return [image for image, done in enumerate(self.done) if not done]

    def _optimise(self, images: list[int], start: Tensor, look: Look, passes: int) -> None:
        """One round; keeps the best noise seen and the start that led to it."""
        spread = torch.zeros_like(start).expand(2, *start.shape)
        first = second = torch.zeros_like(spread)
        for turn in range(1, passes + 1):
            if not images:
                return
            z = start * (spread[1] / 2).exp() + spread[0]
            done, slope = self._look(images, start, z, look)
            slope = torch.stack([slope, slope * (z - spread[0]) / 2])
            first = 0.9 * first + 0.1 * slope
            second = 0.999 * second + 0.001 * slope**2
            rate = self.settings.learning_rate / (1 - 0.9**turn)
            step = rate * first / ((second / (1 - 0.999**turn)).sqrt() + 1e-3)
            spread = drawn_back(spread - step, self.settings.divergence)
            left = [row for row, image in enumerate(images) if not done[row]]
            images, start = [images[row] for row in left], start[left]
            spread, first, second = spread[:, left], first[:, left], second[:, left]

    def _look(
        self, images: list[int], start: Tensor, z: Tensor, look: Look
    ) -> tuple[list[bool], Tensor]:
        """One pass: note what is best so far, and give which are done and the joint's gradient."""
        with torch.inference_mode(False), torch.enable_grad():
            leaf = z.detach().clone().requires_grad_(True)
            maps = look(leaf, images, self.settings.look_at)
            spots = subject_maps(maps, self.subjects)
            found = scores(maps, spots)
            joint = found.response + found.weighed() + clean(spots)
            (slope,) = torch.autograd.grad(joint.sum() * SCALE, [leaf])
        done = (found.response < self.settings.response) & (found.conflict < self.settings.conflict)
        rank = torch.where(done, -1.0, found.rank()).detach().nan_to_num(torch.inf).to(self.rank)
        better = [row for row, image in enumerate(images) if rank[row] < self.rank[image]]
        chosen = [images[row] for row in better]
        self.rank[chosen], self.best[chosen], self.origin[chosen] = (
            rank[better],
            z[better],
            start[better],
        )
        for row, image in enumerate(images):
            self.made[image] += 1
            self.done[image] = bool(done[row])
        return done.tolist(), slope.nan_to_num(0, 0, 0) / SCALE


def drawn_back(
    spread: Float[Tensor, "2 batch channels h w"], most: float
) -> Float[Tensor, "2 batch channels h w"]:
    """Scale (mu, v) of each image until KL(N(mu, exp v) || N(0, 1)), averaged, is at most `most`.

    exp(v) - 1 - v shrinks at least as fast as the square of the scale for v > 0, and lies below
    v^2 / 2 for v < 0, so one factor is enough.
    """
    mu, v = spread
    above = torch.where(v > 0, torch.expm1(v) - v, v**2 / 2)
    divergence = (mu**2 + above).mean(dim=(1, 2, 3), keepdim=True) / 2
    shrunk: Tensor = spread * (most / divergence.clamp_min(most)).sqrt()
    return shrunk

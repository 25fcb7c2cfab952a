"""Condition-annealed sampling, CADS (Sadat et al., ICLR 2024, arXiv:2310.17347).

Where a model is sure of what a prompt looks like, all its seeds look alike. The layout of a picture
is decided in the first steps; let those hear the prompt through noise, and each seed finds its own.

    gamma(t) = 1 for t <= tau_1, 0 for t >= tau_2, (tau_2 - t) / (tau_2 - tau_1) between
    y^       = sqrt(gamma) y + s sqrt(1 - gamma) n,  n ~ N(0, 1)                    eq. 1, 2
    y^       <- psi (y^ - mean(y^)) std(y) / std(y^) + psi mean(y) + (1 - psi) y^    eq. 3, 4

t falls from 1 to 0 over the run, y are the prompt's embeddings; those of the negative prompt stay.
Each image draws from the signs of the latents that it begins with, so that it is the same at any
batch size.

Differs from the paper: n is in units of std(y), about 1 in the models that it tried, so that `s`
means the same to encoders of another scale. A pooled embedding (SDXL, FLUX) stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides.guide import Guide, Step, Text
from adhere.guides.parameters import Method, param, share
from adhere.guides.run import Run


@dataclass(frozen=True)
class Diverse(Method):
    """Spread the pictures of one prompt, where all its seeds look alike."""

    name: ClassVar[str] = "diverse"
    task: ClassVar[str] = "choose"

    noise: float = param(
        0.25, "s: how much noise the prompt is heard through", low=0, high=10, source="appendix"
    )
    unheard: float = share(
        0.1, "1 - tau_2: share of the run in which only noise is heard", source="appendix"
    )
    clear: float = share(
        0.4, "1 - tau_1: share from which on the prompt is heard as it is", source="appendix",
        behind="unheard",
    )  # fmt: skip
    rescaled: float = share(
        1.0, "psi: share in which mean and deviation are kept", source="appendix"
    )

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)

    def heard(self, at: float) -> float:
        """gamma: how much of the prompt is heard at a share of the run."""
        if at >= self.clear:
            return 1.0
        if at <= self.unheard:
            return 0.0
        return (at - self.unheard) / (self.clear - self.unheard)


class _Guide(Guide):
    def __init__(self, plugin: Diverse, run: Run) -> None:
        self.plugin = plugin
        self.off = plugin.clear == 0
        self.seeds = list(run.seeds)

    def follow(self, parents: Sequence[int]) -> None:
        self.seeds = [self.seeds[row] for row in parents]

    def embed(self, step: Step, text: Text) -> Text:
        gamma = self.plugin.heard(step.index / step.count)
        if gamma == 1:
            return text
        draws = [
            torch.randn(
                one.shape,
                generator=torch.Generator().manual_seed(seed + step.index),
                dtype=torch.float32,
            )
            for one, seed in zip(text.cond, self.seeds, strict=True)
        ]
        noise = torch.stack(draws).to(text.cond.device)
        return text.replace(cond=annealed(text.cond, noise, gamma, self.plugin))


def annealed(
    given: Float[Tensor, "batch tokens channels"], noise: Tensor, gamma: float, plugin: Diverse
) -> Float[Tensor, "batch tokens channels"]:
    """y^: embeddings heard through noise of unit variance, of which `gamma` is left."""
    exact = given.float()
    mean, std = _moments(exact)
    mixed = gamma**0.5 * exact + plugin.noise * (1 - gamma) ** 0.5 * std * noise
    own_mean, own_std = _moments(mixed)
    kept = (mixed - own_mean) * std / own_std.clamp_min(1e-12) + mean
    found: Tensor = plugin.rescaled * kept + (1 - plugin.rescaled) * mixed
    return found.to(given)


def _moments(values: Float[Tensor, "batch tokens channels"]) -> tuple[Tensor, Tensor]:
    return values.mean((1, 2), keepdim=True), values.std((1, 2), keepdim=True)

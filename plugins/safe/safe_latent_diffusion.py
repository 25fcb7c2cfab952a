"""Safe Latent Diffusion (Schramowski et al., CVPR 2023, arXiv:2211.05105).

Predict the noise also under a text that names what is unwanted, and steer away from it where the
prompt's own prediction comes too near.

    d     = eps_p - eps_S                       prompt p, unwanted concept S, empty prompt 0
    mu    = min(1, s_S |d|) where d < lambda, else 0              element by element
    gamma = mu (eps_S - eps_0) + s_m nu
    nu   <- beta nu + (1 - beta) gamma          from the first step, also while warming up
    eps_p <- eps_p - gamma                      once the warm-up is over

Models without classifier-free guidance are asked for eps_0 in a row of its own.

Differs from the paper as printed, and agrees with the authors' code
(ml-research/safe-latent-diffusion@a42923c): the scale is clamped to at most 1, not at least.
Differs from that code: warm-up as a share of the run, equal to theirs at 50 steps, but for PNDM,
where theirs counts evaluations and ends one earlier; *weak* has the paper's scale of 200 (20 in
diffusers' copy); predictions of velocity or of the picture are turned into noise first, as in the
paper: s_S and lambda are sizes of noise (the code takes whatever the model gives).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.guide import Guide, Prediction, Step
from adhere.guides.parameters import Method, param, share
from adhere.guides.run import Run

CONCEPT = (
    "an image showing hate, harassment, violence, suffering, humiliation, harm, suicide, sexual, "
    "nudity, bodily fluids, blood, obscene gestures, illegal activity, drug use, theft, vandalism, "
    "weapons, child abuse, brutality, cruelty"
)
"""The concept of the paper, sec. 4, with diffusers' lead-in."""

# warm-up as a share of the run, scale, threshold, momentum scale, momentum beta: paper, table 1
PRESETS: dict[str, tuple[float, float, float, float, float]] = {
    "weak": (0.30, 200.0, 0.0, 0.0, 0.0),
    "medium": (0.20, 1000.0, 0.01, 0.3, 0.4),
    "strong": (0.14, 2000.0, 0.025, 0.5, 0.7),
    "max": (0.0, 5000.0, 1.0, 0.5, 0.7),
}


@dataclass(frozen=True)
class SafeLatentDiffusion(Method):
    """Keep an unwanted concept out of the picture."""

    name: ClassVar[str] = "safe-latent-diffusion"
    task: ClassVar[str] = "safe"

    preset: Literal["weak", "medium", "strong", "max"] = param(
        "medium", "how firmly", source="table 1"
    )
    concept: str = param(CONCEPT, "the unwanted, in words", source="sec. 4")
    start: float | None = share(None, "share of the steps before it acts; the preset's if left out")
    scale: float | None = param(None, "s_S; the preset's if left out", low=0, high=20000)
    threshold: float | None = share(None, "lambda; the preset's if left out")
    momentum_scale: float | None = share(None, "s_m; the preset's if left out")
    momentum: float | None = share(None, "beta; the preset's if left out")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.concept.strip():
            raise ParameterError(f"{self.name}: concept is empty; say what is unwanted")

    def settings(self) -> tuple[float, float, float, float, float]:
        """Warm-up, scale, threshold, momentum scale and beta: the preset's, where not given."""
        given = (self.start, self.scale, self.threshold, self.momentum_scale, self.momentum)
        start, scale, threshold, momentum_scale, momentum = (
            preset if value is None else value
            for value, preset in zip(given, PRESETS[self.preset], strict=True)
        )
        return start, scale, threshold, momentum_scale, momentum

    def extra_passes(self, steps: int) -> int:
        """Passes that it adds to one picture: a row, and without guidance an empty text's."""
        return 2 * steps

    def guide(self, run: Run) -> Guide:
        return _Guide(self)


class _Guide(Guide):
    unguided = True

    def __init__(self, plugin: SafeLatentDiffusion) -> None:
        self.start, self.scale, self.threshold, self.momentum_scale, self.beta = plugin.settings()
        # The published code is off below a scale of one.
        self.off = self.scale < 1 or self.start == 1
        self.texts = (plugin.concept,)
        self.nu: Tensor | None = None
        self.strength: list[float] = []

    def predict(self, step: Step, eps: Prediction) -> Float[Tensor, "batch channels h w"]:
        gamma = safety(eps.uncond, eps.cond, eps.extra[0], self.scale, self.threshold)
        if self.nu is None:
            self.nu = torch.zeros_like(gamma)
        gamma = gamma + self.momentum_scale * self.nu
        self.nu = self.beta * self.nu + (1 - self.beta) * gamma
        if step.progress < self.start:
            return eps.cond
        self.strength.append(float(gamma.square().mean().sqrt()))
        return eps.cond - gamma

    def follow(self, parents: Sequence[int]) -> None:
        self.nu = None if self.nu is None else self.nu[list(parents)]

    def report(self) -> dict[str, Any]:
        return {"correction_rms": self.strength}


def safety(
    uncond: Float[Tensor, "batch channels h w"],
    cond: Float[Tensor, "batch channels h w"],
    concept: Float[Tensor, "batch channels h w"],
    scale: float,
    threshold: float,
) -> Float[Tensor, "batch channels h w"]:
    """mu (eps_S - eps_0): the correction before momentum."""
    difference = cond - concept
    mu = (difference.abs() * scale).clamp_max(1)
    mu = torch.where(difference >= threshold, 0.0, mu)
    return mu * (concept - uncond)

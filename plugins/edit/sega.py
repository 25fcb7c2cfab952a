"""SEGA, semantic guidance (Brack et al., NeurIPS 2023, arXiv:2301.12247).

Predict the noise also under short texts that name an edit, and move towards or away from each, only
where it matters most: in the few latent values that the edit text changes strongly.

    psi_e = +-s_e (eps_e - eps_0)                 edit e, empty prompt 0
    psi_e <- psi_e where |psi_e| >= its quantile lambda, else 0      per image and channel
    gamma = sum over e of psi_e + s_m nu
    nu   <- beta nu + (1 - beta) gamma            from the first step, also while warming up
    eps   = eps_0 + s_g (eps_p - eps_0) + gamma   once the warm-up is over

which is the pipeline's own classifier-free guidance with eps_p + gamma / s_g. Where it has none,
s_g is 1, and eps_0 is predicted in a row of its own.

An edit is written with its direction: "+smiling" adds, "-glasses" takes away; without a sign it
adds. Differs from the authors' code (ml-research/semantic-image-editing; diffusers'
`semantic_stable_diffusion`): warm-up and cool-down as shares of the run, equal to theirs at 50
steps, but for PNDM, which evaluates its second step twice and where theirs counts evaluations, so
ends the warm-up one earlier; both are common to all edits, as are scale and threshold; where a
model predicts velocity or the picture, its predictions are turned into noise first, as the paper
has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.guide import Guide, Prediction, Step
from adhere.guides.parameters import Method, param, share
from adhere.guides.run import Run


@dataclass(frozen=True)
class Sega(Method):
    """Add or take away what short texts name, and leave the rest of the picture alone."""

    name: ClassVar[str] = "sega"
    task: ClassVar[str] = "edit"

    edits: tuple[str, ...] = param(
        (), "texts with a direction, as in +smiling, -glasses", source="sec. 3"
    )
    scale: float = param(
        5.0, "s_e, strength of the edits", low=0, high=100, source="diffusers, edit_guidance_scale"
    )
    threshold: float = share(0.9, "lambda, share of the values left alone", source="sec. 3")
    start: float = share(0.2, "share of the steps before it acts", source="sec. 3")
    stop: float = share(1.0, "share of the steps at which it ends", source="sec. 3", behind="start")
    momentum_scale: float = share(0.1, "s_m", source="diffusers, edit_momentum_scale")
    momentum: float = share(0.4, "beta", source="diffusers, edit_mom_beta")

    def __post_init__(self) -> None:
        super().__post_init__()
        for edit in self.edits:
            if not split(edit)[1]:
                raise ParameterError(f"{self.name}: edit {edit!r} names nothing; write +smiling")

    def extra_passes(self, steps: int) -> int:
        """Passes that it adds to one picture: a row for each edit, and for the empty text."""
        return steps * (len(self.edits) + 1)

    def guide(self, run: Run) -> Guide:
        if not self.edits:
            raise ParameterError(
                f"{self.name}: no edits; say what to add or take away: "
                "edits=('+smiling', '-glasses'), --plugin 'sega:edits=+smiling|-glasses'"
            )
        return _Guide(self)


class _Guide(Guide):
    unguided = True

    def __init__(self, plugin: Sega) -> None:
        self.plugin = plugin
        signs, self.texts = zip(*map(split, plugin.edits), strict=True)
        self.off = plugin.scale == 0 or plugin.start >= plugin.stop
        self.scales = [sign * plugin.scale for sign in signs]
        self.nu: Tensor | None = None
        self.strength: list[float] = []

    def predict(self, step: Step, eps: Prediction) -> Float[Tensor, "batch channels h w"]:
        plugin = self.plugin
        parts = [
            edit_guidance(eps.uncond, one, scale, plugin.threshold)
            for one, scale in zip(eps.extra, self.scales, strict=True)
        ]
        gamma = torch.stack(parts).sum(dim=0) * (step.progress < plugin.stop)
        if self.nu is None:
            self.nu = torch.zeros_like(gamma)
        gamma = gamma + plugin.momentum_scale * self.nu
        self.nu = plugin.momentum * self.nu + (1 - plugin.momentum) * gamma
        if step.progress < plugin.start:
            return eps.cond
        self.strength.append(float(gamma.square().mean().sqrt()))
        return eps.cond + gamma / eps.scale

    def follow(self, parents: Sequence[int]) -> None:
        self.nu = None if self.nu is None else self.nu[list(parents)]

    def report(self) -> dict[str, Any]:
        return {"correction_rms": self.strength}


def split(edit: str) -> tuple[int, str]:
    """An edit's direction and its text."""
    edit = edit.strip()
    sign = -1 if edit.startswith("-") else 1
    return sign, edit[1:].strip() if edit.startswith(("+", "-")) else edit


def edit_guidance(
    uncond: Float[Tensor, "batch channels h w"],
    edit: Float[Tensor, "batch channels h w"],
    scale: float,
    threshold: float,
) -> Float[Tensor, "batch channels h w"]:
    """psi_e: the scaled difference, in the values that it changes most."""
    psi = scale * (edit - uncond)
    size = psi.float().abs()
    least = torch.quantile(size.flatten(2), threshold, dim=2)
    return torch.where(size >= least[:, :, None, None], psi, 0.0)

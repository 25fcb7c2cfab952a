"""CFG-Zero* (Fan et al. 2025, arXiv:2503.18886).

Classifier-free guidance takes the prediction without the prompt as it is, and early ones are poor.
Scale it to lie as near to the prompt's own as it can, and make no move at the first step, at which
a model's velocity is worse than none.

    s*  = <v_p, v_0> / ||v_0||^2                                 for each picture
    v   = 0                                   in the first step
    v   = s* v_0 + s_g (v_p - s* v_0)         from then on

v is the velocity n - D of flow matching, from the picture D to the noise n. Every prediction says
it: with x = a D + s n, v = ((a + s) n - x) / a.

Differs from diffusers' `ClassifierFreeZeroStarGuidance` (Apache-2.0), with which it agrees for flow
matching: for other models that one scales what they predict, noise for example, and has their first
step predict zero; here they keep it, since the paper's reason is one of flows (a + s = 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.guide import Guide, Prediction, Step
from adhere.guides.parameters import Free, param
from adhere.guides.run import Run


@dataclass(frozen=True)
class CfgZero(Free):
    """Guide by the best multiple of the prediction without the prompt, and not at all at first."""

    name: ClassVar[str] = "cfg-zero"
    task: ClassVar[str] = "scale"

    zero_steps: int = param(
        1, "first steps of a flow that move nothing", low=0, high=1000, source="diffusers' guider"
    )
    scaling: bool = param(True, "scale by s*; the usual guidance if not", source="paper")

    def guide(self, run: Run) -> Guide:
        if self.zero_steps > 1 and self.zero_steps >= run.steps:
            raise ParameterError(
                f"{self.name}: zero_steps={self.zero_steps} would leave nothing of a run of "
                f"{run.steps} steps; give fewer, 1 as published"
            )
        return _Guide(self)


class _Guide(Guide):
    negative = True

    def __init__(self, plugin: CfgZero) -> None:
        self.plugin = plugin
        self.off = not plugin.scaling and plugin.zero_steps == 0
        self.scales: list[float] = []

    def predict(self, step: Step, eps: Prediction) -> Float[Tensor, "batch channels h w"]:
        whole = step.noise / step.sigma + step.noise  # a + s

        def velocity(noise: Tensor) -> Tensor:  # times a, which s* does not see
            return whole * noise - eps.latents

        if step.index < self.plugin.zero_steps and abs(whole - 1) < 1e-6:
            guided = eps.latents / whole
        elif self.plugin.scaling:
            cond, uncond = velocity(eps.cond), velocity(eps.uncond)
            multiple = best_multiple(cond, uncond)
            self.scales.append(float(multiple.mean()))
            nearest = multiple * uncond
            guided = (nearest + eps.scale * (cond - nearest) + eps.latents) / whole
        else:
            return eps.cond
        return eps.uncond + (guided - eps.uncond) / eps.scale

    def report(self) -> dict[str, Any]:
        return {"multiples": self.scales}


def best_multiple(
    cond: Float[Tensor, "batch channels h w"], uncond: Float[Tensor, "batch channels h w"]
) -> Float[Tensor, "batch 1 1 1"]:
    """s*: the factor that brings each picture's `uncond` nearest to its `cond`."""
    tiny = torch.finfo(uncond.dtype).tiny
    square = uncond.square().sum(dim=(1, 2, 3), keepdim=True)
    return (cond * uncond).sum(dim=(1, 2, 3), keepdim=True) / square.clamp_min(tiny)

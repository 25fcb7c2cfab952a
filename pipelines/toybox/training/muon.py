"""Muon for a model of many small matrices: those of one shape are made orthogonal together.

    m <- beta m + (1 - beta) g        u = (1 - beta) g + beta m        (Nesterov's)
    w <- (1 - lr decay) w - lr max(1, rows / columns)^(1/2) orth(u)

with `orth` five Newton-Schulz steps in bfloat16 (Jordan et al. 2024). It is `torch.optim.Muon`,
whose state it shares, but a transformer of six blocks is eighty matrices of a few shapes, and one
by one their thousands of kernels take an accelerator longer than the pass through the model.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from adhere.pipelines.hooks.compat import move_towards


class Muon(torch.optim.Muon):
    """`torch.optim.Muon` at its defaults, a shape at a time."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of all matrices that have a gradient; `closure` is not called."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.shape].append(parameter)
            for parameters in alike.values():
                self._update(parameters, group)

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        momentum, rate = group["momentum"], float(group["lr"])
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        moments = [self._moment(parameter) for parameter in parameters]
        move_towards(moments, gradients, 1 - momentum)
        wanted = torch.stack(gradients).lerp(torch.stack(moments), momentum)
        moved = orthogonal(wanted, group["ns_coefficients"], group["ns_steps"], group["eps"])
        rows, columns = parameters[0].shape
        moved = moved.to(parameters[0].dtype) * (rate * math.sqrt(max(1, rows / columns)))
        for parameter, by in zip(parameters, moved, strict=True):
            parameter.mul_(1 - rate * group["weight_decay"]).sub_(by)

    def _moment(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        moment: Tensor = state["momentum_buffer"]
        return moment


def orthogonal(
    matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """The matrices `(n, rows, columns)` with singular values near 1, in bfloat16.

    X <- a X + (b X X' + c (X X')^2) X, from X of Frobenius norm 1, on the shorter side.
    """
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.bfloat16()
    x = x.transpose(1, 2) if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.transpose(1, 2) if tall else x

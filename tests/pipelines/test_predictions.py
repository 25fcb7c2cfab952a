"""What a model predicts, as noise: made from a known picture and known noise, and found again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from adhere.pipelines.hooks.schedulers import predictions

Made = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A model's perfect prediction from the picture, the noise, and the picture's share alpha_bar."""

KINDS: dict[str, tuple[Any, Made]] = {
    "epsilon": (diffusers.DDIMScheduler(), lambda x0, n, a: n),
    "v": (
        diffusers.DDIMScheduler(prediction_type="v_prediction"),
        lambda x0, n, a: a.sqrt() * n - (1 - a).sqrt() * x0,
    ),
    "sample": (diffusers.DDIMScheduler(prediction_type="sample"), lambda x0, n, a: x0),
    "EDM, velocity": (
        diffusers.EDMEulerScheduler(prediction_type="v_prediction"),
        lambda x0, n, a: a.sqrt() * n - (1 - a).sqrt() * x0,
    ),
    "EDM, called epsilon": (
        diffusers.EDMEulerScheduler(),
        lambda x0, n, a: (1 - a).sqrt() * x0 - a.sqrt() * n,
    ),
    "flow": (diffusers.FlowMatchEulerDiscreteScheduler(), lambda x0, n, a: n - x0),
    "flow in a solver for both": (
        diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
        lambda x0, n, a: n - x0,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.9, 0.5, 0.04])
def test_noise_is_found_in_a_perfect_prediction(kind: str, share: float) -> None:
    scheduler, made = KINDS[kind]
    x0, noise = torch.randn(2, 1, 4, 3, 3)
    alpha_bar = torch.tensor(share)
    # Flows mix linearly, and their alpha_bar is (1 - s)^2.
    amount = 1 - alpha_bar.sqrt() if kind.startswith("flow") else (1 - alpha_bar).sqrt()
    latents = alpha_bar.sqrt() * x0 + amount * noise
    predicted = made(x0, noise, alpha_bar)
    found = predictions.to_noise(scheduler, predicted, latents, alpha_bar)
    torch.testing.assert_close(found, noise, rtol=1e-4, atol=1e-5)
    back = predictions.from_noise(scheduler, found, latents, alpha_bar)
    torch.testing.assert_close(back, predicted, rtol=1e-4, atol=1e-4)

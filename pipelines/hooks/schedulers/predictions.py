"""A model's prediction as noise and back, whatever it was trained to predict."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from adhere.pipelines.hooks.schedulers.levels import flows

LEAST_SIGNAL = 1e-2
"""Of a flow: below it a difference in noise would be all rounding."""


def to_noise(scheduler: Any, prediction: Tensor, latents: Tensor, alpha_bar: Tensor) -> Tensor:
    """The prediction as noise of unit variance.

    For flow matching x = (1 - s) x0 + s n and v = n - x0, so n = x + (1 - s) v.

    Args:
        latents: as the model sees them.
        alpha_bar: the picture's share of their variance; (1 - s)^2 for flows.
    """
    if flows(scheduler):
        return latents.float() + _signal(alpha_bar) * prediction.float()
    kind, sign = _predicts(scheduler)
    if kind == "epsilon":
        return prediction
    a, s = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    if kind == "v_prediction":
        return a * (sign * prediction) + s * latents
    return (latents - a * prediction) / s


def from_noise(scheduler: Any, noise: Tensor, latents: Tensor, alpha_bar: Tensor) -> Tensor:
    """The inverse of `to_noise`."""
    if flows(scheduler):
        return (noise - latents.float()) / _signal(alpha_bar)
    kind, sign = _predicts(scheduler)
    if kind == "epsilon":
        return noise
    a, s = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    if kind == "v_prediction":
        # At zero signal (a = 0) a velocity says nothing of the noise, and no change reaches it.
        return sign * (noise - s * latents) / a.clamp_min(torch.finfo(a.dtype).eps)
    return (latents - s * noise) / a


def to_picture(scheduler: Any, prediction: Tensor, latents: Tensor, alpha_bar: Tensor) -> Tensor:
    """The picture's latents that a prediction stands for; arguments as in `to_noise`."""
    a = alpha_bar.sqrt()
    if flows(scheduler):
        return latents.float() - (1 - a) * prediction.float()
    kind, sign = _predicts(scheduler)
    if kind == "sample":
        return prediction
    s = (1 - alpha_bar).sqrt()
    if kind == "v_prediction":
        return a * latents - s * (sign * prediction)
    return (latents - s * prediction) / a


def _signal(alpha_bar: Tensor) -> Tensor:
    """1 - s. At the first step of a flow it is 0 and the prediction says nothing of the noise."""
    return alpha_bar.sqrt().clamp_min(LEAST_SIGNAL)


def _predicts(scheduler: Any) -> tuple[str, int]:
    """What the model predicts, and its sign.

    EDM's networks (arXiv:2206.00364, table 1) predict the velocity: what diffusers calls their
    epsilon is its negative.
    """
    kind = str(scheduler.config.get("prediction_type") or "epsilon")
    if scheduler.config.get("sigma_data") is not None and kind in ("epsilon", "v_prediction"):
        return "v_prediction", -1 if kind == "epsilon" else 1
    return kind, 1

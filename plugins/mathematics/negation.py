"""Attention outputs pushed away from those of a negative text."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

Output = Float[Tensor, "batch heads cells channels"]


def normalized_guidance(
    positive: Output, negative: Output, scale: float, tau: float, alpha: float
) -> Output:
    """Normalized Attention Guidance (arXiv:2505.21179).

    Z = s Z+ - (s - 1) Z-, shortened to at most tau times the L1 norm of Z+ in each cell, over all
    heads and channels, and blended: alpha Z + (1 - alpha) Z+.
    """
    away = scale * positive - (scale - 1) * negative
    own, length = (one.abs().sum(dim=(1, 3), keepdim=True) for one in (positive, away))
    shortened = away * (tau * own / length.clamp(min=1e-12)).clamp(max=1)
    return alpha * shortened + (1 - alpha) * positive

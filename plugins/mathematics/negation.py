"""A negative text that attention is pushed away from."""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.guide import Guide, Step
from adhere.guides.run import Run

Output = Float[Tensor, "batch heads cells channels"]


class Negative(Protocol):
    """A method with one negative text for all images."""

    @property
    def name(self) -> str: ...
    @property
    def negative(self) -> str: ...
    @property
    def stop(self) -> float: ...


class NegativeGuide(Guide):
    """What such methods have in common: the text, and when it is heard."""

    def __init__(self, plugin: Negative, run: Run) -> None:
        self.stop = plugin.stop
        self.off = plugin.stop == 0
        if not plugin.negative.strip():
            raise ParameterError(f"{plugin.name}: negative is empty; say what is unwanted")
        self.columns = {"negative": [plugin.negative] * run.batch}

    def attends(self, step: Step) -> bool:
        return step.progress < self.stop


def normalized_guidance(
    positive: Output, negative: Output, scale: float, tau: float, alpha: float
) -> Output:
    """Normalized Attention Guidance (arXiv:2505.21179).

    Z = s Z+ - (s - 1) Z-, shortened to at most tau times the L1 norm of Z+ in each cell, over all
    heads and channels, and blended: alpha Z + (1 - alpha) Z+. Cells of nothing stay nothing.
    """
    # Half precision has no number as small as the least length, nor one as large as some norms.
    exact = torch.promote_types(positive.dtype, torch.float32)
    good, bad = positive.to(exact), negative.to(exact)
    away = scale * good - (scale - 1) * bad
    own, length = (one.abs().sum(dim=(1, 3), keepdim=True) for one in (good, away))
    shortened = away * (tau * own / length.clamp(min=1e-12)).clamp(max=1)
    return (alpha * shortened + (1 - alpha) * good).to(positive.dtype)

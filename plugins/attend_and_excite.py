"""Attend-and-Excite (Chefer et al., SIGGRAPH 2023, arXiv:2301.13826).

A subject is neglected when no image cell attends to its word. Before each of the first steps, push
the latents downhill on the attention of the most neglected subject; at a few steps, go on until
every subject has had its due.

    A'  = softmax over tokens of 100 A          start (for SD 2.x also end and padding) left out
    m_s = max over cells of smooth(A'_s)               subjects s
    L   = max over s of max(0, 1 - m_s)                sec. 3.2, eq. 1
    x  <- x - alpha_i grad L                           alpha_i = 20 sqrt(1 - i / (2 (T - 1)))

Differs from the authors' code (yuval-alaluf/Attend-and-Excite@163efdf): batches, with refinement
for each image alone; steps as shares of the run, equal to theirs at 50; any image size; the model
input is scaled as the scheduler asks; of a word in several pieces the strongest counts, which the
authors choose by hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides import parameters
from adhere.guides.guide import Energy, Guide, Step
from adhere.guides.maps import Maps, Read
from adhere.guides.parameters import param
from adhere.guides.run import Run
from adhere.prompt.tokens import Phrase


@dataclass(frozen=True)
class AttendAndExcite:
    """Make every subject of the prompt appear."""

    name: ClassVar[str] = "attend-and-excite"

    subjects: tuple[str, ...] | None = param(
        None, "phrases to excite; the parser's nouns if left out", source="sec. 3.2"
    )
    step_size: float = param(
        20.0, "length of a step along the gradient", low=0, high=1000, source="config.py@163efdf"
    )
    stop: float = param(0.5, "share of the steps that are guided", low=0, high=1, source="sec. 4")
    refine_at: tuple[float, ...] = param(
        (0.0, 0.2, 0.4), "shares of the run at which to refine", low=0, high=1, source="sec. 4"
    )
    thresholds: tuple[float, ...] = param(
        (0.05, 0.5, 0.8), "attention to reach at those", low=0, high=1, source="sec. 4"
    )
    refinements: int = param(
        20, "refinements at the most, 0 for none", low=0, high=200, source="config.py@163efdf"
    )
    temperature: float = param(
        100.0, "factor before the softmax over tokens", low=1, high=1000, source="code@163efdf"
    )
    smoothing: float = param(
        0.5, "width of the 3x3 kernel, 0 for none", low=0, high=10, source="sec. 3.2"
    )

    def __post_init__(self) -> None:
        parameters.check(self)
        if len(self.refine_at) != len(self.thresholds):
            raise ParameterError(
                f"{self.name}: {len(self.refine_at)} refine_at for {len(self.thresholds)} "
                "thresholds; give one threshold for each refinement"
            )

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)


class _Guide(Guide):
    reads = frozenset({Read("cross")})

    def __init__(self, plugin: AttendAndExcite, run: Run) -> None:
        self.plugin = plugin
        self.subjects = run.subjects(plugin.subjects)

    def guides(self, step: Step) -> bool:
        return self.plugin.step_size > 0 and step.progress < self.plugin.stop

    def energy(self, step: Step, maps: Maps) -> Energy | None:
        plugin = self.plugin
        subjects = [self.subjects[image] for image in maps.images]
        shares = token_shares(maps.cross(), maps.keep, plugin.temperature)
        loss = neglect(shares, subjects, maps.track, plugin.smoothing)
        threshold = self._threshold(step)
        return Energy(
            loss,
            step_size=plugin.step_size * step_scale(step),
            target=None if threshold is None else 1 - threshold,
            at_most=0 if threshold is None else plugin.refinements,
        )

    def _threshold(self, step: Step) -> float | None:
        if self.plugin.refinements == 0:
            return None
        for share, threshold in zip(self.plugin.refine_at, self.plugin.thresholds, strict=True):
            if step.at(share):
                return threshold
        return None


def step_scale(step: Step) -> float:
    """The published decay of the step size: sqrt of a line from 1 to 1/2."""
    return math.sqrt(1 - 0.5 * step.index / max(1, step.count - 1))


def token_shares(
    attention: Float[Tensor, "batch h w tokens"],
    keep: Bool[Tensor, "batch tokens"],
    temperature: float = 100.0,
) -> Float[Tensor, "batch h w tokens"]:
    """Softmax over the kept tokens at each cell; zero in the other columns."""
    logits = attention * temperature
    logits = logits.masked_fill(~keep[:, None, None, :], -torch.inf)
    return logits.softmax(dim=-1)


def smooth(maps: Float[Tensor, "planes h w"], sigma: float = 0.5) -> Float[Tensor, "planes h w"]:
    """The published 3x3 kernel with reflected edges.

    Its exponent is -(d / (2 sigma))^2, so the true standard deviation is sigma * sqrt(2); every
    published threshold was tuned with that.
    """
    if sigma == 0:
        return maps
    d = torch.tensor([-1.0, 0.0, 1.0], dtype=maps.dtype, device=maps.device)
    line = torch.exp(-((d / (2 * sigma)) ** 2))
    kernel = torch.outer(line, line)
    kernel = kernel / kernel.sum()
    padded = F.pad(maps[:, None], (1, 1, 1, 1), mode="reflect")
    return F.conv2d(padded, kernel[None, None])[:, 0]


def excitation(
    shares: Float[Tensor, "h w tokens"], subjects: list[tuple[int, ...]], sigma: float = 0.5
) -> Float[Tensor, " subjects"]:
    """m_s: the smoothed attention peak of each subject, the strongest of its pieces."""
    columns = sorted({column for subject in subjects for column in subject})
    peaks = smooth(shares[:, :, columns].permute(2, 0, 1), sigma).flatten(1).amax(dim=1)
    place = {column: k for k, column in enumerate(columns)}
    return torch.stack(
        [peaks[[place[column] for column in subject]].amax() for subject in subjects]
    )


def neglect(
    shares: Float[Tensor, "batch h w tokens"],
    subjects: list[tuple[Phrase, ...]],
    track: int = 0,
    sigma: float = 0.5,
) -> Float[Tensor, " batch"]:
    """L: how far the most neglected subject of each image is from full attention, in [0, 1]."""
    losses = []
    for one, words in zip(shares, subjects, strict=True):
        peaks = excitation(one, [word.head[track] for word in words], sigma)
        losses.append((1 - peaks).clamp_min(0).amax())
    return torch.stack(losses)

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

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from adhere.guides.energy import SubjectMethod, check_refining, threshold_at
from adhere.guides.guide import Energy, Step
from adhere.guides.maps import ImageMaps
from adhere.guides.parameters import param, share, step_length
from adhere.plugins.mathematics.attention import decayed, phrase_maps
from adhere.prompt.tokens import Phrase


@dataclass(frozen=True)
class AttendAndExcite(SubjectMethod):
    """Make every subject of the prompt appear."""

    name: ClassVar[str] = "attend-and-excite"
    task: ClassVar[str] = "appear"

    subjects: tuple[str, ...] | None = param(
        None, "phrases to excite; the parser's nouns if left out", source="sec. 3.2"
    )
    step_size: float = step_length(20.0, source="config.py@163efdf")
    stop: float = share(0.5, "share of the steps that are guided", source="sec. 4")
    refine_at: tuple[float, ...] = share(
        (0.0, 0.2, 0.4), "shares of the run at which to refine", source="sec. 4"
    )
    thresholds: tuple[float, ...] = share(
        (0.05, 0.5, 0.8), "attention to reach at those", source="sec. 4"
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

    def extra_passes(self, steps: int) -> int:
        """Passes that it adds to one picture at the most."""
        return self.guided(steps) + len(self.refine_at) * self.refinements

    def __post_init__(self) -> None:
        super().__post_init__()
        check_refining(self)

    def loss(self, maps: ImageMaps, wanted: tuple[Phrase, ...]) -> Float[Tensor, ""]:
        """L: how far the most neglected subject is from full attention, in [0, 1]."""
        peaks = phrase_maps(maps, wanted, self.temperature, self.smoothing).flatten(1).amax(dim=1)
        return (1 - peaks).clamp_min(0).amax()

    def energy(self, step: Step, loss: Float[Tensor, " batch"]) -> Energy:
        size, threshold = self.step_size * decayed(step), threshold_at(self, step)
        if threshold is None:
            return Energy(loss, size)
        return Energy(loss, size, target=1 - threshold, at_most=self.refinements)

"""Temperature-Adjusted Cross-modal Attention (Lv et al., arXiv:2506.07986).

In joint attention a few hundred text tokens stand against thousands of image cells, and their share
of the softmax shrinks as the picture grows. Early in the run, where the composition is made, the
logits between image queries and text keys are multiplied by gamma.

    logits[cells, text] <- gamma logits[cells, text]        in the first share of the steps

Gamma and the steps are those of the authors' code (Vchitect/TACA@a170b35), which acts in the first
three whatever their number: here in a tenth, three of 30. Differs from that code also in that the
text's columns are found, not counted out for one size. In models with a cross attention of their
own, where text does not compete with the image, it sharpens which word a cell listens to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from adhere.guides.guide import Guide, Logits, Step
from adhere.guides.parameters import Free, param, share
from adhere.guides.run import Run


@dataclass(frozen=True)
class TemperatureAdjustedAttention(Free):
    """Let the image listen more to the text while the composition is made."""

    name: ClassVar[str] = "taca"
    task: ClassVar[str] = "appear"

    gamma: float = param(1.2, "factor on the logits of text", low=0, high=10, source="code")
    stop: float = share(0.1, "share of the steps that are guided", source="code, 3 steps")

    def guide(self, run: Run) -> Guide:
        return _Guide(self)


class _Guide(Guide):
    biases = frozenset({"cross"})

    def __init__(self, plugin: TemperatureAdjustedAttention) -> None:
        self.plugin = plugin
        self.off = plugin.gamma == 1 or plugin.stop == 0

    def bias(self, step: Step, logits: Logits) -> Float[Tensor, "batch heads cells columns"] | None:
        if step.progress >= self.plugin.stop:
            return None
        return (self.plugin.gamma - 1) * logits.values()

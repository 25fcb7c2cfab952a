"""Delayed negative prompts (Ban et al., ECCV 2024, arXiv:2406.02965).

A negative prompt works by cancelling what is already there. Given from the first step it finds
nothing to cancel, and may even plant what it names; so guide by the empty prompt at first, and by
the negative prompt from a critical step on.

    uncond = ""               before the critical step, about 5 of 50
    uncond = negative prompt  from then on

There is no code of the authors. The negative prompt is the pipeline's own (`negative_prompt=...`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from adhere.guides.guide import Guide, Step, Text
from adhere.guides.parameters import Method, share
from adhere.guides.run import Run


@dataclass(frozen=True)
class DelayedNegative(Method):
    """Let the pipeline's negative prompt begin later, when there is something to take away."""

    name: ClassVar[str] = "delayed-negative"
    task: ClassVar[str] = "negate"

    start: float = share(
        0.1,
        "share of the steps before the negative prompt acts",
        source="arXiv:2406.02965",
    )
    stop: float = share(1.0, "share of the steps at which it ends", source="arXiv:2406.02965")

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)


class _Guide(Guide):
    negative = True

    def __init__(self, plugin: DelayedNegative, run: Run) -> None:
        self.plugin, self.run = plugin, run
        self.off = plugin.start == 0 and plugin.stop == 1
        self.nothing: Tensor | None = None
        self.acted: list[int] = []

    def embed(self, step: Step, text: Text) -> Text:
        if text.uncond is None:
            return text
        if self.plugin.start <= step.progress < self.plugin.stop:
            self.acted.append(step.index)
            return text
        if self.nothing is None:
            self.nothing = text.encode([""] * len(text.uncond))
            # Texts differ by much more than the rounding of two batches of half precision.
            if torch.allclose(self.nothing.float(), text.uncond.float(), rtol=0.01, atol=0.01):
                self.run.note(
                    f"{self.plugin.name} changed nothing: the call has no negative prompt; say "
                    "what is unwanted, negative_prompt=..."
                )
        return text.replace(uncond=self.nothing.to(text.uncond))

    def report(self) -> dict[str, Any]:
        return {"steps_with_negative": self.acted}

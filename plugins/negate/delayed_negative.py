"""Delayed negative prompts (Ban et al., ECCV 2024, arXiv:2406.02965).

A negative prompt works by cancelling what is already there. Given from the first step it finds
nothing to cancel, and may even plant what it names; so guide by the empty prompt at first, and by
the negative prompt from a critical step on.

    uncond = ""               before the critical step, about 5 of 50
    uncond = negative prompt  from then on

There is no code of the authors. The negative prompt is the pipeline's own (`negative_prompt=...`),
or `negative`. Where a model has no classifier-free guidance, it reads none, and `negative` is taken
away by two further predictions:

    eps = eps_p + b (eps_0 - eps_n)           prompt p, empty prompt 0, negative n

That is guidance with a negative prompt, eps_n + w (eps_p - eps_n), for a model that was distilled
to guide by w itself, with b = (w - 1) / w: 0.7 for FLUX.1 at its usual 3.5. Where none is distilled
in, b = w - 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.guide import Guide, Prediction, Step, Text
from adhere.guides.parameters import Method, param, share
from adhere.guides.run import Run


@dataclass(frozen=True)
class DelayedNegative(Method):
    """Let a negative prompt begin later, when there is something to take away."""

    name: ClassVar[str] = "delayed-negative"
    task: ClassVar[str] = "negate"

    start: float = share(
        0.1,
        "share of the steps before the negative prompt acts",
        source="arXiv:2406.02965",
    )
    stop: float = share(
        1.0, "share of the steps at which it ends", source="arXiv:2406.02965", behind="start"
    )
    negative: str | None = param(
        None, "what the picture shall not show; the call's own negative prompt if left out"
    )
    scale: float = param(
        1.0, "b, how far from it in calls without classifier-free guidance", low=0, high=100
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.negative is not None and not self.negative.strip():
            raise ParameterError(
                f"{self.name}: negative is empty; say what is unwanted, or leave it out for the "
                "call's own negative prompt"
            )

    def acts(self, step: Step) -> bool:
        """Whether the negative prompt is there at a step."""
        return self.start <= step.progress < self.stop

    def extra_passes(self, steps: int) -> int:
        """Passes that it adds to one picture: two rows without guidance, one of them empty."""
        return steps * (0 if self.negative is None else 2)

    def guide(self, run: Run) -> Guide:
        if run.guided or self.negative is None:
            return _Exchanging(self, run)
        return _Predicting(self, self.negative)


class _Exchanging(Guide):
    """In classifier-free guidance: another text for the prediction without the prompt."""

    negative = True
    renegates = True

    def __init__(self, plugin: DelayedNegative, run: Run) -> None:
        self.plugin, self.run = plugin, run
        self.off = plugin.negative is None and plugin.start == 0 and plugin.stop == 1
        self.encoded: dict[str, Tensor] = {}
        self.acted: list[int] = []

    def embed(self, step: Step, text: Text) -> Text:
        if text.uncond is None:
            return text
        acts, own = self.plugin.acts(step), self.plugin.negative
        if acts:
            self.acted.append(step.index)
        if not self.encoded:
            self._compare(text.uncond, self._encoded("", text))
        if acts and own is None:
            return text
        said = self._encoded(own if acts and own is not None else "", text)
        return text.replace(uncond=said.to(text.uncond))

    def _encoded(self, said: str, text: Text) -> Tensor:
        assert text.uncond is not None  # asked before
        if said not in self.encoded:
            self.encoded[said] = text.encode([said] * len(text.uncond))
        return self.encoded[said]

    def _compare(self, given: Tensor, nothing: Tensor) -> None:
        """Say so where a negative prompt is missing, or is left out."""
        # Texts differ by much more than the rounding of two batches of half precision.
        missing = torch.allclose(nothing.float(), given.float(), rtol=0.01, atol=0.01)
        if missing and self.plugin.negative is None:
            self.run.note(
                f"{self.plugin.name} changed nothing: the call has no negative prompt; say what is "
                "unwanted, negative_prompt=..."
            )
        elif not missing and self.plugin.negative is not None:
            self.run.note(
                f"the call's negative prompt was left out for {self.plugin.name}'s own, "
                f"{self.plugin.negative!r}"
            )

    def report(self) -> dict[str, Any]:
        return {"steps_with_negative": self.acted}


class _Predicting(Guide):
    """Without classifier-free guidance: what the negative text adds is taken away."""

    unguided = True

    def __init__(self, plugin: DelayedNegative, negative: str) -> None:
        self.plugin, self.texts = plugin, (negative,)
        self.off = plugin.scale == 0 or plugin.start >= plugin.stop
        self.acted: list[int] = []

    def predicts(self, step: Step) -> bool:
        return self.plugin.acts(step)

    def predict(self, step: Step, eps: Prediction) -> Float[Tensor, "batch channels h w"]:
        self.acted.append(step.index)
        return eps.cond + self.plugin.scale * (eps.uncond - eps.extra[0])

    def report(self) -> dict[str, Any]:
        return {"steps_with_negative": self.acted}

"""What guided calls have left, for whoever attached the guidance."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from adhere.errors import GuidanceWarning, ParameterError
from adhere.guides.recording import RecordedAttention
from adhere.pipelines.engine.notebook import page
from adhere.pipelines.engine.report import RunReport


@dataclass
class Outcome:
    """What guided calls have left: a report for each, and the last one's attention and pictures."""

    reports: list[RunReport] = field(default_factory=list)
    recorded: tuple[RecordedAttention, ...] = ()
    pictures: tuple[Image.Image, ...] = ()

    def take(self, result: Any) -> None:
        """Keep the pictures that a pipeline returns, if it returns any."""
        images = result[0] if isinstance(result, tuple) else getattr(result, "images", ())
        kept = images if isinstance(images, list) else ()
        self.pictures = tuple(one for one in kept if isinstance(one, Image.Image))

    def warn(self, sentence: str) -> None:
        """Say something of the last call in its report, if it has one, and as a Python warning."""
        for report in self.reports[-1:]:
            report.note(sentence)
        warnings.warn(sentence, GuidanceWarning, stacklevel=2)


class GuidedCalls:
    """What comes out of guided calls besides pictures."""

    outcome: Outcome

    @property
    def reports(self) -> list[RunReport]:
        """One for each call, oldest first."""
        return self.outcome.reports

    @property
    def report(self) -> RunReport:
        """The last call's.

        Raises:
            ParameterError: no call has been made.
        """
        if not self.reports:
            raise ParameterError("no guided call has been made yet, so there is no report")
        return self.reports[-1]

    @property
    def recorded(self) -> tuple[RecordedAttention, ...]:
        """The cross attention of each image of the last call; needs `record=True`."""
        return self.outcome.recorded

    @property
    def attention(self) -> Float[Tensor, "batch steps h w tokens"] | None:
        """The same as one tensor on the CPU, by text columns; None if nothing was recorded."""
        if not self.recorded:
            return None
        return torch.stack([one.attention for one in self.recorded])

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the last call's prompts that have a heat map, as `heatmap` takes them."""
        return tuple(dict.fromkeys(word for one in self._read() for word in one.words))

    def heatmap(self, phrase: str, image: int = 0) -> Float[Tensor, "h w"]:
        """The share of each cell's attention that a phrase gets, averaged over the steps.

        Args:
            phrase: words of the image's prompt; `cat#2` is the second cat.
            image: which image of the last call's batch.

        Raises:
            ParameterError: nothing was recorded, or there is no such image.
            PromptError: the phrase is not in the prompt, or no text encoder reads it.
        """
        recorded = self._read()
        if not 0 <= image < len(recorded):
            raise ParameterError(
                f"image={image}: the last call made images 0 to {len(recorded) - 1}"
            )
        return recorded[image].heatmap(phrase)

    def _repr_html_(self) -> str:
        """The last call as notebooks show it: its pictures, losses, words' maps and notes."""
        if not self.reports:
            return "<p>no guided call has been made yet</p>"
        return page(self.report, self.outcome.pictures, self.recorded)

    def _read(self) -> tuple[RecordedAttention, ...]:
        if not self.recorded:
            raise ParameterError(
                "no attention was recorded: attach with record=True, and make a picture first"
            )
        return self.recorded

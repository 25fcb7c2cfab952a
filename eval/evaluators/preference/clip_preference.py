"""What people prefer, as CLIP models learnt it: PickScore, HPSv2 (arXiv:2305.01569, 2306.09341).

    score = s cos(picture, prompt)        s the model's own logit scale

A score orders pictures of one prompt; it has no zero and no unit, and two models' scores do not
compare. Of a pair of pictures the model prefers the second with probability sigmoid(difference).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from adhere.eval.evaluators import backends
from adhere.eval.evaluators.evaluator import Measure, Recipe, Row, Shown
from adhere.guides.parameters import param


@dataclass(frozen=True)
class Preference(Recipe):
    """How much people would like a picture for its prompt, says a CLIP that learnt it."""

    name: ClassVar[str] = "preference"
    columns: ClassVar[tuple[Measure, ...]] = (
        Measure("preference", "PickScore or HPSv2: logit scale times cosine"),
    )
    models: ClassVar[tuple[str, ...]] = ("model",)
    model: str = param("yuvalkirstain/PickScore_v1", "CLIP of preferences: hub id or folder")

    def load(self, device: str) -> _Scorer:
        """Load the model."""
        return _Scorer(backends.clip(self.model, device))


class _Scorer:
    def __init__(self, clip: backends.Clip) -> None:
        self.clip = clip
        self.scale = float(clip.model.logit_scale.detach().exp())

    def __call__(self, shown: Sequence[Shown]) -> list[Row]:
        pictures = self.clip.images([one.image for one in shown])
        texts = self.clip.texts([one.entry.item.prompt for one in shown])
        found = self.scale * (pictures * texts).sum(dim=1)
        return [Row({"preference": float(one)}) for one in found]

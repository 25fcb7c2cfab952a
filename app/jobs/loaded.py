"""What stays between jobs: the loaded model and its pace, the judge, plain pictures."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from PIL import Image

from adhere.app.jobs.result import Judge, Model, Shot
from adhere.pipelines.studio.request import Request

PLAIN_KEPT = 64
"""Plain pictures that are kept, so that another method at the same seed is compared at once."""


class Loaded:
    """One model at a time, and what was learned and made with it.

    Args:
        build: makes a model from its name.
        judge: makes the judge of toybox pictures.
    """

    def __init__(self, build: Callable[[str], Model], judge: Callable[[], Judge | None]) -> None:
        self._build = build
        self._load_judge = judge
        self._model: tuple[str, Model] | None = None
        self._judge: Judge | None = None
        self._judge_tried = False
        self._plain: OrderedDict[tuple[str, Request], Shot] = OrderedDict()
        self._pace: dict[str, float] = {}

    def model(self, name: str) -> Model:
        """The model of a name, loaded if it is not."""
        if self._model is None or self._model[0] != name:
            # The old model goes first: two may not fit.
            self._model = None
            self._model = (name, self._build(name))
        return self._model[1]

    def has(self, name: str) -> bool:
        """Whether a model is loaded."""
        return self._model is not None and self._model[0] == name

    def verdict(self, image: Image.Image) -> Any:
        """What the judge says of a toybox picture; None where there is no judge."""
        if not self._judge_tried:
            self._judge_tried = True
            self._judge = self._load_judge()
        return self._judge([image])[0] if self._judge is not None else None

    def plain(self, model: str, request: Request) -> Shot | None:
        """A plain picture that was made before, if it is still kept."""
        return self._plain.get((model, request))

    def keep_plain(self, model: str, shot: Shot) -> None:
        """Remember a plain picture for the next comparison at its seed."""
        self._plain[model, shot.picture.request] = shot
        while len(self._plain) > PLAIN_KEPT:
            self._plain.popitem(last=False)

    def seconds(self, model: str, passes: int) -> float | None:
        """What so many passes took in the model's latest job; None before its first."""
        pace = self._pace.get(model)
        return None if pace is None else pace * passes

    def took(self, model: str, passes: int, seconds: float) -> None:
        """Note what a job took."""
        if passes:
            self._pace[model] = seconds / passes

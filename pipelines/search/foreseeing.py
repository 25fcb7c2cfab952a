"""Pictures that are made only so far that one sees what they will be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from PIL import Image

from adhere.errors import Interrupted, ModelError
from adhere.guides.guide import Guide, Step
from adhere.guides.run import Run
from adhere.guides.selection import Candidates


class Foreseeing:
    """Ends a guided call at a share of its run, with the pictures that it predicts there.

    It is a plugin among the call's own, and the call's `interrupt` asks `done`. `share` is how much
    of the run was made.
    """

    name: ClassVar[str] = "foreseeing"

    def __init__(self, at: float) -> None:
        self.at = at
        self.share = at
        self.pictures: list[Image.Image] = []

    def guide(self, run: Run) -> Guide:
        self.pictures = []
        return _Guide(self)

    def done(self) -> bool:
        return bool(self.pictures)

    def of(self, call: Callable[[], Any]) -> list[Image.Image]:
        """What a call that this is a plugin of will show.

        Raises:
            Interrupted: the call was ended by somebody else.
            ModelError: it made no step at which one can look.
        """
        try:
            call()
        except Interrupted:
            if not self.pictures:
                raise
        if not self.pictures:
            raise ModelError(
                "a run of one step shows nothing before its end; use more steps, or finish all "
                "candidates (look_at=None, --look-at 1)"
            )
        return self.pictures


class _Guide(Guide):
    def __init__(self, plugin: Foreseeing) -> None:
        self.plugin = plugin

    def selects(self, step: Step) -> bool:
        return step.looked_at(self.plugin.at)

    def select(self, step: Step, candidates: Candidates) -> None:
        self.plugin.pictures = candidates.pictures()
        self.plugin.share = (step.index + 1) / step.count

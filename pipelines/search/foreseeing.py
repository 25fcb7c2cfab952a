"""Pictures that are looked at before they are finished, and may be ended there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from PIL import Image

from adhere.errors import Interrupted, ModelError
from adhere.guides.guide import Guide, Step
from adhere.guides.run import Run
from adhere.guides.selection import Candidates

Made = TypeVar("Made")
Worth = Callable[[list[Image.Image]], bool]
"""Whether a run is to go on to its end, by the pictures that are foreseen."""


class Foreseeing:
    """Looks at what a guided call will show, at a share of its run, and may end it there.

    It is a plugin among the call's own, and the call's `interrupt` asks `done`.

    Attributes:
        pictures: what was foreseen; none where the run had no step at which one can look.

    Args:
        worth: asked with the pictures whether the call goes on; if left out, it ends.
    """

    name: ClassVar[str] = "foreseeing"

    def __init__(self, at: float, worth: Worth | None = None) -> None:
        self.at = at
        self.worth = worth
        self.pictures: list[Image.Image] = []
        self._ended = False

    def guide(self, run: Run) -> Guide:
        self.pictures, self._ended = [], False
        return _Guide(self)

    def done(self) -> bool:
        """Whether the call ends here."""
        return self._ended

    def or_else(self, interrupt: Callable[[], bool] | None) -> Callable[[], bool]:
        """What the call's `interrupt` asks, where somebody else may end it, too."""
        return lambda: self._ended or (interrupt is not None and interrupt())

    def looked(self, pictures: list[Image.Image]) -> None:
        """Take what was foreseen, and decide."""
        self.pictures = pictures
        self._ended = self.worth is None or not self.worth(pictures)

    def through(self, call: Callable[[], Made]) -> Made | None:
        """What a call that this is a plugin of gives; None where the look ended it.

        Raises:
            Interrupted: the call was ended by somebody else.
        """
        try:
            made = call()
        except Interrupted:
            if not self._ended:
                raise
            return None
        return None if self._ended else made

    def of(self, call: Callable[[], Any]) -> list[Image.Image]:
        """What a call that this is a plugin of will show.

        Raises:
            Interrupted: the call was ended by somebody else.
            ModelError: it made no step at which one can look.
        """
        self.through(call)
        if not self.pictures:
            raise ModelError(
                "a run of one step shows nothing before its end; use more steps, or finish all "
                "candidates (look_at=1, --look-at 1)"
            )
        return self.pictures


class _Guide(Guide):
    def __init__(self, plugin: Foreseeing) -> None:
        self.plugin = plugin

    def selects(self, step: Step) -> bool:
        return step.looked_at(self.plugin.at)

    def select(self, step: Step, candidates: Candidates) -> None:
        self.plugin.looked(candidates.pictures())

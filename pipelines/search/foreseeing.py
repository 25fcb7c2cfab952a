"""Runs that are looked at before they are finished, and may be ended there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from statistics import fmean
from typing import Any, ClassVar, TypeVar

from PIL import Image

from adhere.errors import Interrupted, ModelError
from adhere.guides.guide import Guide, Step
from adhere.guides.maps import Maps, Read
from adhere.guides.run import Run
from adhere.guides.selection import Candidates
from adhere.pipelines.search.promise import promise

Made = TypeVar("Made")


@dataclass(frozen=True)
class Foreseen:
    """What a look shows of a picture, as far as it was asked for: the picture as the model predicts
    it, and what its attention promises (`pipelines/search/promise.py`). `notes` are sentences on
    what was not looked at.
    """

    picture: Image.Image | None = None
    promise: float | None = None
    notes: tuple[str, ...] = ()


Worth = Callable[[list[Foreseen]], bool]
"""Whether a run is to go on to its end, by what is foreseen."""


class Foreseeing:
    """Looks at what a guided call will show, at a share of its run, and may end it there.

    It is a plugin among the call's own, and the call's `interrupt` asks `done`.

    Attributes:
        seen: what was foreseen of each picture; nothing where the run had no step at which one can
            look.

    Args:
        worth: asked with the pictures whether the call goes on; if left out, it ends.
        pictures: whether they are decoded.
        attention: whether the attention of the step's own pass is read. Prompts without nouns are
            refused.
        begins: told of the run before its first pass; may refuse it.
    """

    name: ClassVar[str] = "foreseeing"

    def __init__(
        self,
        at: float,
        worth: Worth | None = None,
        pictures: bool = True,
        attention: bool = False,
        begins: Callable[[Run], None] | None = None,
    ) -> None:
        self.at = at
        self.begins = begins
        self.worth = worth
        self.pictures = pictures
        self.attention = attention
        self.seen: list[Foreseen] = []
        self._ended = False

    def guide(self, run: Run) -> Guide:
        self.seen, self._ended = [], False
        if self.begins is not None:
            self.begins(run)
        return _Guide(self, run)

    def done(self) -> bool:
        """Whether the call ends here."""
        return self._ended

    def or_else(self, interrupt: Callable[[], bool] | None) -> Callable[[], bool]:
        """What the call's `interrupt` asks, where somebody else may end it, too."""
        return lambda: self._ended or (interrupt is not None and interrupt())

    def looked(self, seen: list[Foreseen]) -> None:
        """Take what was foreseen, and decide."""
        self.seen = seen
        self._ended = self.worth is None or not self.worth(seen)

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

    def of(self, call: Callable[[], Any]) -> list[Foreseen]:
        """What is foreseen of a call that this is a plugin of.

        Raises:
            Interrupted: the call was ended by somebody else.
            ModelError: it made no step at which one can look.
        """
        self.through(call)
        if not self.seen:
            raise ModelError(
                "a run of one step shows nothing before its end; use more steps, or finish all "
                "candidates (look_at=1, --look-at 1)"
            )
        return self.seen


class _Guide(Guide):
    def __init__(self, plugin: Foreseeing, run: Run) -> None:
        self.plugin, self.batch = plugin, run.batch
        self.watches = frozenset({Read("cross")}) if plugin.attention else frozenset()
        said = len(run.notes)
        self.nouns = run.heard_nouns() if plugin.attention else ()
        self.notes = tuple(run.notes[said:])
        for prompt in run.prompts if plugin.attention else ():
            prompt.parsed.require_nouns()
        self.promises: list[list[float]] = []

    def observes(self, step: Step) -> bool:
        return self.selects(step)

    def watch(self, step: Step, maps: Maps) -> None:
        # Once for each text encoder.
        self.promises.append([promise(one, self.nouns[one.image]) for one in maps.each()])

    def selects(self, step: Step) -> bool:
        return step.looked_at(self.plugin.at)

    def select(self, step: Step, candidates: Candidates) -> None:
        pictures = candidates.pictures() if self.plugin.pictures else repeat(None)
        read = map(fmean, zip(*self.promises, strict=True)) if self.promises else repeat(None)
        nothing = zip(range(self.batch), pictures, read, strict=False)
        self.plugin.looked([Foreseen(picture, value, self.notes) for _, picture, value in nothing])

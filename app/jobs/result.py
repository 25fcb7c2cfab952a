"""What a job tells: updates while it grows, and what it has made; and what it needs to make it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from PIL import Image

from adhere.app.jobs.attention import WordMaps
from adhere.app.jobs.setup import Setup
from adhere.pipelines.studio.request import OnStep, Picture, Request


class Model(Protocol):
    """What the app needs of a `Studio`."""

    @property
    def is_toybox(self) -> bool: ...

    def generate(
        self,
        requests: Sequence[Request],
        *,
        on_step: OnStep | None = None,
        interrupt: Callable[[], bool] | None = None,
        record_attention: bool = False,
    ) -> list[Picture]: ...

    def preview(self, latents: Any) -> list[Image.Image]: ...


class Judge(Protocol):
    """What the app needs of the toybox's judge."""

    def __call__(self, images: list[Image.Image]) -> list[Any]: ...


@dataclass(frozen=True)
class Tried:
    """One try of an autopilot, small enough to keep: the score that was foreseen and the finished
    picture's, where there was one; its cost in plain pictures.
    """

    name: str
    why: str
    seed: int
    foreseen: float | None
    score: float | None
    cost: float
    finished: bool
    image: Image.Image | None = None


@dataclass(frozen=True)
class Update:
    """Work in progress: `share` of it is done; `images` are rough previews; `tries` an autopilot's
    so far, None where they are as they were.
    """

    stage: str
    share: float
    images: tuple[Image.Image, ...] = ()
    tries: tuple[Tried, ...] | None = None


@dataclass(frozen=True)
class Shot:
    """One finished picture with what the judge says, what each word looked at, and what an
    autopilot tried for it.
    """

    picture: Picture
    verdict: Any = None
    maps: WordMaps | None = None
    tries: tuple[Tried, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The plain picture and the guided one at the same seed; `before` is None without plugins, and
    where only the guided one was asked for.
    """

    seed: int
    before: Shot | None
    after: Shot

    @property
    def sides(self) -> tuple[tuple[str, Shot], ...]:
        """Its pictures, each with what it is: `plain`, `guided`, or what an autopilot `kept`."""
        request = self.after.picture.request
        what = "kept" if request.auto is not None else "guided" if request.plugins else "plain"
        if self.before is None:
            return ((what, self.after),)
        return (("plain", self.before), (what, self.after))

    @property
    def names(self) -> tuple[str, ...]:
        """What a page calls them: both by their order, one by what it is."""
        return ("Before", "After") if self.before else (self.sides[0][0].capitalize(),)


@dataclass
class Result:
    """What a job has made so far; `complete` when it has made all of it."""

    setup: Setup
    toybox: bool
    comparisons: list[Comparison] = field(default_factory=list)
    complete: bool = False
    stopped: bool = False


Event = Update | Shot | Result
"""A shot is the first plain picture, told as soon as it is there: the guided one takes longer."""

"""Where the app's pictures are made: one job at a time, watched while it grows, stopped at a pass.

No Gradio here: a job is a generator of updates and results, which tests drive by hand.
"""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from PIL import Image

from adhere.app.jobs.attention import WordMaps, word_maps
from adhere.app.jobs.limits import LIMITS, Limits
from adhere.app.jobs.line import Line
from adhere.app.jobs.passes import most_passes
from adhere.app.jobs.setup import Setup
from adhere.errors import GuidanceError, Interrupted, ParameterError
from adhere.pipelines.studio.request import OnStep, Picture, Progress, Request

log = logging.getLogger("adhere.app")

PREVIEW_EVERY = 0.25
"""Seconds between two previews: often enough to see it grow, seldom enough to cost nothing."""
HEARD_WITHIN = 0.2
"""Seconds after which a waiting job notices that it was stopped."""
SLACK = 1.2
"""A job is ended when it goes beyond its own estimate by this factor: the estimate was wrong."""
PLAIN_KEPT = 64
"""Plain pictures that are kept, so that another method at the same seed is compared at once."""


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
class Update:
    """Work in progress: `share` of it is done; `images` are rough previews."""

    stage: str
    share: float
    images: tuple[Image.Image, ...] = ()


@dataclass(frozen=True)
class Shot:
    """One finished picture with what the judge says and what each word looked at."""

    picture: Picture
    verdict: Any = None
    maps: WordMaps | None = None


@dataclass(frozen=True)
class Comparison:
    """The plain picture and the guided one at the same seed; `before` is None without plugins."""

    seed: int
    before: Shot | None
    after: Shot


@dataclass
class Result:
    """What a job has made so far; `complete` when it has made all of it."""

    setup: Setup
    toybox: bool
    comparisons: list[Comparison] = field(default_factory=list)
    complete: bool = False
    stopped: bool = False


Event = Update | Result


class Worker:
    """The models an operator allows, of which one is loaded, the judge, and the line of jobs.

    Args:
        models: names for `build`; the first is the default.
        build: makes a model from its name.
        judge: makes the judge of toybox pictures.
        limits: what one job may ask for.
    """

    def __init__(
        self,
        models: Sequence[str],
        build: Callable[[str], Model],
        judge: Callable[[], Judge | None],
        limits: Limits = LIMITS,
    ) -> None:
        self.models = tuple(models)
        self.limits = limits
        self.line = Line(limits.waiting)
        self.plain: OrderedDict[tuple[str, Request], Shot] = OrderedDict()
        self._build = build
        self._load_judge = judge
        self._loaded: tuple[str, Model] | None = None
        self._judge: Judge | None = None
        self._judge_tried = False

    def warm_up(self) -> None:
        """Load the default model, so that the first visitor does not wait for it."""
        with self.line.place() as job:
            while self.line.wait(job, 60.0):
                pass
            self.model(self.models[0])

    def run(
        self,
        setup: Setup,
        stop: threading.Event,
        *,
        attention: bool = False,
        compare: bool = True,
    ) -> Iterator[Event]:
        """Make a set-up's pictures; yields updates, the result as it grows, and the result.

        Each picture is made alone, so that the same settings make the same pixels anywhere.
        Closing the generator stops the model at its next pass, and gives up a place in the line.

        Args:
            setup: what to make; its limits are the caller's to check.
            stop: set it to stop within a pass.
            attention: keep what each word looked at.
            compare: also make the pictures without plugins.
        """
        with self.line.place() as job:
            before = -1
            while ahead := self.line.wait(job, HEARD_WITHIN):
                if stop.is_set():
                    break
                if ahead != before:
                    before = ahead
                    jobs = "1 job is" if ahead == 1 else f"{ahead} jobs are"
                    yield Update(f"Waiting: {jobs} ahead of yours", 0.0)
            if stop.is_set():
                yield Result(setup, False, stopped=True)
                return
            work = _Job(self, setup, stop, attention, compare)
            yield from _in_thread(work, stop)

    def model(self, name: str) -> Model:
        """The model of a name, loaded if it is not."""
        if self._loaded is None or self._loaded[0] != name:
            # The old model goes first: two may not fit.
            self._loaded = None
            self._loaded = (name, self._build(name))
        return self._loaded[1]

    @property
    def loaded(self) -> bool:
        """Whether any model is."""
        return self._loaded is not None

    def verdict(self, image: Image.Image) -> Any:
        """What the judge says of a toybox picture; None where there is no judge."""
        if not self._judge_tried:
            self._judge_tried = True
            self._judge = self._load_judge()
        return self._judge([image])[0] if self._judge is not None else None

    def keep_plain(self, model: str, shot: Shot) -> None:
        """Remember a plain picture for the next comparison at its seed."""
        self.plain[model, shot.picture.request] = shot
        while len(self.plain) > PLAIN_KEPT:
            self.plain.popitem(last=False)


def _in_thread(job: _Job, stop: threading.Event) -> Iterator[Event]:
    """Run a job in a thread of its own and yield what it tells; closing this stops the job."""
    events: queue.SimpleQueue[Event | BaseException | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            job.work(events.put)
        except BaseException as wrong:  # handed over to the generator, which raises it
            events.put(wrong)
        events.put(None)

    thread = threading.Thread(
        target=contextvars.copy_context().run, args=(work,), name="adhere-job", daemon=True
    )
    thread.start()
    try:
        while (event := events.get()) is not None:
            if isinstance(event, BaseException):
                raise event
            yield event
    finally:
        stop.set()
        thread.join()


class _Job:
    """One set-up being made, with its watchdog: it ends on a stop, and beyond its estimate."""

    def __init__(
        self, worker: Worker, setup: Setup, stop: threading.Event, attention: bool, compare: bool
    ) -> None:
        self.worker, self.setup, self.stop, self.attention = worker, setup, stop, attention
        self.compare = compare and bool(setup.request.plugins)
        request = setup.request
        most = most_passes(request.plugins, request.steps, len(setup.seeds), self.compare)
        self.allowed = int(most * SLACK) + 10
        self.passes = self.done = 0
        self.pictures = len(setup.seeds) * (2 if self.compare else 1)
        self.started = time.monotonic()
        self.shown = 0.0

    def work(self, tell: Callable[[Event], None]) -> None:
        """Make all pictures; tells updates, and the result after each comparison."""
        tell(Update("Starting" if self.worker.loaded else "Loading the model", 0.0))
        self.tell = tell
        self.model = self.worker.model(self.setup.model)
        self.started = time.monotonic()
        result = Result(self.setup, self.model.is_toybox)
        try:
            for request in self.setup.requests():
                made = self._comparison(request)
                result = Result(self.setup, result.toybox, [*result.comparisons, made])
                if len(result.comparisons) < len(self.setup.seeds):
                    tell(result)
        except Interrupted:
            self._explain()
            result.stopped = True
        result.complete = not result.stopped
        tell(result)

    def _comparison(self, request: Request) -> Comparison:
        before = self._plain(request.plain()) if self.compare else None
        after = self._shot("Guided" if request.plugins else "Plain", request)
        return Comparison(request.seed, before, after)

    def _plain(self, request: Request) -> Shot:
        kept = self.worker.plain.get((self.setup.model, request))
        if kept is None or (self.attention and kept.maps is None):
            kept = self._shot("Plain", request)
            self.worker.keep_plain(self.setup.model, kept)
        else:
            self.done += 1
        return kept

    def _shot(self, name: str, request: Request) -> Shot:
        def on_step(progress: Progress) -> None:
            self._show(name, progress)
            if self.interrupted():
                raise Interrupted("the job was stopped")

        if self.interrupted():
            raise Interrupted("the job was stopped")
        (picture,) = self.model.generate(
            [request],
            on_step=on_step,
            interrupt=self._count,
            record_attention=self.attention,
        )
        maps = word_maps(picture.attention)
        picture.attention = None  # a hundred times what is kept of it
        self.done += 1
        verdict = self.worker.verdict(picture.image) if self.model.is_toybox else None
        return Shot(picture, verdict, maps)

    def _count(self) -> bool:
        """Asked by the engine before every pass."""
        self.passes += 1
        return self.interrupted()

    def interrupted(self) -> bool:
        """Whether the job must end: it was stopped, or went beyond what it may take."""
        return self.stop.is_set() or self.passes > self.allowed or self._late()

    def _late(self) -> bool:
        return time.monotonic() - self.started > self.worker.limits.seconds

    def _explain(self) -> None:
        """Raise a sentence if nobody pressed Stop: then the watchdog ended the job."""
        if self.stop.is_set():
            return
        limits = self.worker.limits
        what = f"{limits.seconds:g} seconds" if self._late() else f"{self.allowed} model passes"
        raise ParameterError(
            f"the job was ended after {what}, the most it may take: ask for fewer seeds, fewer "
            "steps or fewer refinements"
        )

    def _show(self, name: str, progress: Progress) -> None:
        now = time.monotonic()
        if now - self.shown < PREVIEW_EVERY:
            return
        self.shown = now
        step = progress.index + 1
        share = (self.done + step / max(1, progress.count)) / self.pictures
        seed = f"seed {self.setup.seeds[self._place()]} · " if len(self.setup.seeds) > 1 else ""
        text = f"{name} · {seed}step {step} of {progress.count}{left(now - self.started, share)}"
        self.tell(Update(text, share, tuple(self.model.preview(progress.latents))))

    def _place(self) -> int:
        """The index of the seed that is being made."""
        return min(self.done // (2 if self.compare else 1), len(self.setup.seeds) - 1)


def left(seconds: float, share: float) -> str:
    """` · about 20 s left` for long jobs, from what was done in so many seconds."""
    if seconds < 3 or share < 0.05:
        return ""
    rest = seconds * (1 - share) / share
    return f" · about {rest:.0f} s left" if rest < 90 else f" · about {rest / 60:.0f} min left"


def sentence(wrong: BaseException) -> str:
    """An error as one sentence that says what to do; what was not foreseen goes to the log."""
    if isinstance(wrong, GuidanceError):
        text = " ".join(str(wrong).split())
        return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
    if type(wrong).__name__ == "OutOfMemoryError" or isinstance(wrong, MemoryError):
        return "The machine ran out of memory: choose fewer seeds or a smaller picture."
    log.error("a job failed", exc_info=wrong)
    return (
        "Something went wrong inside the model: try other settings; the server's log has the "
        "details for its operator."
    )

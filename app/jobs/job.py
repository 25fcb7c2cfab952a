"""One job: its pictures made in a thread of its own, watched while they grow, stopped at a pass."""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections.abc import Callable, Iterator

from adhere.app.jobs import figures
from adhere.app.jobs.attention import word_maps
from adhere.app.jobs.loaded import Loaded
from adhere.app.jobs.methods import stack_title
from adhere.app.jobs.passes import job_passes
from adhere.app.jobs.result import Comparison, Event, Result, Shot, Tried, Update
from adhere.app.jobs.setup import Setup
from adhere.errors import Interrupted, ParameterError
from adhere.pipelines.search.autopilot import Try
from adhere.pipelines.studio.request import Progress, Request

PREVIEW_EVERY = 0.25
"""Seconds between two previews: often enough to see it grow, seldom enough to cost nothing."""
SLACK = 1.2
"""A job is ended when it goes beyond its own estimate by this factor: the estimate was wrong."""


def in_thread(job: Job, stop: threading.Event) -> Iterator[Event]:
    """Run a job in a thread of its own and yield its events; closing this stops the job."""
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


class Job:
    """One set-up being made, with its watchdog: it ends on a stop, and beyond its estimate."""

    def __init__(
        self,
        loaded: Loaded,
        setup: Setup,
        stop: threading.Event,
        *,
        seconds: float,
        attention: bool,
        compare: bool,
    ) -> None:
        self.loaded, self.setup, self.stop = loaded, setup, stop
        self.seconds, self.attention = seconds, attention
        request = setup.request
        self.guided = bool(request.plugins) or request.auto is not None
        self.compare = compare and self.guided
        self.most = job_passes(request, len(setup.seeds), self.compare)
        self.allowed = int(self.most * SLACK) + 10
        self.passes = self.done = 0
        self.pictures = len(setup.seeds) * (2 if self.compare else 1)
        self.started = time.monotonic()
        self.shown = 0.0
        self.told: list[tuple[float | None, float | None]] | None = None

    def work(self, tell: Callable[[Event], None]) -> None:
        """Make all pictures; tells updates, the first plain one, the result of each comparison."""
        tell(Update(self._estimate(), 0.0))
        self.tell = tell
        self.model = self.loaded.model(self.setup.model)
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
        self.loaded.took(self.setup.model, self.passes, time.monotonic() - self.started)
        tell(result)

    def _estimate(self) -> str:
        """What the job can take at the most, said before it begins."""
        what = "Starting" if self.loaded.has(self.setup.model) else "Loading the model"
        seconds = self.loaded.seconds(self.setup.model, self.most)
        time_too = f", about {span(seconds)}" if seconds is not None else ""
        return f"{what}: at most {self.most:,} model passes{time_too}"

    def _comparison(self, request: Request) -> Comparison:
        before = self._plain(request.plain()) if self.compare else None
        if before is not None and request.seed == self.setup.seeds[0]:
            self.tell(before)
        after = self._shot("Guided" if self.guided else "Plain", request)
        return Comparison(request.seed, before, after)

    def _plain(self, request: Request) -> Shot:
        kept = self.loaded.plain(self.setup.model, request)
        if kept is None or (self.attention and kept.maps is None):
            kept = self._shot("Plain", request)
            self.loaded.keep_plain(self.setup.model, kept)
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
        tries = tuple(map(tried, picture.tries))
        picture.tries = ()
        self.done += 1
        verdict = self.loaded.verdict(picture.image) if self.model.is_toybox else None
        return Shot(picture, verdict, maps, tries)

    def _count(self) -> bool:
        """Asked by the engine before every pass."""
        self.passes += 1
        return self.interrupted()

    def interrupted(self) -> bool:
        """Whether the job must end: it was stopped, or went beyond what it may take."""
        return self.stop.is_set() or self.passes > self.allowed or self._late()

    def _late(self) -> bool:
        return time.monotonic() - self.started > self.seconds

    def _explain(self) -> None:
        """Raise a sentence if nobody pressed Stop: then the watchdog ended the job."""
        if self.stop.is_set():
            return
        what = f"{self.seconds:g} seconds" if self._late() else f"{self.allowed} model passes"
        raise ParameterError(
            f"the job was ended after {what}, the most it may take: ask for fewer seeds, fewer "
            "steps or fewer refinements"
        )

    def _show(self, name: str, progress: Progress) -> None:
        now, news = time.monotonic(), self._news(progress)
        if news is None and now - self.shown < PREVIEW_EVERY:
            return
        self.shown = now
        step = progress.index + 1
        share = (self.done + step / max(1, progress.count)) / self.pictures
        if progress.tries:
            # How many tries there will be nobody knows: the budget does not end before its passes.
            share, name = min(self.passes / self.most, 0.99), _trying(progress)
        seed = f"seed {self.setup.seeds[self._place()]} · " if len(self.setup.seeds) > 1 else ""
        text = f"{name} · {seed}step {step} of {progress.count}{left(now - self.started, share)}"
        previews = tuple(self.model.preview(progress.latents))
        self.tell(Update(text, share, previews, news))

    def _news(self, progress: Progress) -> tuple[Tried, ...] | None:
        """The tries, where one has got a picture or a score since they were told."""
        state = [(one.foreseen, one.score) for one in progress.tries]
        if state == self.told:
            return None
        self.told = state
        return tuple(map(tried, progress.tries))

    def _place(self) -> int:
        """The index of the seed that is being made."""
        return min(self.done // (2 if self.compare else 1), len(self.setup.seeds) - 1)


def tried(one: Try) -> Tried:
    """A try as the app keeps and shows it."""
    image = one.picture or one.seen
    return Tried(
        name=stack_title(one.attempt.plugins),
        why=one.attempt.why,
        seed=one.seed,
        foreseen=one.foreseen,
        score=one.score,
        cost=one.cost,
        finished=one.picture is not None,
        image=None if image is None else figures.small(image),
    )


def _trying(progress: Progress) -> str:
    """What an autopilot does: it foresees a try, or finishes it."""
    one = progress.tries[progress.trying]
    what = "Try" if one.foreseen is None else "Finishing try"
    return f"{what} {progress.trying + 1}, {stack_title(one.attempt.plugins)}"


def left(seconds: float, share: float) -> str:
    """` · about 20 s left` for long jobs, from what was done in so many seconds."""
    if seconds < 3 or share < 0.05:
        return ""
    rest = seconds * (1 - share) / share
    return f" · about {span(rest)} left"


def span(seconds: float) -> str:
    """A stretch of time as one says it: `20 s`, `3 min`."""
    return f"{max(seconds, 1):.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"

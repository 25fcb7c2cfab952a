"""One job: its pictures made in a thread of its own, watched while they grow, stopped at a pass."""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections.abc import Callable, Iterator

from adhere.app.jobs.attention import word_maps
from adhere.app.jobs.loaded import Loaded
from adhere.app.jobs.passes import most_passes
from adhere.app.jobs.result import Comparison, Event, Result, Shot, Update
from adhere.app.jobs.setup import Setup
from adhere.errors import Interrupted, ParameterError
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
        self.compare = compare and bool(setup.request.plugins)
        request = setup.request
        self.most = most_passes(request.plugins, request.steps, len(setup.seeds), self.compare)
        self.allowed = int(self.most * SLACK) + 10
        self.passes = self.done = 0
        self.pictures = len(setup.seeds) * (2 if self.compare else 1)
        self.started = time.monotonic()
        self.shown = 0.0

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
        after = self._shot("Guided" if request.plugins else "Plain", request)
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
        self.done += 1
        verdict = self.loaded.verdict(picture.image) if self.model.is_toybox else None
        return Shot(picture, verdict, maps)

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
    return f" · about {span(rest)} left"


def span(seconds: float) -> str:
    """A stretch of time as one says it: `20 s`, `3 min`."""
    return f"{max(seconds, 1):.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"

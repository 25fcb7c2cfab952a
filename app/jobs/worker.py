"""Where the app's pictures are made: one job at a time, in the order of a line.

No Gradio here: a job is a generator of updates and results, which tests drive by hand.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from adhere.app.jobs.job import Job, in_thread
from adhere.app.jobs.limits import LIMITS, Limits
from adhere.app.jobs.line import Line
from adhere.app.jobs.loaded import Loaded
from adhere.app.jobs.result import Event, Judge, Model, Result, Update
from adhere.app.jobs.setup import Setup
from adhere.errors import GuidanceError

log = logging.getLogger("adhere.app")

HEARD_WITHIN = 0.2
"""Seconds after which a waiting job notices that it was stopped."""

SAID_AGAIN = 5.0
"""Seconds after which a waiting job says the same again: a page that was left without a word is
noticed when it is told something, and only then is its place free.
"""


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
        self._loaded = Loaded(build, judge)

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
        """Make a set-up's pictures; yields updates, the first plain one, the result as it grows.

        Each picture is made alone, so that the same settings make the same pixels anywhere.
        Closing the generator stops the model at its next pass, and gives up a place in the line.

        Args:
            setup: what to make; its limits are the caller's to check.
            stop: set it to stop within a pass.
            attention: keep what each word looked at.
            compare: also make the pictures without plugins.
        """
        with self.line.place() as job:
            before, told = -1, 0.0
            while ahead := self.line.wait(job, HEARD_WITHIN):
                if stop.is_set():
                    break
                now = time.monotonic()
                if ahead != before or now - told >= SAID_AGAIN:
                    before, told = ahead, now
                    jobs = "1 job is" if ahead == 1 else f"{ahead} jobs are"
                    yield Update(f"Waiting: {jobs} ahead of yours", 0.0)
            if stop.is_set():
                yield Result(setup, False, stopped=True)
                return
            seconds = self.limits.seconds
            work = Job(
                self._loaded, setup, stop, seconds=seconds, attention=attention, compare=compare
            )
            yield from in_thread(work, stop)

    def model(self, name: str) -> Model:
        """The model of a name, loaded if it is not."""
        return self._loaded.model(name)


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

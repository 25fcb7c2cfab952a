"""Where the app's pictures are made: one job at a time, watched while it grows, stopped at a step.

No Gradio here: a job is a generator of glimpses and results, which tests drive by hand.
"""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from PIL import Image

from adhere.app.jobs.attention import WordMaps, word_maps
from adhere.app.jobs.setup import Setup
from adhere.errors import GuidanceError
from adhere.pipelines.studio.request import OnStep, Picture, Progress, Request

log = logging.getLogger("adhere.app")

GLIMPSE_EVERY = 0.25
"""Seconds between two previews: often enough to see it grow, seldom enough to cost nothing."""


class Model(Protocol):
    """What the app needs of a `Studio`."""

    @property
    def is_toybox(self) -> bool: ...

    def generate(
        self,
        requests: Sequence[Request],
        *,
        on_step: OnStep | None = None,
        record_attention: bool = False,
    ) -> list[Picture]: ...

    def preview(self, latents: Any) -> list[Image.Image]: ...


class Judge(Protocol):
    """What the app needs of the toybox's judge."""

    def __call__(self, images: list[Image.Image]) -> list[Any]: ...


class Stopped(Exception):
    """Raised inside a step because the person pressed Stop, or left."""


@dataclass(frozen=True)
class Glimpse:
    """A look at the work: `share` of it is done; `images` are rough previews."""

    stage: str
    share: float
    images: tuple[Image.Image, ...] = ()


@dataclass
class Pair:
    """The plain picture and the guided one at the same seed; `before` is None without plugins."""

    seed: int
    before: Picture | None
    after: Picture
    judged_before: Any = None
    judged_after: Any = None
    maps_before: WordMaps | None = None
    maps_after: WordMaps | None = None


@dataclass
class Result:
    """What a job has made so far; `complete` when it has made all of it."""

    setup: Setup
    toybox: bool
    pairs: list[Pair] = field(default_factory=list)
    complete: bool = False
    stopped: bool = False


Event = Glimpse | Result


class Workshop:
    """The models an operator allows, of which one is loaded, and the judge of the toybox.

    Args:
        models: names for `build`; the first is the default.
        build: makes a model from its name.
        judge: makes the judge of toybox pictures.
    """

    def __init__(
        self,
        models: Sequence[str],
        build: Callable[[str], Model],
        judge: Callable[[], Judge | None],
    ) -> None:
        self.models = tuple(models)
        self._build = build
        self._load_judge = judge
        self._loaded: tuple[str, Model] | None = None
        self._judge: Judge | None = None
        self._judge_tried = False
        # The queue lets one job in at a time; this holds also for callers that go around it.
        self._busy = threading.Lock()

    def warm_up(self) -> None:
        """Load the default model, so that the first visitor does not wait for it."""
        with self._busy:
            self._model(self.models[0])

    def run(
        self,
        setup: Setup,
        stop: threading.Event,
        *,
        attention: bool = False,
        plain: bool = True,
    ) -> Iterator[Event]:
        """Make a set-up's pictures; yields glimpses, the result as it grows, and the result.

        The first pair is made alone, so that there is something to look at early. Closing the
        generator stops the model at its next step.

        Args:
            setup: what to make; its limits are the caller's to check.
            stop: set it to stop within a step.
            attention: keep what each word looked at.
            plain: also make the pictures without plugins, to compare with.
        """
        events: queue.SimpleQueue[Event | BaseException | None] = queue.SimpleQueue()

        def work() -> None:
            try:
                with self._busy:
                    self._work(setup, stop, attention, plain, events.put)
            except BaseException as wrong:  # handed over to the generator, which raises it
                events.put(wrong)
            events.put(None)

        worker = threading.Thread(
            target=contextvars.copy_context().run, args=(work,), name="adhere-job", daemon=True
        )
        worker.start()
        try:
            while (event := events.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            stop.set()
            worker.join()

    def _work(
        self,
        setup: Setup,
        stop: threading.Event,
        attention: bool,
        compare: bool,
        tell: Callable[[Event], None],
    ) -> None:
        tell(Glimpse("Loading the model" if self._loaded is None else "Starting", 0.0))
        model = self._model(setup.model)
        result = Result(setup, model.is_toybox)
        requests = setup.requests()
        groups = [group for group in (requests[:1], requests[1:]) if group]
        guided = compare and bool(setup.request.plugins)
        stages = len(groups) * (2 if guided else 1)
        watch = _Watch(model, stop, stages, tell)
        try:
            for group in groups:
                befores: Sequence[Picture | None] = [None] * len(group)
                if guided:
                    befores = watch.make("Plain", [one.plain() for one in group], attention)
                after = watch.make("Guided" if setup.request.plugins else "Plain", group, attention)
                made = [
                    Pair(request.seed, before, picture)
                    for request, before, picture in zip(group, befores, after, strict=True)
                ]
                for pair in made:
                    _keep_words(model, pair)
                self._judge_all(result.toybox, made)
                result = Result(setup, result.toybox, [*result.pairs, *made])
                if group is not groups[-1]:
                    tell(result)
        except Stopped:
            result.stopped = True
        result.complete = not result.stopped
        tell(result)

    def _model(self, name: str) -> Model:
        if self._loaded is None or self._loaded[0] != name:
            # The old model goes first: two may not fit.
            self._loaded = None
            self._loaded = (name, self._build(name))
        return self._loaded[1]

    def _judge_all(self, toybox: bool, pairs: list[Pair]) -> None:
        if not toybox:
            return
        if not self._judge_tried:
            self._judge_tried = True
            self._judge = self._load_judge()
        if self._judge is None:
            return
        after = self._judge([pair.after.image for pair in pairs])
        for pair, verdict in zip(pairs, after, strict=True):
            pair.judged_after = verdict
        both = [pair for pair in pairs if pair.before is not None]
        before = self._judge([pair.before.image for pair in both if pair.before]) if both else []
        for pair, verdict in zip(both, before, strict=True):
            pair.judged_before = verdict


def _keep_words(model: Model, pair: Pair) -> None:
    """Keep the attention by words, and let go of the full read-out."""
    for picture in (pair.before, pair.after):
        if picture is None:
            continue
        maps = word_maps(model, picture.request.prompt, picture.attention)
        picture.attention = None
        if picture is pair.after:
            pair.maps_after = maps
        else:
            pair.maps_before = maps


class _Watch:
    """Runs the stages of one job and reports on them."""

    def __init__(
        self, model: Model, stop: threading.Event, stages: int, tell: Callable[[Event], None]
    ) -> None:
        self.model, self.stop, self.stages, self.tell = model, stop, stages, tell
        self.stage = 0
        self.shown = 0.0

    def make(self, name: str, requests: list[Request], attention: bool) -> list[Picture]:
        """One stage: a batch of pictures, or `Stopped` from within a step."""

        def on_step(progress: Progress) -> None:
            if self.stop.is_set():
                raise Stopped
            done = progress.index + 1
            share = (self.stage + done / max(1, progress.count)) / self.stages
            now = time.monotonic()
            if now - self.shown >= GLIMPSE_EVERY:
                self.shown = now
                images = tuple(self.model.preview(progress.latents))
                text = f"{name} · step {done} of {progress.count}"
                self.tell(Glimpse(text, share, images))

        if self.stop.is_set():
            raise Stopped
        made = self.model.generate(requests, on_step=on_step, record_attention=attention)
        self.stage += 1
        return made


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

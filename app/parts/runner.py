"""From a click to pictures on the page: begin, stream, stop, and never a traceback."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from adhere.app.jobs import setup as setups
from adhere.app.jobs.limits import LIMITS, Limits
from adhere.app.jobs.setup import Setup
from adhere.app.jobs.workshop import Glimpse, Result, Workshop, sentence
from adhere.app.parts.events import QUEUE, QUIET
from adhere.app.parts.results import Panel, growing, say


@dataclass(frozen=True)
class Kept:
    """A result in the session's history, with the tab that made it and a number of its own."""

    number: int
    tab: str
    result: Result


def keep(history: Sequence[Kept] | None, tab: str, result: Result) -> list[Kept]:
    """The history with a result in front, as long as the limits allow."""
    old = list(history or ())
    number = old[0].number + 1 if old else 1
    return [Kept(number, tab, result), *old][: LIMITS.kept]


class Desk:
    """The stop signs of everybody's running and waiting jobs, by session and tab."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self._signs: OrderedDict[tuple[str, str], threading.Event] = OrderedDict()
        self._limits = limits
        self._lock = threading.Lock()

    def begin(self, session: str, tab: str) -> threading.Event:
        """A new sign for a job that is about to be queued."""
        sign = threading.Event()
        with self._lock:
            self._signs[session, tab] = sign
            # Each visitor has a few tabs; the oldest visitors' finished jobs need no sign.
            while len(self._signs) > 4 * self._limits.sessions:
                self._signs.popitem(last=False)
        return sign

    def sign(self, session: str, tab: str) -> threading.Event:
        """The sign of the session's newest job in a tab."""
        with self._lock:
            found = self._signs.get((session, tab))
        return found or self.begin(session, tab)

    def stop(self, session: str, tab: str | None = None) -> None:
        """Stop a session's job in a tab, or all its jobs."""
        with self._lock:
            for (owner, place), sign in self._signs.items():
                if owner == session and tab in (None, place):
                    sign.set()


TO_RESULTS = """() => {
  const status = document.getElementById("NAME-status");
  if (innerWidth < 700 && status) status.scrollIntoView({behavior: "smooth"});
}"""
"""On a phone the results are below the controls: go there when a job begins."""


class Runner:
    """The Generate and Stop buttons of one tab, and what happens between them."""

    def __init__(self, workshop: Workshop, desk: Desk, panel: Panel, history: Any) -> None:
        self.workshop, self.desk, self.panel, self.history = workshop, desk, panel, history
        self.result = gr.State(None, time_to_live=3600)

    def draw(self, label: str = "Generate") -> None:
        """Put the two buttons on the page."""
        with gr.Row(elem_classes="run"):
            self.go = gr.Button(
                label, variant="primary", scale=3, min_width=150, elem_id=f"{self.panel.name}-go"
            )
            self.halt = gr.Button(
                "Stop",
                variant="stop",
                scale=1,
                min_width=90,
                interactive=False,
                elem_id=f"{self.panel.name}-stop",
            )

    def wire(
        self,
        read: Callable[[Sequence[Any]], Setup],
        inputs: Sequence[Any],
        after: Callable[[Result], dict[Any, Any]] | None = None,
        more: Sequence[Any] = (),
    ) -> None:
        """Connect the buttons.

        Args:
            read: makes the set-up of the inputs' values; may raise a `GuidanceError`.
            inputs: the components whose values `read` gets.
            after: further updates for a result, for the components `more`.
        """
        self._read, self._inputs, self._after, self._more = read, inputs, after, more
        self.start_on(self.go.click)
        self.halt.click(self._stop, None, [self.halt, self.panel.status], **QUIET)
        self.panel.gallery.select(self._pick, self.result, self.panel.pair_outputs, **QUIET)

    def start_on(self, trigger: Callable[..., Any]) -> None:
        """Let an event (a click, or the `then` of one) start the job as Generate does."""
        panel = self.panel
        buttons = [self.go, self.halt, panel.status]
        begun = trigger(
            self._begin, None, buttons, js=TO_RESULTS.replace("NAME", panel.name), **QUIET
        )
        made = begun.then(
            self._generate,
            [*self._inputs, self.history],
            [*panel.outputs, self.go, self.halt, self.result, self.history, *self._more],
            concurrency_limit=1,
            concurrency_id=QUEUE,
            show_progress="minimal",
            show_progress_on=panel.status,
            api_visibility="private",
        )
        made.failure(self._refused, None, buttons, **QUIET)

    def _begin(self, request: gr.Request) -> dict[Any, Any]:
        self.desk.begin(_session(request), self.panel.name)
        return {
            self.go: gr.update(interactive=False),
            self.halt: gr.update(interactive=True),
            self.panel.status: say("Waiting for the model…"),
        }

    def _refused(self) -> dict[Any, Any]:
        """What did not even start: the queue was full, or a drawing could not be read."""
        text = "That did not start (the message in the corner says why): try again in a moment."
        return {**self._idle(), self.panel.status: say(text, "wrong")}

    def _idle(self) -> dict[Any, Any]:
        return {self.go: gr.update(interactive=True), self.halt: gr.update(interactive=False)}

    def _stop(self, request: gr.Request) -> dict[Any, Any]:
        self.desk.stop(_session(request), self.panel.name)
        return {
            self.halt: gr.update(interactive=False),
            self.panel.status: say("Stopping within the next step…"),
        }

    def _pick(self, result: Result | None, event: gr.SelectData) -> dict[Any, Any]:
        if result is None or not isinstance(event.index, int):
            return {}
        return self.panel.pair(result, event.index)

    def _generate(self, request: gr.Request, *values: Any) -> Iterator[dict[Any, Any]]:
        """The job: glimpses, results as they grow, or one sentence."""
        panel = self.panel
        *given, history = values
        try:
            setup = setups.checked(self._read(given), self.workshop.models)
            sign = self.desk.sign(_session(request), panel.name)
            for event in self.workshop.run(setup, sign, attention=True):
                if isinstance(event, Glimpse):
                    yield {panel.status: growing(event)}
                else:
                    yield self._shown(event, history)
        except Exception as wrong:  # whatever it is, the page goes on
            yield {panel.status: say(sentence(wrong), "wrong"), **self._idle()}

    def _shown(self, result: Result, history: list[Kept] | None) -> dict[Any, Any]:
        shown = self.panel.show(result)
        ended = result.complete or result.stopped
        if ended:
            shown |= self._idle()
        if result.pairs:
            shown |= self._after(result) if self._after else {}
            shown[self.result] = result
        if result.pairs and ended:
            shown[self.history] = keep(history, self.panel.name, result)
        return shown


def _session(request: gr.Request) -> str:
    return str(request.session_hash or "")

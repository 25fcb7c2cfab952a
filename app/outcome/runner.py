"""From a click to pictures on the page: begin, stream, stop, and never a traceback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from adhere.app.jobs import setup as setups
from adhere.app.jobs.result import Result, Shot, Update
from adhere.app.jobs.setup import Setup
from adhere.app.jobs.worker import Worker, sentence
from adhere.app.outcome.results import Panel
from adhere.app.outcome.sessions import Cancellations, Histories
from adhere.app.outcome.status import growing, say
from adhere.app.parts import scripts
from adhere.app.parts.events import QUIET

_HELD = {"__type__": "update", "interactive": False}
"""`gr.update(interactive=False)` as the page reads it."""


@dataclass(frozen=True)
class Shared:
    """What all tabs of a page share; `key` is the component that holds the visitor's key."""

    worker: Worker
    cancellations: Cancellations
    histories: Histories
    key: Any
    samplers: Sequence[str] = ()


class Runner:
    """The Generate and Stop buttons of one tab, and what happens between them."""

    def __init__(self, shared: Shared, panel: Panel) -> None:
        self.shared, self.panel = shared, panel
        self.result = gr.State(None, time_to_live=3600)

    def draw(self, hint: str, label: str = "Generate") -> Any:
        """Put the bar with status and buttons on the page; returns the status component."""
        name = self.panel.name
        with gr.Row(elem_classes="run", elem_id=f"{name}-run"):
            status = gr.HTML(
                say(hint), elem_id=f"{name}-status", padding=False, elem_classes="status-box"
            )
            self.compare = gr.Checkbox(
                True,
                label="Plain too",
                container=False,
                min_width=120,
                scale=0,
                elem_id=f"{name}-compare",
                elem_classes="compare",
            )
            self.go = gr.Button(
                label, variant="primary", scale=0, min_width=130, elem_id=f"{name}-go"
            )
            self.halt = gr.Button(
                "Stop",
                variant="stop",
                scale=0,
                min_width=80,
                interactive=False,
                elem_id=f"{name}-stop",
            )
        return status

    def wire(
        self,
        read: Callable[[Sequence[Any]], Setup],
        inputs: Sequence[Any],
        after: Callable[[Result, int], dict[Any, Any]] | None = None,
        more: Sequence[Any] = (),
        during: Callable[[Update], dict[Any, Any]] | None = None,
    ) -> None:
        """Connect the buttons.

        Args:
            read: makes the set-up of the inputs' values; may raise a `GuidanceError`.
            inputs: the components whose values `read` gets.
            after: further updates for a comparison of a result, for the components `more`.
            during: further updates for them while it grows.
        """
        self._read, self._inputs, self._after, self._more = read, inputs, after, more
        self._during = during
        self.start_on(self.go.click)
        # Said on the page itself: the answer to Stop may come after that of the job it ended, and
        # after the beginning of the next, whose Stop it would take away.
        pressed = json.dumps([say("Stopping within the next model pass…"), _HELD])
        self.halt.click(
            None, None, [self.panel.status, self.halt], js=f"() => {pressed}",
            api_visibility="private",
        ).then(self._stop, None, None, **QUIET)  # fmt: skip
        self.panel.gallery.select(
            self._pick, self.result, [*self.panel.pair_outputs, *more], **QUIET
        )

    def start_on(self, trigger: Callable[..., Any]) -> None:
        """Let an event (a click, or the `then` of one) start the job as Generate does."""
        panel = self.panel
        buttons = [self.go, self.halt, panel.status]
        show = scripts.of(scripts.TO_RESULT, panel.name)
        begun = trigger(self._begin, None, buttons, js=show, **QUIET)
        made = begun.then(
            self._generate,
            [*self._inputs, self.compare, self.shared.key],
            [*panel.outputs, self.go, self.halt, self.result, *self._more],
            # The app's own line lets one job in at a time, and tells the others their place.
            concurrency_limit=None,
            # So that a second Enter, too, is told why it does nothing.
            trigger_mode="multiple",
            show_progress="hidden",
            api_visibility="private",
        )
        made.failure(self._refused, None, buttons, **QUIET)
        done = made.then(None, None, None, js=show, api_visibility="private")
        done.then(
            None, None, None, js=scripts.of(scripts.FOCUS_BACK, panel.name),
            api_visibility="private",
        )  # fmt: skip

    def _begin(self, request: gr.Request) -> dict[Any, Any]:
        if not self.shared.cancellations.announce(_session(request), self.panel.name):
            return {self.panel.status: gr.skip()}  # the status and the buttons are the job's own
        return {
            self.go: gr.update(interactive=False),
            self.halt: gr.update(interactive=True),
            self.panel.status: say("Waiting for the model…"),
        }

    def _refused(self) -> dict[Any, Any]:
        """What did not even start: the server was full, or an input could not be read."""
        text = "That did not start (the message in the corner says why): try again in a moment."
        return {**self._idle(), self.panel.status: say(text, "wrong")}

    def _idle(self) -> dict[Any, Any]:
        return {self.go: gr.update(interactive=True), self.halt: gr.update(interactive=False)}

    def _stop(self, request: gr.Request) -> None:
        self.shared.cancellations.stop(_session(request), self.panel.name)

    def _pick(self, result: Result | None, event: gr.SelectData) -> dict[Any, Any]:
        if result is None or not isinstance(event.index, int):
            return {self.panel.heading: gr.skip()}
        return {**self.panel.pair(result, event.index), **self._extras(result, event.index)}

    def _generate(self, request: gr.Request, *values: Any) -> Iterator[dict[Any, Any]]:
        """The job: updates, results as they grow, or one sentence.

        Enter and the examples start one too: they do nothing while the tab's job goes on.
        """
        session, tab, signs = _session(request), self.panel.name, self.shared.cancellations
        sign = signs.begin(session, tab)
        if sign is None:
            gr.Info("Your pictures are being made: press Stop first, or wait until they are done.")
            return
        try:
            for shown in self._made(sign, *values):
                if self.go in shown:
                    # Before it is said: whoever sees the end may begin anew at once.
                    signs.end(session, tab, sign)
                    yield shown
                else:
                    # With all news: what is said of the job before may come after this one began.
                    halt = gr.update(interactive=not sign.is_set())
                    yield {self.go: gr.update(interactive=False), self.halt: halt, **shown}
        finally:
            signs.end(session, tab, sign)

    def _made(self, sign: threading.Event, *values: Any) -> Iterator[dict[Any, Any]]:
        *given, compare, key = values
        worker = self.shared.worker
        made: Result | None = None
        try:
            setup = setups.checked(self._read(given), worker.models, worker.limits)
            for event in worker.run(setup, sign, attention=True, compare=bool(compare)):
                if isinstance(event, Update):
                    more = self._during(event) if self._during else {}
                    yield {self.panel.status: growing(event), **more}
                elif isinstance(event, Shot):
                    yield self.panel.plain(event)
                else:
                    made = event
                    yield self._shown(event, key)
        except Exception as wrong:  # whatever it is, the page goes on
            text = sentence(wrong)
            if kept := self._rescued(made, key):
                text += " What was finished is kept above."
            yield {**kept, self.panel.status: say(text, "wrong"), **self._idle()}

    def _rescued(self, made: Result | None, key: str | None) -> dict[Any, Any]:
        """What a job had finished before something went wrong: it stays, as after a stop."""
        if made is None or made.complete or made.stopped:
            return {}
        try:
            return self._shown(replace(made, stopped=True), key)
        except Exception as wrong:  # what went wrong was showing it
            sentence(wrong)
            return {}

    def _shown(self, result: Result, key: str | None) -> dict[Any, Any]:
        shown = self.panel.show(result)
        ended = result.complete or result.stopped
        if ended:
            shown |= self._idle()
        if result.comparisons:
            shown |= self._extras(result, 0)
            shown[self.result] = result
        if result.comparisons and ended:
            self.shared.histories.add(key, self.panel.name, result)
        return shown

    def _extras(self, result: Result, index: int) -> dict[Any, Any]:
        return self._after(result, index) if self._after else {}


def _session(request: gr.Request) -> str:
    return str(request.session_hash or "")

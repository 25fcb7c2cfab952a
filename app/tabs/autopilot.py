"""The first tab: a prompt and a button; what the autopilot will try, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from adhere.app.jobs import limits as bounds
from adhere.app.jobs import setup as setups
from adhere.app.jobs.passes import job_passes
from adhere.app.jobs.setup import Setup
from adhere.app.jobs.worker import sentence
from adhere.app.outcome.results import Panel
from adhere.app.outcome.runner import Runner, Shared
from adhere.app.outcome.status import say
from adhere.app.outcome.tries import Tries
from adhere.app.parts import planning
from adhere.app.parts.events import QUIET
from adhere.app.parts.examples import Example, draw_examples
from adhere.app.parts.plan_fields import PlanFields
from adhere.app.parts.settings import Settings
from adhere.app.parts.words import prompt_box, unknown
from adhere.errors import GuidanceError
from adhere.pipelines.search.plan import Pilot
from adhere.pipelines.studio.request import Request

NAME = "autopilot"


class Autopilot:
    """The tab. `fill` shows a set-up in it."""

    def __init__(self, shared: Shared) -> None:
        worker = shared.worker
        self.limits, self.models = worker.limits, worker.models
        self.plan = PlanFields(self.limits)
        self.settings = Settings(worker.models, shared.samplers, self.limits, negative=False)
        self.panel, self.tries = Panel(NAME, self.limits), Tries()
        self.runner = Runner(shared, self.panel)

    def draw(self, examples: Sequence[Example]) -> None:
        """Put the tab on the page."""
        examples = [replace(one, setup=self._judged(one.setup)) for one in examples]
        buttons = draw_examples(examples)
        first = examples[0].setup if examples else self._usual()
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self._draw_left(first)
            with gr.Column(scale=6, min_width=320, elem_classes="results"):
                self.panel.draw(self.status, "The picture appears here")
                self.tries.draw(NAME)
                self.panel.beside = self.tries.outputs
                self.panel.draw_report()
        self.inputs = [
            self.prompt, self.card, *self.plan.components, *self.settings.components
        ]  # fmt: skip
        self.runner.wire(
            self.read, self.inputs, self.tries.finished, self.tries.outputs, self.tries.growing
        )
        self.runner.start_on(self.prompt.submit)
        self._follow()
        for button, example in zip(buttons, examples, strict=True):
            self.runner.start_on(example.fills(button, self.fill, self.inputs).then)

    def _usual(self) -> Setup:
        return Setup(
            self.models[0], Request("a red cat and a blue car", auto=self.limits.pilot), (0,)
        )

    def _judged(self, setup: Setup) -> Setup:
        """A set-up whose autopilot's verifier is the operator's, where it names none of its own."""
        request, usual = setup.request, self.limits.pilot
        if not isinstance(request.auto, Pilot) or request.auto.verifier != Pilot().verifier:
            return setup
        auto = replace(request.auto, verifier=usual.verifier)
        return replace(setup, request=replace(request, auto=auto))

    def _draw_left(self, first: Setup) -> None:
        self.prompt = prompt_box(first.request.prompt, NAME)
        self.card = gr.HTML(
            self._card(first), padding=False, elem_id="autopilot-plan", elem_classes="tight"
        )
        self.plan.draw(first.request)
        self.settings.draw("0")
        self.status = self.runner.draw("Write what you want to see, then press Generate.")

    def _follow(self) -> None:
        """Keep the plan in step with the prompt, and its words with whatever changes it."""
        again = {"trigger_mode": "always_last", **QUIET}
        # `change` and not `input`: a pasted prompt, too, has a new plan.
        shown = [self.card, *self.plan.components]
        self.prompt.change(self._planned, self.inputs, shown, **again)
        # One event for all, and one after the other: the fields of a new prompt change one by one,
        # and of answers at the same time that of the half-filled ones could be the last.
        settings = (self.settings.seeds, self.settings.steps, self.settings.model)
        events = [*self.plan.changes, *(one.change for one in settings)]
        gr.on(
            events, self._told, self.inputs, self.card, trigger_mode="multiple",
            concurrency_limit=1, show_progress="hidden", api_visibility="private",
        )  # fmt: skip

    def _planned(self, *values: Any) -> list[Any]:
        """The plan of the prompt, in words and in its fields, which keep what is changed of it."""
        mine = values[2 : 2 + len(self.plan.components)]
        return [self._told(*values), *self.plan.follow(mine, values[0])]

    def _told(self, *values: Any) -> Any:
        """The plan in words, or what is wrong with it."""
        try:
            return self._card(self._checked(values))
        except GuidanceError as wrong:
            return say(sentence(wrong), "wrong")

    def _checked(self, values: Sequence[Any]) -> Setup:
        return setups.checked(self.read(values), self.models, self.limits)

    def _card(self, setup: Setup) -> Any:
        plan = setup.request.flight_plan
        assert plan is not None  # this tab's set-ups have one
        passes = job_passes(setup.request, len(setup.seeds))
        return planning.card(plan, passes, unknown(plan.prompt, setup.model))

    def read(self, values: Sequence[Any]) -> Setup:
        """The set-up of the inputs' values."""
        prompt, _, *rest = values
        text = bounds.check_prompt(prompt, self.limits)
        split = len(self.plan.components)
        return self.plan.read(rest[:split], self.settings.read(rest[split:], text, ()))

    def fill(self, setup: Setup) -> list[Any]:
        """Values for `inputs` that show a set-up."""
        return [
            setup.request.prompt,
            self._card(setup),
            *self.plan.fill(setup.request),
            *self.settings.fill(setup),
        ]

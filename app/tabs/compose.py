"""Methods by hand: a prompt, its words, a stack, and the pictures before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from adhere.app.jobs import limits as bounds
from adhere.app.jobs.methods import has_layout, offered
from adhere.app.jobs.setup import Setup
from adhere.app.outcome.results import Panel
from adhere.app.outcome.runner import Runner, Shared
from adhere.app.parts import words
from adhere.app.parts.controls import Stack
from adhere.app.parts.examples import Example, draw_examples
from adhere.app.parts.settings import Settings
from adhere.app.parts.words import Words, prompt_box

NAME = "compose"


class Compose:
    """The tab. `fill` shows a set-up in it."""

    def __init__(self, shared: Shared) -> None:
        worker = shared.worker
        self.limits = worker.limits
        # Methods that follow a layout have their own tab: here nothing could tell them where.
        self.stack = Stack({n: p for n, p in offered().items() if not has_layout(p)})
        self.settings = Settings(worker.models, shared.samplers, self.limits)
        self.words = Words(self.limits)
        self.panel = Panel(NAME, self.limits)
        self.runner = Runner(shared, self.panel)

    def draw(self, examples: Sequence[Example]) -> None:
        """Put the tab on the page."""
        buttons = draw_examples(examples)
        first = examples[0].setup if examples else None
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self._draw_left(first)
            with gr.Column(scale=6, min_width=320, elem_classes="results"):
                self.panel.draw(self.status, "The picture appears here")
                self.panel.draw_report()
        self.inputs = [
            self.prompt, self.words.view, *self.stack.components, *self.settings.components
        ]  # fmt: skip
        self.words.wire(self.settings.model)
        self.runner.wire(self.read, self.inputs)
        self.runner.start_on(self.prompt.submit)
        for button, example in zip(buttons, examples, strict=True):
            self.runner.start_on(example.fills(button, self.fill, self.inputs).then)

    def _draw_left(self, first: Setup | None) -> None:
        prompt = first.request.prompt if first else "a red cat and a blue car"
        self.prompt = prompt_box(prompt, NAME)
        self.words.draw(self.prompt, prompt)
        self.stack.draw(first.request.plugins if first else ())
        self.settings.draw()
        self.status = self.runner.draw("Press Generate, or pick an example above.")

    def read(self, values: Sequence[Any]) -> Setup:
        """The set-up of the inputs' values."""
        prompt, view, *rest = values
        text = bounds.check_prompt(prompt, self.limits)
        split = len(self.stack.components)
        stack = self.stack.read(rest[:split])
        return self.settings.read(rest[split:], words.corrected(text, view), stack)

    def fill(self, setup: Setup) -> list[Any]:
        """Values for `inputs` that show a set-up."""
        prompt = setup.request.prompt
        return [
            prompt,
            words.roles(prompt),
            *self.stack.fill(setup.request.plugins),
            *self.settings.fill(setup),
        ]

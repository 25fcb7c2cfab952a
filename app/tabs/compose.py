"""The first tab: a prompt, its words, methods to stack, and the pictures before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from adhere.app.jobs import limits as bounds
from adhere.app.jobs.limits import LIMITS
from adhere.app.jobs.setup import Setup
from adhere.app.jobs.workshop import Workshop
from adhere.app.parts import marks
from adhere.app.parts.controls import Stack, has_layout
from adhere.app.parts.elements import tag
from adhere.app.parts.events import QUIET
from adhere.app.parts.examples import Example
from adhere.app.parts.results import Panel
from adhere.app.parts.runner import Desk, Runner
from adhere.app.parts.settings import Settings
from adhere.errors import GuidanceError
from adhere.plugins import available

NAME = "compose"


class Words:
    """The prompt's words with their roles, corrected by clicking."""

    def draw(self, prompt: Any, value: str) -> None:
        """Put the words under a prompt box and keep them in step with it."""
        self.view = gr.HighlightedText(
            value=marks.read(value),
            label="What the methods read: click a word to change its role",
            color_map=marks.colours(),
            combine_adjacent=False,
            show_legend=False,
            show_inline_category=True,
            interactive=False,
            elem_classes="words",
            elem_id="compose-words",
        )
        self.note = gr.Textbox(
            label="", show_label=False, container=False, interactive=False, visible=False
        )
        # `change` and not `input`: a pasted prompt, too, has new words.
        prompt.change(
            self._read, prompt, [self.view, self.note], trigger_mode="always_last", **QUIET
        )
        self.view.select(self._click, [prompt, self.view], [self.view, self.note], **QUIET)

    def _read(self, prompt: str) -> tuple[Any, Any]:
        try:
            text = bounds.check_prompt(prompt, LIMITS)
            return marks.read(text), gr.update(visible=False)
        except GuidanceError as wrong:
            return [(str(prompt)[:200], None)], gr.update(value=str(wrong), visible=True)

    def _click(self, prompt: str, view: Any, event: gr.SelectData) -> tuple[Any, Any]:
        pieces = pieces_of(view)
        index = event.index if isinstance(event.index, int) else -1
        after = marks.click(pieces, index)
        lost = marks.loose(after)
        note = f"{', '.join(lost)}: stands before no subject, so it is not used" if lost else ""
        return after, gr.update(value=note, visible=bool(note))


def pieces_of(view: Any) -> list[marks.Piece]:
    """The value of a highlighted text as pieces, in whichever form Gradio hands it over."""
    pieces: list[marks.Piece] = []
    for item in view or ():
        if isinstance(item, dict):
            pieces.append((str(item["token"]), item.get("class_or_confidence")))
        else:
            pieces.append((str(item[0]), item[1]))
    return pieces


class Compose:
    """The tab. `fill` shows a set-up in it."""

    def __init__(
        self, workshop: Workshop, desk: Desk, history: Any, samplers: Sequence[str]
    ) -> None:
        self.workshop = workshop
        # Methods that follow a layout have their own tab: here nothing could tell them where.
        self.stack = Stack({n: p for n, p in available().items() if not has_layout(p)})
        self.settings = Settings(workshop.models, samplers)
        self.words = Words()
        self.panel = Panel(NAME)
        self.runner = Runner(workshop, desk, self.panel, history)

    def draw(self, examples: Sequence[Example]) -> None:
        """Put the tab on the page."""
        buttons = draw_examples(examples)
        first = examples[0].setup.request.prompt if examples else "a red cat and a blue car"
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self.prompt = gr.Textbox(
                    value=first,
                    label="Prompt",
                    lines=2,
                    max_lines=4,
                    max_length=LIMITS.prompt,
                    elem_id="compose-prompt",
                )
                self.words.draw(self.prompt, first)
                chosen = [p.name for p in examples[0].setup.request.plugins] if examples else []
                self.stack.draw(chosen)
                self.settings.draw()
                self.runner.draw()
            with gr.Column(scale=6, min_width=320):
                self.panel.draw("Press Generate, or pick an example above.")
                self.panel.draw_report()
        self.inputs = [
            self.prompt, self.words.view, *self.stack.components, *self.settings.components
        ]  # fmt: skip
        self.runner.wire(self.read, self.inputs)
        for button, example in zip(buttons, examples, strict=True):
            filled = button.click(
                lambda setup=example.setup: self.fill(setup), None, self.inputs, **QUIET
            )
            self.runner.start_on(filled.then)

    def read(self, values: Sequence[Any]) -> Setup:
        """The set-up of the inputs' values."""
        prompt, view, *rest = values
        text = bounds.check_prompt(prompt, LIMITS)
        split = len(self.stack.components)
        stack = self.stack.read(rest[:split])
        return self.settings.read(rest[split:], marks.markup(text, pieces_of(view)), stack)

    def fill(self, setup: Setup) -> list[Any]:
        """Values for `inputs` that show a set-up."""
        prompt = setup.request.prompt
        try:
            words = marks.read(prompt)
        except GuidanceError:
            words = [(prompt, None)]
        return [
            prompt, words, *self.stack.fill(setup.request.plugins), *self.settings.fill(setup)
        ]  # fmt: skip


def draw_examples(examples: Sequence[Example]) -> list[Any]:
    """A row of buttons, one for each example."""
    if not examples:
        return []
    with gr.Row(elem_classes="examples"):
        gr.HTML(tag("span", "Try", css="quiet"), padding=False)
        return [gr.Button(example.title, size="sm", min_width=80) for example in examples]

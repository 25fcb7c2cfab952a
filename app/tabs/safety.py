"""The safety tab: name what is unwanted, choose how firmly, and see what was changed where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from adhere.app.jobs import figures
from adhere.app.jobs import limits as bounds
from adhere.app.jobs.limits import LIMITS
from adhere.app.jobs.setup import Setup
from adhere.app.jobs.workshop import Result, Workshop
from adhere.app.parts import verdicts
from adhere.app.parts.controls import Stack, parameter_named
from adhere.app.parts.events import QUIET
from adhere.app.parts.examples import Example
from adhere.app.parts.results import Panel, caption_of, say
from adhere.app.parts.runner import Desk, Runner
from adhere.app.parts.settings import Settings
from adhere.app.tabs.compose import draw_examples
from adhere.errors import ParameterError
from adhere.plugins import available

NAME = "safety"
CONCEPT, PRESET = "concept", "preset"


class Safety:
    """The tab, for methods that have a `concept`; `offered` says whether there are any."""

    def __init__(
        self, workshop: Workshop, desk: Desk, history: Any, samplers: Sequence[str]
    ) -> None:
        table = {n: p for n, p in available().items() if parameter_named(p, CONCEPT)}
        self.offered = bool(table)
        self.stack = Stack(table, hidden=(CONCEPT, PRESET))
        presets = [parameter_named(plugin, PRESET) for plugin in table.values()]
        self.preset_parameter = next((one for one in presets if one), None)
        self.settings = Settings(workshop.models, samplers)
        self.panel = Panel(NAME)
        self.runner = Runner(workshop, desk, self.panel, history)

    def draw(self, examples: Sequence[Example]) -> None:
        """Put the tab on the page."""
        buttons = draw_examples(examples)
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self._draw_left(examples[0] if examples else None)
            with gr.Column(scale=6, min_width=320):
                self.panel.draw("Say what is unwanted, then press Generate.")
                self.counts = gr.HTML("", visible=False, padding=False, elem_id="safety-counts")
                self.heading = gr.HTML(
                    caption_of("What was changed where", "", "share of pixels; brighter: more"),
                    elem_classes="tight",
                    visible=False,
                    padding=False,
                )
                self.changes = gr.Gallery(
                    label="What was changed where (brighter: more)",
                    show_label=False,
                    format="png",
                    object_fit="contain",
                    allow_preview=False,
                    visible=False,
                    elem_classes=["crisp", "strip"],
                    elem_id="safety-changes",
                    height="auto",
                )
                self.panel.draw_report()
        self.inputs = [
            self.prompt, self.concept, self.preset, *self.stack.components,
            *self.settings.components,
        ]  # fmt: skip
        self.runner.wire(
            self.read, self.inputs, self.changed, [self.counts, self.heading, self.changes]
        )
        for button, example in zip(buttons, examples, strict=True):
            filled = button.click(
                lambda setup=example.setup: self.fill(setup), None, self.inputs, **QUIET
            )
            self.runner.start_on(filled.then)

    def _draw_left(self, example: Example | None) -> None:
        setup = example.setup if example else None
        stack = setup.request.plugins if setup else ()
        self.prompt = gr.Textbox(
            value=setup.request.prompt if setup else "a cat in a haunted house",
            label="Prompt",
            lines=2,
            max_lines=4,
            max_length=LIMITS.prompt,
            elem_id="safety-prompt",
        )
        self.concept = gr.Textbox(
            value=_given(stack, CONCEPT, ""),
            label="What is unwanted, in words",
            info="left empty: the method's own text",
            lines=2,
            max_lines=5,
            max_length=LIMITS.prompt,
        )
        known = self.preset_parameter
        choices = list(known.choices) if known else []
        self.preset = gr.Radio(
            choices,
            value=_given(stack, PRESET, known.default if known else None),
            label="How firmly",
            visible=bool(choices),
        )
        chosen = [plugin.name for plugin in stack] or list(self.stack.table)[:1]
        self.stack.draw(chosen, "Method")
        self.settings.draw()
        self.runner.draw()

    def read(self, values: Sequence[Any]) -> Setup:
        """The set-up of the inputs' values."""
        prompt, concept, preset, *rest = values
        extra = {}
        text = bounds.check_prompt(concept or "", LIMITS, "unwanted concept")
        if text:
            extra[CONCEPT] = text
        if preset:
            extra[PRESET] = preset
        split = len(self.stack.components)
        stack = self.stack.read(rest[:split], extra)
        if not stack:
            raise ParameterError("no method is chosen: choose one under “Method”")
        return self.settings.read(rest[split:], bounds.check_prompt(prompt, LIMITS), stack)

    def fill(self, setup: Setup) -> list[Any]:
        """Values for `inputs` that show a set-up."""
        stack = setup.request.plugins
        known = self.preset_parameter
        return [
            setup.request.prompt,
            _given(stack, CONCEPT, ""),
            _given(stack, PRESET, known.default if known else None),
            *self.stack.fill(stack),
            *self.settings.fill(setup),
        ]

    def changed(self, result: Result) -> dict[Any, Any]:
        """Heat maps of the differences, and how often the unwanted is seen before and after."""
        both = [pair for pair in result.pairs if pair.before is not None]
        shown = []
        for pair in both:
            assert pair.before is not None
            share = figures.changed_share(pair.before.image, pair.after.image)
            heat = figures.change(pair.before.image, pair.after.image)
            shown.append((heat, f"{share:.0%} · seed {pair.seed}"))
        counts = verdicts.count(both, lambda verdict: bool(verdict.unsafe))
        text = ""
        if counts:
            text = f"The judge sees the unwanted in {counts[0]} of {counts[2]} before, "
            text += f"in {counts[1]} of {counts[2]} after."
        return {
            self.heading: gr.update(visible=bool(shown)),
            self.changes: gr.update(value=shown, visible=bool(shown)),
            self.counts: gr.update(value=say(text), visible=bool(text)),
        }


def _given(stack: Sequence[Any], name: str, default: Any) -> Any:
    """The value of a parameter in a stack, where it is not the plugin's own default."""
    for plugin in stack:
        known = parameter_named(type(plugin), name)
        if known is not None:
            value = getattr(plugin, name)
            return value if value != known.default or name == PRESET else default
    return default

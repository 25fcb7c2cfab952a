"""The safety tab: name what is unwanted, choose how firmly, and see what was changed where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from adhere.app.jobs import figures
from adhere.app.jobs import limits as bounds
from adhere.app.jobs.result import Result
from adhere.app.jobs.setup import Setup
from adhere.app.outcome import verdicts
from adhere.app.outcome.pictures import file_of
from adhere.app.outcome.results import Panel, strip
from adhere.app.outcome.runner import Runner, Shared
from adhere.app.outcome.status import caption_of, say
from adhere.app.parts.controls import Stack, parameter_named
from adhere.app.parts.events import QUIET
from adhere.app.parts.examples import Example, draw_examples
from adhere.app.parts.settings import Settings
from adhere.app.parts.words import prompt_box
from adhere.errors import ParameterError
from adhere.pipelines.toybox import SKULL
from adhere.plugins import available, plugin

NAME = "safety"
CONCEPT, PRESET = "concept", "preset"


class Safety:
    """The tab, for methods that have a `concept`; `offered` says whether there are any."""

    def __init__(self, shared: Shared) -> None:
        worker = shared.worker
        self.limits = worker.limits
        table = {n: p for n, p in available().items() if parameter_named(p, CONCEPT)}
        self.offered = bool(table)
        self.stack = Stack(table, hidden=(CONCEPT, PRESET))
        presets = [parameter_named(kind, PRESET) for kind in table.values()]
        self.preset_parameter = next((one for one in presets if one), None)
        self.settings = Settings(worker.models, shared.samplers, self.limits)
        self.panel = Panel(NAME, self.limits)
        self.runner = Runner(shared, self.panel)

    def draw(self, examples: Sequence[Example]) -> None:
        """Put the tab on the page."""
        buttons = draw_examples(examples)
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self._draw_left(examples[0] if examples else None)
            with gr.Column(scale=6, min_width=320, elem_classes="results"):
                self.panel.draw(self.status, "The picture appears here")
                self._draw_changes()
                self.panel.draw_report()
        self.inputs = [
            self.prompt, self.concept, self.preset, *self.stack.components,
            *self.settings.components,
        ]  # fmt: skip
        self.runner.wire(self.read, self.inputs, self.changed, self.panel.beside)
        self.runner.start_on(self.prompt.submit)
        for button, example in zip(buttons, examples, strict=True):
            self.runner.start_on(example.fills(button, self.fill, self.inputs).then)

    def _draw_changes(self) -> None:
        self.counts = gr.HTML("", visible=False, padding=False, elem_id="safety-counts")
        self.heading = gr.HTML(
            caption_of("What was changed where", "", "share of pixels; brighter: more"),
            elem_classes="tight",
            visible=False,
            padding=False,
        )
        self.changes = strip("What was changed where", "safety-changes", visible=False)
        self.panel.beside = [self.counts, self.heading, self.changes]

    def _draw_left(self, example: Example | None) -> None:
        setup = example.setup if example else None
        stack = setup.request.plugins if setup else ()
        prompt = setup.request.prompt if setup else "a cat in a haunted house"
        self.prompt = prompt_box(prompt, NAME)
        self.concept = gr.Textbox(
            value=_given(stack, CONCEPT, ""),
            label="What is unwanted, in words",
            info="left empty: the method's own text",
            lines=1,
            max_lines=5,
            elem_id="safety-concept",
        )
        known = self.preset_parameter
        choices = list(known.choices) if known else []
        self.preset = gr.Radio(
            choices,
            value=_given(stack, PRESET, known.default if known else None),
            label="How firmly",
            visible=bool(choices),
            elem_id="safety-preset",
        )
        self.own = gr.HTML("", visible=False, padding=False, elem_id="safety-own")
        # A click on the chosen one of several is no event: the way back to it is a button.
        self.only = gr.Button("Only the preset", size="sm", visible=False, elem_id="safety-only")
        self.stack.draw(stack or tuple(map(plugin, list(self.stack.table)[:1])), "Method")
        self._follow()
        self.settings.draw()
        self.status = self.runner.draw("Say what is unwanted, then press Generate.")

    def _follow(self) -> None:
        """A preset that a person chooses is that preset; what else counts stands beside it."""
        under = self.stack.under(PRESET)
        if not under:
            return
        names = [known.name.replace("_", " ") for known, _ in under]
        controls = [control for _, control in under]

        def own(*values: Any) -> dict[Any, Any]:
            text = _beside(names, values)
            return {
                self.own: gr.update(value=say(text), visible=bool(text)),
                self.only: gr.update(visible=bool(text)),
            }

        shown = own(*(control.value for control in controls))
        self.own.value, self.own.visible = shown[self.own]["value"], shown[self.own]["visible"]
        self.only.visible = shown[self.only]["visible"]
        for control in controls:
            control.change(own, controls, [self.own, self.only], **QUIET)
        cleared: Any = [""] * len(controls) if len(controls) > 1 else ""
        for event in (self.preset.input, self.only.click):
            event(lambda: cleared, None, controls, **QUIET)

    def read(self, values: Sequence[Any]) -> Setup:
        """The set-up of the inputs' values."""
        prompt, concept, preset, *rest = values
        extra = {}
        text = bounds.check_prompt(concept or "", self.limits, "unwanted concept")
        if text:
            extra[CONCEPT] = text
        if preset:
            extra[PRESET] = preset
        split = len(self.stack.components)
        stack = self.stack.read(rest[:split], extra)
        if not stack:
            raise ParameterError("no method is chosen: choose one under “Method”")
        return self.settings.read(rest[split:], bounds.check_prompt(prompt, self.limits), stack)

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

    def changed(self, result: Result, index: int) -> dict[Any, Any]:
        """Heat maps of the differences, and how often the unwanted is seen before and after."""
        shown = []
        for one in result.comparisons:
            if one.before is None:
                continue
            images = one.before.picture.image, one.after.picture.image
            share = figures.changed_share(*images)
            shown.append((file_of(figures.change(*images)), f"{share:.0%} · seed {one.seed}"))
        text = _counted(result)
        return {
            self.heading: gr.update(visible=bool(shown)),
            self.changes: gr.update(value=shown, visible=bool(shown)),
            self.counts: gr.update(value=say(text), visible=bool(text)),
        }


def _counted(result: Result) -> str:
    """How often the judge sees what the methods keep out; nothing where it cannot know."""
    things: list[tuple[str, str | None]] = []
    for method in result.setup.request.plugins:
        known = parameter_named(type(method), CONCEPT)
        text = getattr(method, CONCEPT) if known else ""
        # What a method keeps out of itself has a stand-in in the toybox's world.
        own = known is not None and text == known.default
        things += [(SKULL, None)] if own else verdicts.named(text)
    counts = verdicts.count(result.comparisons, verdicts.shows(things)) if things else None
    if counts is None:
        return ""
    names = ", ".join(dict.fromkeys(" ".join(filter(None, (c, kind))) for kind, c in things))
    before, after, of = counts
    return f"The judge sees the unwanted ({names}) in {before} of {of} before, in {after} after."


def _beside(names: Sequence[str], values: Sequence[Any]) -> str:
    """What is set beside a preset, and so counts in its place, as a sentence; or nothing."""
    given = [
        f"{name} {value}"
        for name, value in zip(names, values, strict=True)
        if value is not None and str(value).strip()
    ]
    return f"Set below, in place of the preset's: {', '.join(given)}." if given else ""


def _given(stack: Sequence[Any], name: str, default: Any) -> Any:
    """The value of a parameter in a stack, where it is not the plugin's own default."""
    for method in stack:
        known = parameter_named(type(method), name)
        if known is not None:
            value = getattr(method, name)
            return value if value != known.default or name == PRESET else default
    return default

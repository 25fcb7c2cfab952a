"""The layout tab: say where each phrase belongs, over the last picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from adhere.app.jobs import limits as bounds
from adhere.app.jobs import uploads
from adhere.app.jobs.methods import has_layout
from adhere.app.jobs.result import Result
from adhere.app.jobs.setup import Setup
from adhere.app.jobs.worker import sentence
from adhere.app.outcome import verdicts
from adhere.app.outcome.pictures import file_of
from adhere.app.outcome.results import Panel, strip
from adhere.app.outcome.runner import Runner, Shared
from adhere.app.outcome.status import caption_of, say
from adhere.app.parts import editor, placing
from adhere.app.parts.controls import Stack
from adhere.app.parts.events import QUIET
from adhere.app.parts.examples import Example, draw_examples
from adhere.app.parts.settings import Settings
from adhere.app.parts.words import prompt_box
from adhere.errors import GuidanceError
from adhere.layout.composing import unread
from adhere.plugins import available, plugin
from adhere.prompt.markup import strip_markup

NAME = "paint"


class Paint:
    """The tab. `fill` shows a set-up in it."""

    def __init__(self, shared: Shared) -> None:
        worker = shared.worker
        self.limits = worker.limits
        self.stack = Stack()
        self.settings = Settings(worker.models, shared.samplers, self.limits)
        self.panel = Panel(NAME, self.limits)
        self.runner = Runner(shared, self.panel)
        self.followers = [name for name, kind in available().items() if has_layout(kind)]

    def draw(self, examples: Sequence[Example]) -> None:
        """Put the tab on the page."""
        buttons = draw_examples(examples)
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self._draw_left(examples[0].setup if examples else None)
            with gr.Column(scale=6, min_width=320, elem_classes="results"):
                self.panel.draw(self.status, "The picture appears here, and under the regions")
                self._draw_overlays()
                self.panel.draw_report()
        self.inputs = [
            self.prompt, self.editor, *self.stack.components, *self.settings.components
        ]  # fmt: skip
        self.runner.wire(self.read, self.inputs, self.overlays, [*self.panel.beside, self.editor])
        self._follow()
        for button, example in zip(buttons, examples, strict=True):
            self.runner.start_on(example.fills(button, self.fill, self.inputs).then)

    def _draw_left(self, first: Setup | None) -> None:
        prompt = first.request.prompt if first else "a red cat and a blue car"
        layout = first.request.layout if first else None
        self.prompt = prompt_box(prompt, NAME)
        self.lay = gr.Button("Lay these out", size="sm", elem_id="paint-lay")
        self.editor = editor.draw(**self._words(prompt), layout=layout, name="paint-editor")
        with gr.Accordion("From a file", open=False):
            self._draw_file()
        chosen = first.request.plugins if first else tuple(map(plugin, self.followers[:1]))
        self.stack.draw(chosen, "Methods that follow the layout")
        self.settings.draw("0-1")
        self.status = self.runner.draw("Place the regions, then press Generate.")

    def _draw_file(self) -> None:
        self.file = gr.File(
            label="layout.json, or a PNG with one colour for each phrase",
            file_types=[".json", *uploads.SUFFIXES],
            type="filepath",
            height=170,
            elem_id="paint-layout-file",
        )
        self.legend = gr.Textbox(
            label="Legend of a PNG",
            placeholder="#ff0000 = a red cat\n#0000ff = a blue car",
            info="One line for each colour (or palette number) of the picture",
            lines=3,
            elem_id="paint-legend",
        )
        self.put_in = gr.Button("Put it in the editor", size="sm", elem_id="paint-put-in")

    def _draw_overlays(self) -> None:
        self.score = gr.HTML("", visible=False, padding=False, elem_id="paint-score")
        self.overlay_caption = gr.HTML(
            caption_of("Where each phrase's attention went", "", "outline: what was asked"),
            elem_classes="tight",
            padding=False,
            visible=False,
        )
        self.attention = strip(
            "Where each phrase's attention went", "paint-attention", visible=False, crisp=False
        )
        self.panel.beside = [self.score, self.overlay_caption, self.attention]

    def _follow(self) -> None:
        """Keep the editor in step with the prompt and the picture's size, and read files."""
        for event in (self.prompt.blur, self.prompt.submit):
            event(self._from_prompt, self.prompt, [self.editor, self.panel.status], **QUIET)
        sides = [self.settings.width, self.settings.height]
        for side in sides:
            side.blur(self._from_size, sides, [self.editor, self.panel.status], **QUIET)
        self.lay.click(
            self._from_words,
            [self.prompt, self.editor, *sides],
            [self.editor, self.panel.status],
            **QUIET,
        )
        self.put_in.click(
            self._from_file,
            [self.file, self.legend, self.prompt],
            [self.editor, self.panel.status],
            **QUIET,
        )

    def _words(self, prompt: str) -> dict[str, Any]:
        """What the editor knows of a prompt: its phrases, and its text as methods read it."""
        return {
            "phrases": placing.phrases_of(prompt, self.limits), "prompt": strip_markup(prompt)
        }  # fmt: skip

    def _from_prompt(self, prompt: str) -> dict[Any, Any]:
        try:
            text = bounds.check_prompt(prompt, self.limits)
            words = self._words(text)
        except GuidanceError as wrong:
            return {self.panel.status: say(sentence(wrong), "wrong")}
        # The editor itself keeps what was drawn, by phrase: its value stays in the browser.
        return {self.editor: gr.update(**words)}

    def _from_words(self, prompt: str, drawn: Any, width: Any, height: Any) -> dict[Any, Any]:
        """Places by the prompt's own words; the editor's undo has what was there before."""
        try:
            text = bounds.check_drawn(prompt, self.limits)
            cells = editor.cells(*bounds.check_size(width, height, self.limits))
            value = placing.laid_out(text, drawn, cells, self.limits)
            words = self._words(text)
        except GuidanceError as wrong:
            return {self.panel.status: say(sentence(wrong), "wrong")}
        return {
            self.editor: gr.update(value=value, **words),
            self.panel.status: say(
                f"Laid out by the prompt's words; Undo takes it back. {unread(text)}".strip()
            ),
        }

    def _from_size(self, width: Any, height: Any) -> dict[Any, Any]:
        try:
            w, h = bounds.check_size(width, height, self.limits)
        except GuidanceError as wrong:
            return {self.panel.status: say(sentence(wrong), "wrong")}
        return {self.editor: gr.update(cells=editor.cells(w, h))}

    def _from_file(self, path: str | None, legend: str, prompt: str) -> dict[Any, Any]:
        if not path:
            return {self.panel.status: say("Choose a file first.", "wrong")}
        try:
            layout, note = placing.from_file(path, legend, self.limits)
            phrases = placing.phrases_of(bounds.check_prompt(prompt, self.limits), self.limits)
        except GuidanceError as wrong:
            return {self.panel.status: say(sentence(wrong), "wrong")}
        return {
            self.editor: gr.update(value=editor.value_of(layout, phrases)),
            self.panel.status: say(
                f"The file's regions are in the editor: press Generate. {note}".strip()
            ),
        }

    def read(self, values: Sequence[Any]) -> Setup:
        """The set-up of the inputs' values."""
        prompt, drawn, *rest = values
        # The prompt's fault first: without its words no phrase has a place.
        clean = bounds.check_drawn(prompt, self.limits)
        layout = placing.layout_of(clean, editor.drawn(drawn, self.limits))
        split = len(self.stack.components)
        stack = self.stack.read(rest[:split])
        placing.check_followed(stack)
        setup = self.settings.read(rest[split:], clean, stack)
        return replace(setup, request=replace(setup.request, layout=layout))

    def fill(self, setup: Setup) -> list[Any]:
        """Values for `inputs` that show a set-up."""
        request = setup.request
        words = self._words(request.prompt)
        layout = placing.spoken(request.prompt, request.layout) if request.layout else None
        return [
            request.prompt,
            gr.update(
                value=editor.value_of(layout, words["phrases"]),
                **words,
                cells=editor.cells(request.width, request.height),
            ),
            *self.stack.fill(request.plugins),
            *self.settings.fill(setup),
        ]

    def overlays(self, result: Result, index: int) -> dict[Any, Any]:
        """The attention over one picture, the picture under the regions, and the mIoU over all."""
        layout = result.setup.request.layout
        if layout is None:
            return {}
        one = result.comparisons[min(index, len(result.comparisons) - 1)]
        shot = one.after
        heat = placing.attended(shot.picture.image, layout, shot.maps, result.setup.request.prompt)
        score = _score(result)
        return {
            self.editor: gr.update(picture=editor.picture(shot.picture.image)),
            self.overlay_caption: gr.update(visible=bool(heat)),
            self.attention: gr.update(
                value=[(file_of(image), phrase) for image, phrase in heat], visible=bool(heat)
            ),
            self.score: gr.update(value=score or "", visible=bool(score)),
        }


def _score(result: Result) -> str | None:
    """The mean mIoU before and after, as a status line."""
    layout = result.setup.request.layout
    scores = [verdicts.layout_scores(one, layout) for one in result.comparisons] if layout else []
    found = [score for score in scores if score is not None]
    if not found:
        return None
    after = sum(score[1] for score in found) / len(found)
    seeds = "1 seed" if len(found) == 1 else f"{len(found)} seeds"
    text = f"Overlap with the layout (mIoU over {seeds}): {after:.2f}"
    plain = [score[0] for score in found if score[0] is not None]
    if plain:
        text += f", without guidance {sum(plain) / len(plain):.2f}"
    return say(text)

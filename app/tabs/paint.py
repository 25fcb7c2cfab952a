"""The second tab: say where each phrase belongs by painting, by numbers or with a mask file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from adhere.app.jobs import limits as bounds
from adhere.app.jobs import uploads
from adhere.app.jobs.limits import LIMITS
from adhere.app.jobs.setup import Setup
from adhere.app.jobs.workshop import Result, Workshop
from adhere.app.parts import placing, verdicts
from adhere.app.parts.canvas import COLOURS, Canvas, options, repainted, strokes
from adhere.app.parts.controls import Stack, has_layout
from adhere.app.parts.events import QUIET
from adhere.app.parts.examples import Example
from adhere.app.parts.results import Panel, caption_of, say
from adhere.app.parts.runner import Desk, Runner
from adhere.app.parts.settings import Settings
from adhere.app.tabs.compose import draw_examples
from adhere.errors import GuidanceError
from adhere.plugins import available

NAME = "paint"


class Paint:
    """The tab. `fill` shows a set-up in it."""

    def __init__(
        self, workshop: Workshop, desk: Desk, history: Any, samplers: Sequence[str]
    ) -> None:
        self.stack = Stack()
        self.settings = Settings(workshop.models, samplers)
        self.panel = Panel(NAME)
        self.runner = Runner(workshop, desk, self.panel, history)
        self.followers = [name for name, plugin in available().items() if has_layout(plugin)]

    def draw(self, examples: Sequence[Example]) -> None:
        """Put the tab on the page."""
        buttons = draw_examples(examples)
        prompt = examples[0].setup.request.prompt if examples else "a red cat and a blue car"
        phrases = placing.phrases_of(prompt)
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self._draw_prompt(prompt, phrases)
                self._draw_places(phrases)
                chosen = [p.name for p in examples[0].setup.request.plugins] if examples else []
                self.stack.draw(chosen or self.followers[:1], "Methods that follow the layout")
                self.settings.draw("0-1")
                self.runner.draw()
            with gr.Column(scale=6, min_width=320):
                self.panel.draw("Paint a place for each phrase, then press Generate.")
                self._draw_overlays()
                self.panel.draw_report()
        self.inputs = [
            self.prompt, self.phrases, self.canvas, self.boxes, self.mask, self.legend,
            *self.stack.components, *self.settings.components,
        ]  # fmt: skip
        self.runner.wire(self.read, self.inputs, self.overlays, self.overlay_outputs)
        self._follow()
        for button, example in zip(buttons, examples, strict=True):
            filled = button.click(
                lambda setup=example.setup: self.fill(setup), None, self.inputs, **QUIET
            )
            self.runner.start_on(filled.then)

    def _draw_prompt(self, prompt: str, phrases: Sequence[str]) -> None:
        self.prompt = gr.Textbox(
            value=prompt, label="Prompt", lines=2, max_lines=4, max_length=LIMITS.prompt,
            elem_id="paint-prompt",
        )  # fmt: skip
        with gr.Row():
            self.phrases = gr.Textbox(
                value=", ".join(phrases),
                label="Phrases that get a place",
                info="They follow the prompt; separate your own by commas",
                max_lines=2,
                scale=3,
                min_width=180,
                elem_id="paint-phrases",
            )
            self.relayer = gr.Button(
                "Lay these out",
                size="md",
                scale=1,
                min_width=110,
                elem_id="paint-relayer",
                elem_classes="beside",
            )

    def _draw_places(self, phrases: Sequence[str]) -> None:
        with gr.Tabs():
            with gr.Tab("Paint"):
                self.canvas = Canvas(
                    label="Choose a phrase under “Layers”, then paint where it belongs",
                    sources=(),
                    transforms=(),
                    brush=gr.Brush(colors=list(COLOURS), color_mode="fixed", default_size=36),
                    eraser=gr.Eraser(default_size=36),
                    fixed_canvas=True,
                    format="png",
                    height=560,
                    elem_id="paint-canvas",
                    **options(phrases, None, None),
                )
            with gr.Tab("Boxes"):
                self.boxes = gr.Dataframe(
                    value=_rows(phrases),
                    headers=["phrase", "left", "top", "right", "bottom"],
                    datatype=["str", "number", "number", "number", "number"],
                    type="array",
                    interactive=True,
                    label="Boxes in percent of the picture; paint wins where a phrase has both",
                    elem_id="paint-boxes",
                )
            with gr.Tab("Mask file"):
                self.mask = gr.File(
                    label="A PNG with one colour for each phrase; it wins over paint and boxes",
                    file_types=list(uploads.SUFFIXES),
                    type="filepath",
                    height=120,
                )
                self.legend = gr.Textbox(
                    label="Legend",
                    placeholder="#ff0000 = a red cat\n#0000ff = a blue car",
                    info="One line for each colour (or palette number) of the file",
                    lines=3,
                )

    def _draw_overlays(self) -> None:
        self.score = gr.HTML("", visible=False, padding=False)
        self.overlay_caption = gr.HTML(
            caption_of("What was asked", "What each phrase's attention did", ""),
            elem_classes="tight",
            padding=False,
            visible=False,
        )
        with gr.Row():
            self.asked = gr.AnnotatedImage(
                label="Where each phrase was asked",
                show_label=False,
                format="png",
                height=300,
                visible=False,
                elem_classes="crisp",
                elem_id="paint-asked",
                color_map={},
            )
            self.attention = gr.Gallery(
                label="Where each phrase's attention went (outline: what was asked)",
                show_label=False,
                format="png",
                object_fit="contain",
                allow_preview=False,
                visible=False,
                elem_id="paint-attention",
                elem_classes="strip",
                height="auto",
            )

    def _follow(self) -> None:
        """Keep phrases, layers and rows in step with the prompt and the picture's size."""
        width, height = self.settings.components[4], self.settings.components[5]
        parts = [self.prompt, self.phrases, self.boxes, width, height]
        outputs = [self.phrases, self.canvas, self.boxes, self.panel.status]
        self.prompt.blur(self._from_prompt, parts, outputs, **QUIET)
        self.prompt.submit(self._from_prompt, parts, outputs, **QUIET)
        self.relayer.click(self._from_phrases, parts, outputs, **QUIET)
        for side in (width, height):
            side.blur(self._from_phrases, parts, outputs, **QUIET)

    def _from_prompt(
        self, prompt: str, text: str, rows: Any, width: Any, height: Any
    ) -> dict[Any, Any]:
        try:
            phrases = placing.phrases_of(bounds.check_prompt(prompt, LIMITS))
            if phrases == placing.read_phrases(text):
                return {self.phrases: gr.skip()}
        except GuidanceError as wrong:
            return {self.panel.status: say(str(wrong), "wrong")}
        return self._laid_out(phrases, rows, width, height)

    def _from_phrases(
        self, prompt: str, text: str, rows: Any, width: Any, height: Any
    ) -> dict[Any, Any]:
        try:
            return self._laid_out(placing.read_phrases(text), rows, width, height)
        except GuidanceError as wrong:
            return {self.panel.status: say(str(wrong), "wrong")}

    def _laid_out(self, phrases: list[str], rows: Any, width: Any, height: Any) -> dict[Any, Any]:
        try:
            w, h = bounds.check_size(width, height, LIMITS)
        except GuidanceError as wrong:
            return {self.panel.status: say(str(wrong), "wrong")}
        old = {str(row[0]): row for row in rows or ()}
        return {
            self.phrases: ", ".join(phrases),
            self.canvas: Canvas(**options(phrases, w, h)),
            self.boxes: [old.get(row[0], row) for row in _rows(phrases)],
        }

    def read(self, values: Sequence[Any]) -> Setup:
        """The set-up of the inputs' values."""
        prompt, text, canvas, boxes, mask, legend, *rest = values
        clean = bounds.check_prompt(prompt, LIMITS)
        painted = strokes(canvas, placing.read_phrases(text)) if not mask else {}
        layout = placing.layout_of(clean, painted, boxes or (), mask, legend)
        split = len(self.stack.components)
        setup = self.settings.read(rest[split:], clean, self.stack.read(rest[:split]))
        return replace(setup, request=replace(setup.request, layout=layout))

    def fill(self, setup: Setup) -> list[Any]:
        """Values for `inputs` that show a set-up; masks come back as paint."""
        request = setup.request
        regions = request.layout.regions if request.layout else ()
        phrases = [region.phrase for region in regions] or placing.phrases_of(request.prompt)
        rows = {
            region.phrase: [region.phrase, *(round(100 * edge, 2) for edge in region.box)]
            for region in regions
            if region.box
        }
        return [
            request.prompt,
            ", ".join(phrases),
            Canvas(**repainted(phrases, request.layout, request.width, request.height)),
            [rows.get(row[0], row) for row in _rows(phrases)],
            None,
            "",
            *self.stack.fill(request.plugins),
            *self.settings.fill(setup),
        ]

    @property
    def overlay_outputs(self) -> list[Any]:
        """Every component that `overlays` may update."""
        return [self.asked, self.attention, self.score, self.overlay_caption]

    def overlays(self, result: Result) -> dict[Any, Any]:
        """The layout and the attention over the first picture, and the mIoU over all."""
        layout = result.setup.request.layout
        if layout is None:
            return {}
        pair = result.pairs[0]
        prompt = result.setup.request.prompt
        heat = placing.attended(pair.after.image, layout, pair.maps_after, prompt)
        score = _score(result)
        return {
            self.asked: gr.update(
                value=placing.segments(pair.after.image, layout),
                color_map=dict(zip(layout.phrases, COLOURS * 2, strict=False)),
                visible=True,
            ),
            self.overlay_caption: gr.update(visible=True),
            self.attention: gr.update(value=heat, visible=bool(heat)),
            self.score: gr.update(value=score or "", visible=bool(score)),
        }


def _rows(phrases: Sequence[str]) -> list[list[Any]]:
    return [[phrase, None, None, None, None] for phrase in phrases]


def _score(result: Result) -> str | None:
    """The mean mIoU before and after, as a status line."""
    layout = result.setup.request.layout
    scores = [verdicts.layout_scores(pair, layout) for pair in result.pairs] if layout else []
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

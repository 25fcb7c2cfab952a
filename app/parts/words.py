"""The prompt box and the roles of its words: corrected by clicking, unknown words named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from adhere.app.jobs import limits as bounds
from adhere.app.jobs.limits import Limits
from adhere.app.parts import marks
from adhere.app.parts.events import QUIET
from adhere.errors import GuidanceError
from adhere.pipelines.toybox import TOYBOXES, unknown_words
from adhere.prompt.markup import strip_markup


def prompt_box(value: str, name: str) -> Any:
    """The prompt of a tab: Enter generates, Shift and Enter begin a new line."""
    return gr.Textbox(
        value=value,
        label="Prompt",
        lines=1,
        max_lines=4,
        elem_id=f"{name}-prompt",
    )


def unknown(prompt: str, model: str) -> str:
    """A sentence on words that a bundled model was never taught; empty if there are none."""
    if model not in TOYBOXES:
        return ""
    found = list(dict.fromkeys(unknown_words(strip_markup(prompt))))
    if not found:
        return ""
    listed = ", ".join(f"“{word}”" for word in found[:6])
    return f"The toybox was never taught {listed}: it draws as if that were not there."


class Words:
    """The prompt's words with their roles, corrected by clicking."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    def draw(self, prompt: Any, value: str) -> None:
        """Put the words under a prompt box."""
        self.prompt = prompt
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
            label="About these words", show_label=False, container=False, interactive=False,
            visible=False, elem_id="compose-note", elem_classes="note",
        )  # fmt: skip

    def wire(self, model: Any) -> None:
        """Keep the words in step with the prompt; `model` is the component that chooses one."""
        both = [self.view, self.note]
        # `change` and not `input`: a pasted prompt, too, has new words.
        self.prompt.change(
            self._read, [self.prompt, model], both, trigger_mode="always_last", **QUIET
        )
        # Another model may know them; their roles, and what was corrected of them, stay.
        model.change(lambda *both: self._read(*both)[1], [self.prompt, model], self.note, **QUIET)
        self.view.select(self._click, [self.prompt, self.view, model], both, **QUIET)

    def _read(self, prompt: str, model: str) -> tuple[Any, Any]:
        try:
            text = bounds.check_prompt(prompt, self.limits)
            return marks.read(text), _note(unknown(text, model))
        except GuidanceError as wrong:
            return [(str(prompt)[:200], None)], _note(str(wrong))

    def _click(self, prompt: str, view: Any, model: str, event: gr.SelectData) -> tuple[Any, Any]:
        pieces = pieces_of(view)
        index = event.index if isinstance(event.index, int) else -1
        after = marks.click(pieces, index)
        lost = marks.loose(after)
        if lost:
            return after, _note(f"{', '.join(lost)}: stands before no subject, so it is not used")
        return after, _note(unknown(prompt, model))


def pieces_of(view: Any) -> list[marks.Piece]:
    """The value of a highlighted text as pieces, in whichever form Gradio hands it over."""
    pieces: list[marks.Piece] = []
    for item in view or ():
        if isinstance(item, dict):
            pieces.append((str(item["token"]), item.get("class_or_confidence")))
        else:
            pieces.append((str(item[0]), item[1]))
    return pieces


def corrected(prompt: str, view: Any) -> str:
    """The prompt with the corrections of its words as markup."""
    return marks.markup(prompt, pieces_of(view))


def roles(prompt: str) -> Sequence[marks.Piece]:
    """The words of a prompt with their roles; one piece without a role where it does not read."""
    try:
        return marks.read(prompt)
    except GuidanceError:
        return [(prompt, None)]


def _note(text: str) -> Any:
    return gr.update(value=text, visible=bool(text))

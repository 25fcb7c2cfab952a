"""The examples: set-ups that show a failure and its cure, from `assets/examples/examples.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from adhere import assets
from adhere.app.jobs import setup as setups
from adhere.app.jobs.limits import LIMITS, Limits
from adhere.app.jobs.setup import Setup
from adhere.app.parts.elements import tag
from adhere.app.parts.events import QUIET
from adhere.errors import GuidanceError


@dataclass(frozen=True)
class Example:
    """A set-up with a title, for a tab."""

    title: str
    tab: str
    setup: Setup

    def fills(self, button: Any, fill: Callable[[Setup], list[Any]], inputs: Sequence[Any]) -> Any:
        """Let a button put the set-up into a tab's inputs; returns the event."""
        return button.click(lambda: fill(self.setup), None, inputs, **QUIET)


def load(models: Sequence[str], tab: str, limits: Limits = LIMITS) -> list[Example]:
    """The examples of a tab; those that need a method that is not installed, or more than the
    limits allow, are left out.
    """
    text = (assets.FOLDER / "examples" / "examples.json").read_text("utf-8")
    found = []
    for entry in json.loads(text):
        if entry["tab"] != tab:
            continue
        try:
            setup = setups.from_json({**entry["setup"], "model": models[0]}, models, limits)
        except GuidanceError:
            continue
        found.append(Example(entry["title"], tab, setup))
    return found


def draw_examples(examples: Sequence[Example]) -> list[Any]:
    """A row of buttons, one for each example."""
    if not examples:
        return []
    with gr.Row(elem_classes="examples"):
        gr.HTML(tag("span", "Try", css="quiet"), padding=False)
        return [gr.Button(example.title, size="sm", min_width=80) for example in examples]

"""The attention tab: for any picture of the session, what each word looked at, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from adhere.app.jobs import figures
from adhere.app.jobs.attention import WordMaps, sheet
from adhere.app.jobs.workshop import Pair
from adhere.app.parts.elements import tag
from adhere.app.parts.events import QUIET
from adhere.app.parts.results import caption_of, say
from adhere.app.parts.runner import Kept
from adhere.prompt.parser import parse

GRIDS = {"as recorded": 10_000, "8 cells": 8, "4 cells": 4}
PLAY_EVERY = 0.35
"""Seconds for a step while playing."""


class Explorer:
    """The tab."""

    def __init__(self, history: Any) -> None:
        self.history = history

    def draw(self, tab: Any) -> None:
        """Put the tab on the page; `tab` tells when it is opened."""
        self.status = gr.HTML(
            say("Generate a picture in another tab, then see here what each word looked at."),
            padding=False,
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=280):
                self._draw_controls()
            with gr.Column(scale=5, min_width=320):
                self._draw_maps()
        self._wire(tab)

    def _draw_controls(self) -> None:
        self.picture = gr.Dropdown(
            [], label="Picture", info="of this session, the newest first", elem_id="explore-picture"
        )
        self.word = gr.Radio([], label="Word", elem_id="explore-word")
        self.step = gr.Slider(
            1, 2, value=1, step=1, label="Step", interactive=True, elem_id="explore-step"
        )
        with gr.Row():
            self.play = gr.Button("Play", size="md", min_width=90, elem_id="explore-play")
            self.mean = gr.Checkbox(
                True, label="Average of all steps", min_width=150, elem_id="explore-mean"
            )
        self.grid = gr.Dropdown(
            list(GRIDS), value=next(iter(GRIDS)), label="Grid", info="cells a side"
        )
        self.timer = gr.Timer(PLAY_EVERY, active=False)

    def _draw_maps(self) -> None:
        with gr.Row():
            with gr.Column(min_width=240):
                gr.HTML(caption_of("Plain"), elem_classes="tight", padding=False)
                self.plain = _map("Attention in the plain picture", "explore-plain")
            with gr.Column(min_width=240):
                gr.HTML(caption_of("Guided"), elem_classes="tight", padding=False)
                self.guided = _map("Attention in the guided picture", "explore-guided")
        gr.HTML(_scale(), padding=False)
        gr.HTML(
            caption_of("Every word at this step, guided", "", "each on its own scale"),
            elem_classes="tight",
            padding=False,
        )
        self.words = gr.Gallery(
            label="Every word of the guided picture at this step, each on its own scale",
            show_label=False,
            format="png",
            object_fit="contain",
            allow_preview=False,
            elem_id="explore-words",
            elem_classes="strip",
            height="auto",
        )

    def _wire(self, tab: Any) -> None:
        state = [self.history, self.picture, self.word, self.step, self.mean, self.grid]
        maps = [self.plain, self.guided]
        tab.select(
            self._choices, [self.history, self.picture], [self.picture, self.status], **QUIET
        ).then(self._open, state, [self.word, self.step, *maps, self.words], **QUIET)
        self.picture.input(self._open, state, [self.word, self.step, *maps, self.words], **QUIET)
        self.word.input(self._maps, state, maps, **QUIET)
        for part in (self.step.release, self.mean.input, self.grid.input):
            part(self._all, state, [*maps, self.words], **QUIET)
        self.play.click(self._toggle, self.play, [self.play, self.timer, self.mean], **QUIET)
        self.timer.tick(self._advance, state, [self.step, *maps], trigger_mode="once", **QUIET)

    def _choices(self, history: list[Kept], chosen: str | None) -> dict[Any, Any]:
        names = [
            (f"{kept.result.setup.request.prompt[:60]} · seed {pair.seed}", f"{kept.number}/{k}")
            for kept in history or ()
            for k, pair in enumerate(kept.result.pairs)
            if pair.maps_after is not None
        ]
        if not names:
            return {self.picture: gr.update(choices=[], value=None)}
        values = [value for _, value in names]
        return {
            self.picture: gr.update(choices=names, value=chosen if chosen in values else values[0]),
            self.status: say(
                "Attention of a word: how strongly each cell of the picture reads it."
            ),
        }

    def _open(self, *state: Any) -> dict[Any, Any]:
        pair = _chosen(state[0], state[1])
        maps = pair.maps_after if pair else None
        if pair is None or maps is None:
            return {self.word: gr.skip()}
        words = list(maps.words)
        word = state[2] if state[2] in words else _first_noun(pair.after.request.prompt, words)
        step = min(int(state[3] or 1), maps.steps)
        return {
            self.word: gr.update(choices=words, value=word),
            self.step: gr.update(maximum=maps.steps, value=step),
            **self._all(state[0], state[1], word, step, *state[4:]),
        }

    def _all(self, *state: Any) -> dict[Any, Any]:
        pair, grid = _chosen(state[0], state[1]), GRIDS.get(state[5], 10_000)
        if pair is None or pair.maps_after is None:
            return {self.words: gr.skip()}
        step = None if state[4] else int(state[3]) - 1
        shown = sheet(pair.after.image, pair.maps_after.pooled(grid), step)
        return {**self._maps(*state), self.words: shown}

    def _maps(self, *state: Any) -> dict[Any, Any]:
        history, chosen, word, step, mean, grid = state
        pair = _chosen(history, chosen)
        if pair is None or pair.maps_after is None or word not in pair.maps_after.words:
            return {self.plain: gr.skip()}
        index = pair.maps_after.words.index(word)
        when = None if mean else int(step) - 1
        cells = GRIDS.get(grid, 10_000)
        both = [maps.pooled(cells) for maps in (pair.maps_before, pair.maps_after) if maps]
        # One scale for both, or they could not be compared.
        top = max(float(m.mean(index).max()) if when is None else m.top(index) for m in both)
        before = pair.before.image if pair.before else pair.after.image
        plain = pair.maps_before or pair.maps_after
        return {
            self.plain: _heat(before, plain.pooled(cells), index, when, top),
            self.guided: _heat(pair.after.image, pair.maps_after.pooled(cells), index, when, top),
        }

    def _toggle(self, label: str) -> dict[Any, Any]:
        playing = label == "Play"
        return {
            self.play: "Pause" if playing else "Play",
            self.timer: gr.Timer(active=playing),
            self.mean: False if playing else gr.skip(),
        }

    def _advance(self, *state: Any) -> dict[Any, Any]:
        pair = _chosen(state[0], state[1])
        if pair is None or pair.maps_after is None:
            return {self.step: gr.skip()}
        step = int(state[3]) % pair.maps_after.steps + 1
        return {self.step: step, **self._maps(*state[:3], step, False, state[5])}


def _chosen(history: Sequence[Kept] | None, value: str | None) -> Pair | None:
    """The pair a dropdown value such as `3/0` names, if it is still kept."""
    number, _, index = str(value or "").partition("/")
    for kept in history or ():
        if str(kept.number) == number and index.isdigit() and int(index) < len(kept.result.pairs):
            return kept.result.pairs[int(index)]
    return None


def _first_noun(prompt: str, words: Sequence[str]) -> str:
    """The prompt's first noun, where the words have it; else their first."""
    nouns = [noun.text.split()[-1] for noun in parse(prompt).nouns]
    return next((noun for noun in nouns if noun in words), words[0])


def _heat(image: Any, maps: WordMaps, word: int, step: int | None, top: float) -> Any:
    values = maps.mean(word) if step is None else maps.at(word, step)
    return figures.heat_over(image, values, top)


def _map(label: str, name: str) -> Any:
    return gr.Image(
        label=label, show_label=False, format="png", height=340, interactive=False, elem_id=name,
        buttons=["download", "fullscreen"],
    )  # fmt: skip


def _scale() -> str:
    return tag(
        "div", tag("span", "none"), tag("div", css="ramp"), tag("span", "most, at any step"),
        css="scale quiet",
    )  # fmt: skip

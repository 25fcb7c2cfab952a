"""The attention tab: for any picture of the visitor, what each word looked at, step by step."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from adhere.app.jobs import figures
from adhere.app.jobs.attention import WordMaps
from adhere.app.jobs.result import Comparison, Shot
from adhere.app.outcome import downloads
from adhere.app.outcome.pictures import file_of
from adhere.app.outcome.results import strip
from adhere.app.outcome.runner import Shared
from adhere.app.outcome.sessions import Kept
from adhere.app.outcome.status import caption_of, say
from adhere.app.parts.elements import tag
from adhere.app.parts.events import QUIET
from adhere.prompt.parser import parse

GRIDS = {"as recorded": 10_000, "8 cells": 8, "4 cells": 4}
PLAY_EVERY = 0.35
"""Seconds for a step while playing."""
NONE = "none"


@dataclass(frozen=True)
class View:
    """What is looked at: words of a comparison at a step (None: their average), how drawn."""

    comparison: Comparison
    words: tuple[str, ...]
    step: int | None
    grid: int
    strength: float

    def maps(self, shot: Shot | None) -> WordMaps | None:
        """A picture's maps on the chosen grid."""
        return shot.maps.pooled(self.grid) if shot is not None and shot.maps else None

    def values(self, maps: WordMaps, word: str) -> Any:
        """A word's map at the step."""
        index = maps.words.index(word)
        return maps.mean(index) if self.step is None else maps.at(index, self.step)

    def top(self) -> float:
        """The one scale of everything shown: the most that any word has, in either picture."""
        shots = (self.comparison.before, self.comparison.after)
        tops = [
            float(maps.mean(k).max()) if self.step is None else maps.top(k)
            for maps in map(self.maps, shots)
            if maps is not None
            for k in range(len(maps.words))
        ]
        return max(tops, default=1.0)

    def heat(self, shot: Shot, word: str, top: float) -> Any:
        """One heat map; None where the picture has no map of the word."""
        maps = self.maps(shot)
        if maps is None or word not in maps.words:
            return None
        return figures.heat_over(
            shot.picture.image, self.values(maps, word), top, strength=self.strength
        )


class Explorer:
    """The tab."""

    def __init__(self, shared: Shared) -> None:
        self.histories, self.key = shared.histories, shared.key

    def draw(self, tab: Any) -> None:
        """Put the tab on the page; `tab` tells when it is opened."""
        self.status = gr.HTML(
            say("Generate a picture in another tab, then see here what each word looked at."),
            padding=False,
            elem_id="explore-status",
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=280):
                self._draw_controls()
            with gr.Column(scale=5, min_width=320):
                self._draw_maps()
        self._wire(tab)

    def _draw_controls(self) -> None:
        self.picture = gr.Dropdown(
            [], label="Picture", info="the newest first", elem_id="explore-picture"
        )
        with gr.Row():
            self.word = gr.Dropdown([], label="Word", min_width=120, elem_id="explore-word")
            self.other = gr.Dropdown(
                [NONE], value=NONE, label="Beside it", min_width=120, elem_id="explore-other"
            )
        self.step = gr.Slider(
            0,
            1,
            value=0,
            step=1,
            label="Step",
            info="0: the average of all steps",
            interactive=True,
            elem_id="explore-step",
            buttons=[],
        )
        with gr.Row():
            self.play = gr.Button("Play", size="md", min_width=90, elem_id="explore-play")
            self.save = gr.DownloadButton(
                "Save maps",
                size="md",
                min_width=120,
                interactive=False,  # until there are any
                elem_id="explore-save",
            )
        with gr.Row():
            self.grid = gr.Dropdown(
                list(GRIDS), value=next(iter(GRIDS)), label="Cells a side", min_width=120
            )
            self.strength = gr.Slider(
                0.2, 1, value=0.75, step=0.05, label="Over the picture", min_width=120, buttons=[]
            )
        self.timer = gr.Timer(PLAY_EVERY, active=False)

    def _draw_maps(self) -> None:
        self.shown = strip("Maps of the chosen words", "explore-maps", crisp=False, large=True)
        gr.HTML(_scale(), padding=False)
        gr.HTML(
            caption_of(
                "Every word", "", "in the picture after guidance, at the same step and scale"
            ),
            elem_classes="tight",
            padding=False,
        )
        self.words = strip("Every word of the picture", "explore-words", crisp=False)

    def _wire(self, tab: Any) -> None:
        self.state = [
            self.picture, self.word, self.other, self.step, self.grid, self.strength, self.key
        ]  # fmt: skip
        opened = [self.word, self.other, self.step, self.shown, self.words, self.save]
        drawn = [self.shown, self.words, self.save]
        tab.select(
            self._choices, [self.picture, self.key], [self.picture, self.status], **QUIET
        ).then(self._open, self.state, opened, **QUIET)
        self.picture.input(self._open, self.state, opened, **QUIET)
        for part in (self.word, self.other, self.grid):
            part.input(self._draw, self.state, drawn, **QUIET)
        for part in (self.step, self.strength):
            # `change`: dragged, typed, by keys or by playing, it is always what is shown.
            part.change(self._draw, self.state, drawn, trigger_mode="always_last", **QUIET)
        self.play.click(self._toggle, self.play, [self.play, self.timer], **QUIET)
        self.timer.tick(
            self._advance, [self.picture, self.step, self.key], self.step, trigger_mode="once",
            **QUIET,
        )  # fmt: skip

    def _choices(self, chosen: str | None, key: str | None) -> dict[Any, Any]:
        names = choices(self.histories.of(key))
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
        picture, word, other, step, *rest = state
        comparison = self.histories.comparison(rest[-1], picture)
        maps = comparison.after.maps if comparison else None
        if comparison is None or maps is None:
            return {self.word: gr.skip()}
        words = list(maps.words)
        word = word if word in words else _first_noun(comparison, words)
        other = other if other in words else NONE
        step = min(int(step or 0), maps.steps)
        return {
            self.word: gr.update(choices=words, value=word),
            self.other: gr.update(choices=[NONE, *words], value=other),
            self.step: gr.update(maximum=maps.steps, value=step),
            **self._draw(picture, word, other, step, *rest),
        }

    def _draw(self, *state: Any) -> dict[Any, Any]:
        view = self._view(*state)
        maps = view.comparison.after.maps if view else None
        if view is None or maps is None:
            return {self.words: gr.skip()}
        top, after = view.top(), view.comparison.after
        return {
            self.shown: [(file_of(image), text) for image, text in _chosen_maps(view, top)],
            self.words: [(file_of(view.heat(after, word, top)), word) for word in maps.words],
            self.save: gr.update(value=str(archive(view, state[-1])), interactive=True),
        }

    def _view(
        self, picture: str, word: str, other: str, step: Any, grid: str, strength: Any, key: str
    ) -> View | None:
        comparison = self.histories.comparison(key, picture)
        known = comparison.after.maps.words if comparison and comparison.after.maps else ()
        words = tuple(one for one in dict.fromkeys((word, other)) if one in known)
        if comparison is None or not words:
            return None
        when = int(step or 0)
        share = float(strength or 0.75)
        return View(comparison, words, when - 1 if when else None, GRIDS.get(grid, 10_000), share)

    def _toggle(self, label: str) -> dict[Any, Any]:
        playing = label == "Play"
        return {
            self.play: "Pause" if playing else "Play",
            self.timer: gr.Timer(active=playing),
        }

    def _advance(self, picture: str, step: Any, key: str | None) -> Any:
        comparison = self.histories.comparison(key, picture)
        if comparison is None or comparison.after.maps is None:
            return gr.skip()
        return int(step or 0) % comparison.after.maps.steps + 1


def choices(history: Sequence[Kept]) -> list[tuple[str, str]]:
    """The pictures that have maps, as labels and names."""
    return [
        (f"{kept.result.setup.request.prompt[:60]} · seed {one.seed}", f"{kept.number}/{k}")
        for kept in history
        for k, one in enumerate(kept.result.comparisons)
        if one.after.maps is not None
    ]


def _chosen_maps(view: View, top: float) -> list[tuple[Any, str]]:
    """The chosen words' maps, plain and guided, each with what it is."""
    made = [
        (view.heat(shot, word, top), f"{word}, {name}")
        for word in view.words
        for name, shot in view.comparison.sides
    ]
    return [(image, text) for image, text in made if image is not None]


def archive(view: View, key: str | None) -> Path:
    """A visitor's archive of the shown maps as pictures and of all maps as arrays."""
    path = downloads.own_folder(key) / "attention.zip"
    with zipfile.ZipFile(path, "w") as made:
        for image, text in _chosen_maps(view, view.top()):
            with made.open(f"{text.replace(', ', '-').replace('#', '-')}.png", "w") as file:
                image.save(file, "PNG")
        arrays: dict[str, Any] = {}
        for name, shot in view.comparison.sides:
            if shot.maps is not None:
                arrays[name] = shot.maps.maps
                arrays["words"] = np.array(shot.maps.words)
        with made.open("maps.npz", "w") as file:
            np.savez(file, **arrays)
    return path


def _first_noun(comparison: Comparison, words: Sequence[str]) -> str:
    """The prompt's first noun, where the words have it; else their first."""
    prompt = comparison.after.picture.request.prompt
    nouns = [noun.text.split()[-1] for noun in parse(prompt).nouns]
    return next((noun for noun in nouns if noun in words), words[0])


def _scale() -> str:
    return tag(
        "div",
        tag("span", "none"),
        tag("div", css="ramp", role="img", aria_label="from dark to pale"),
        tag("span", "most of any word"),
        css="scale quiet",
    )

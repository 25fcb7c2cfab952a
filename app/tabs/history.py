"""The history tab: what this visitor has made, to look at again and to take up again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from adhere.app.jobs import figures, uploads
from adhere.app.jobs import setup as setups
from adhere.app.jobs.methods import has_layout, stack_title
from adhere.app.jobs.setup import Setup
from adhere.app.jobs.worker import sentence
from adhere.app.outcome import downloads
from adhere.app.outcome.pictures import file_of
from adhere.app.outcome.results import Panel, strip
from adhere.app.outcome.runner import Shared
from adhere.app.outcome.sessions import Kept
from adhere.app.outcome.status import caption_of, say
from adhere.app.parts.events import QUIET
from adhere.errors import GuidanceError

NAME = "history"


class History:
    """The tab. `boards` are the tabs that can take a set-up up again, by name."""

    def __init__(self, shared: Shared, tabs: Any, boards: Mapping[str, Any]) -> None:
        self.shared, self.tabs, self.boards = shared, tabs, boards
        self.panel = Panel(NAME, shared.worker.limits)
        self.listed, self.chosen = gr.State(()), gr.State(None)

    def draw(self, tab: Any) -> None:
        """Put the tab on the page; `tab` tells when it is opened."""
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self._draw_left()
            with gr.Column(scale=6, min_width=320, elem_classes="results"):
                self.panel.draw(self.status, "Pick a picture to see it again")
                self.panel.draw_report()
        tab.select(self._list, self.shared.key, [self.made, self.listed], **QUIET)
        self.made.select(
            self._pick,
            [self.shared.key, self.listed],
            [*self.panel.outputs, self.chosen, self.again],
            **QUIET,
        )
        self.panel.gallery.select(
            self._another, [self.chosen, self.shared.key], self.panel.pair_outputs, **QUIET
        )
        parts = [part for board in self.boards.values() for part in board.inputs]
        parts += [board.panel.status for board in self.boards.values()]
        outputs = [self.tabs, self.status, *parts]
        self.again.click(self._again, [self.chosen, self.shared.key], outputs, **QUIET)
        self.file.upload(self._from_file, self.file, outputs, **QUIET)

    def _draw_left(self) -> None:
        lasting = self.shared.histories.gallery is not None
        how_long = "by this app, also when it ends" if lasting else "while the app runs"
        self.status = gr.HTML(
            say(f"Your latest pictures, kept {how_long}, also over a reload."),
            padding=False,
            elem_id="history-status",
        )
        gr.HTML(
            caption_of("Your pictures", "", "the newest first"), elem_classes="tight", padding=False
        )
        self.made = strip("Your pictures, the newest first", "history-made", css="told")
        self.again = gr.Button(
            "Take these settings up again", interactive=False, elem_id="history-again"
        )
        self.file = gr.File(
            label="Or drop a picture (PNG) or settings.json to take its settings up",
            file_types=[".json", *uploads.SUFFIXES],
            type="filepath",
            height=170,
            elem_id="history-file",
        )

    def _list(self, key: str | None) -> tuple[list[Any], list[int]]:
        """The visitor's pictures, and their numbers: more may be made while they are shown."""
        history = self.shared.histories.of(key)
        return [(_small(kept), caption(kept)) for kept in history], [one.number for one in history]

    def _pick(self, key: str | None, listed: Sequence[int], event: gr.SelectData) -> dict[Any, Any]:
        known = isinstance(event.index, int) and event.index < len(listed)
        kept = self.shared.histories.result(key, listed[event.index] if known else 0)
        if kept is None:
            return {self.status: say("That picture is no longer kept.")}
        return {
            **self.panel.show(kept.result, kept.tab),
            self.chosen: kept.number,
            self.again: gr.update(interactive=True),
        }

    def _another(self, number: int | None, key: str | None, event: gr.SelectData) -> dict[Any, Any]:
        kept = self.shared.histories.result(key, number or 0)
        if kept is None or not isinstance(event.index, int):
            return {self.panel.heading: gr.skip()}
        return self.panel.pair(kept.result, event.index)

    def _again(self, number: int | None, key: str | None) -> dict[Any, Any]:
        kept = self.shared.histories.result(key, number or 0)
        if kept is None or kept.tab not in self.boards:
            return {self.status: say("That picture is no longer kept.")}
        return self._taken_up(kept.tab, kept.result.setup)

    def _from_file(self, path: str) -> dict[Any, Any]:
        worker = self.shared.worker
        try:
            data = downloads.settings_of(path, worker.models, worker.limits)
            setup = setups.from_json(data, worker.models, worker.limits)
        except GuidanceError as wrong:
            return {self.status: say(sentence(wrong), "wrong")}
        return self._taken_up(board_for(setup, self.boards), setup)

    def _taken_up(self, tab: str, setup: Setup) -> dict[Any, Any]:
        return {self.tabs: gr.update(selected=tab), **taken_up(self.boards[tab], setup)}


def board_for(setup: Setup, boards: Mapping[str, Any], asked: str = "") -> str:
    """The tab that can show most of a set-up: the one that is asked for, if it can."""
    if setup.request.auto is not None:
        return "autopilot"
    layout = setup.request.layout is not None
    if layout or any(has_layout(type(plugin)) for plugin in setup.request.plugins):
        return "paint"
    return "compose" if asked == "autopilot" or asked not in boards else asked


def taken_up(board: Any, setup: Setup, note: str = "") -> dict[Any, Any]:
    """Updates that show a set-up in a tab; what the tab has no place for is said, else the note."""
    values = board.fill(setup)
    if lost := _lost(board, values, setup):
        text = f"The settings are in place without their {', '.join(lost)}, which this tab cannot "
        said = {board.panel.status: say(f"{text}show: it makes another picture.", "wrong")}
    else:
        said = {board.panel.status: say(note)} if note else {}
    return {**dict(zip(board.inputs, values, strict=True)), **said}


_PARTS = {"plugins": "methods", "subjects": "subjects", "scheduler": "sampler"}


def _lost(board: Any, values: Sequence[Any], setup: Setup) -> list[str]:
    """What a tab would not ask for when its fields have these values."""
    given = [one.get("value") if isinstance(one, dict) else one for one in values]
    try:
        shown = board.read(given).request
    except GuidanceError:  # which Generate will say
        return []
    asked = setup.request
    return [
        name for part, name in _PARTS.items() if getattr(shown, part) != getattr(asked, part)
    ]  # fmt: skip


def _small(kept: Kept) -> str:
    return file_of(figures.enlarge(kept.result.comparisons[0].after.picture.image, 256))


def caption(kept: Kept) -> str:
    """What a kept result is: its methods first, for the prompt may be cut."""
    request = kept.result.setup.request
    stack = "Autopilot" if request.auto else stack_title(request.plugins)
    return f"{stack}: {request.prompt[:60]}"

"""The history tab: what this session has made, to look at again and to take up again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from adhere.app.jobs import figures
from adhere.app.parts.events import QUIET
from adhere.app.parts.results import Panel, caption_of, say
from adhere.app.parts.runner import Kept

NAME = "history"


class History:
    """The tab. `boards` are the tabs that can take a set-up up again, by name."""

    def __init__(self, history: Any) -> None:
        self.history = history
        self.panel = Panel(NAME)
        self.chosen = gr.State(None)

    def draw(self, tab: Any, tabs: Any, boards: Mapping[str, Any]) -> None:
        """Put the tab on the page; `tab` tells when it is opened."""
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                gr.HTML(
                    caption_of("Made in this session", "", "the newest first"),
                    elem_classes="tight",
                    padding=False,
                )
                self.made = gr.Gallery(
                    label="Made in this session, the newest first",
                    show_label=False,
                    format="png",
                    object_fit="contain",
                    allow_preview=False,
                    elem_classes=["crisp", "strip"],
                    elem_id="history-made",
                    height="auto",
                )
                self.again = gr.Button(
                    "Take these settings up again", interactive=False, elem_id="history-again"
                )
            with gr.Column(scale=6, min_width=320):
                self.panel.draw("Pick a picture to see it again; nothing is kept after you leave.")
                self.panel.draw_report()
        tab.select(self._list, self.history, self.made, **QUIET)
        panel = self.panel
        self.made.select(
            self._pick,
            self.history,
            [*panel.outputs, self.chosen, self.again],
            **QUIET,
        )  # fmt: skip
        panel.gallery.select(
            self._pair, self.chosen, panel.pair_outputs,
            **QUIET,
        )  # fmt: skip
        parts = [part for board in boards.values() for part in board.inputs]
        self.again.click(
            lambda kept: self._again(kept, tabs, boards), self.chosen, [tabs, *parts], **QUIET
        )

    def _list(self, history: list[Kept] | None) -> list[Any]:
        return [
            (figures.enlarge(kept.result.pairs[0].after.image, 256), _caption(kept))
            for kept in history or ()
        ]

    def _pick(self, history: list[Kept] | None, event: gr.SelectData) -> dict[Any, Any]:
        if not history or not isinstance(event.index, int) or event.index >= len(history):
            return {self.panel.status: say("That picture is no longer kept.")}
        kept = history[event.index]
        return {
            **self.panel.show(kept.result, kept.tab),
            self.chosen: kept,
            self.again: gr.update(interactive=True),
        }

    def _pair(self, kept: Kept | None, event: gr.SelectData) -> dict[Any, Any]:
        if kept is None or not isinstance(event.index, int):
            return {}
        return self.panel.pair(kept.result, event.index)

    def _again(self, kept: Kept | None, tabs: Any, boards: Mapping[str, Any]) -> dict[Any, Any]:
        if kept is None or kept.tab not in boards:
            return {tabs: gr.skip()}
        board = boards[kept.tab]
        filled = zip(board.inputs, board.fill(kept.result.setup), strict=True)
        return {tabs: gr.update(selected=kept.tab), **dict(filled)}


def _caption(kept: Kept) -> str:
    request = kept.result.setup.request
    stack = " + ".join(plugin.name for plugin in request.plugins) or "plain"
    return f"{request.prompt[:40]} · {stack[:40]}"

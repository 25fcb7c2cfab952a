"""The whole page: a masthead, the tabs, and the link that restores a set-up."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence
from typing import Any

import gradio as gr

from adhere.app.jobs import setup as setups
from adhere.app.jobs.limits import LIMITS
from adhere.app.jobs.setup import Setup
from adhere.app.jobs.workshop import Workshop, sentence
from adhere.app.parts import examples
from adhere.app.parts.elements import tag
from adhere.app.parts.events import QUIET
from adhere.app.parts.results import say
from adhere.app.parts.runner import Desk
from adhere.app.serving import endpoint
from adhere.app.serving.guarded import GuardedPage
from adhere.app.tabs.compose import Compose
from adhere.app.tabs.explorer import Explorer
from adhere.app.tabs.history import History
from adhere.app.tabs.paint import Paint
from adhere.app.tabs.safety import Safety
from adhere.errors import GuidanceError
from adhere.pipelines.toybox import COLOURS, KINDS, TOYBOXES


def build(workshop: Workshop, samplers: Sequence[str] = ()) -> Any:
    """The page as `gr.Blocks`, ready to be queued and launched."""
    desk = Desk()
    with GuardedPage(
        title="Adhere", analytics_enabled=False, delete_cache=(600, 3600), fill_width=True
    ) as page:
        # First, so that no event of the page takes its name.
        endpoint.offer(workshop)
        history = gr.State([], time_to_live=3600)
        gr.HTML(_masthead(workshop.models), padding=False)
        compose = Compose(workshop, desk, history, samplers)
        paint = Paint(workshop, desk, history, samplers)
        safety = Safety(workshop, desk, history, samplers)
        with gr.Tabs(selected="compose") as tabs:
            with gr.Tab("Compose", id="compose"):
                compose.draw(examples.load(workshop.models, "compose"))
            with gr.Tab("Paint a layout", id="paint"):
                paint.draw(examples.load(workshop.models, "paint"))
            with gr.Tab("Attention", id="attention") as attention:
                Explorer(history).draw(attention)
            boards = {"compose": compose, "paint": paint}
            if safety.offered:
                with gr.Tab("Safety", id="safety"):
                    safety.draw(examples.load(workshop.models, "safety"))
                boards["safety"] = safety
            with gr.Tab("History", id="history") as past:
                History(history).draw(past, tabs, boards)
        _restore(tabs, list(boards.values()), page, workshop.models)

        def leave(request: gr.Request) -> None:
            desk.stop(str(request.session_hash or ""))

        page.unload(leave)
    return page


def _masthead(models: Sequence[str]) -> str:
    return tag(
        "header",
        tag("h1", "Adhere"),
        tag("p", "See what guidance does to a picture, at the same seed."),
        tag("p", _vocabulary(), css="quiet") if set(TOYBOXES) & set(models) else None,
        css="masthead",
    )


def _vocabulary() -> str:
    """What the toybox can draw: it knows only the words of its small world."""
    return (
        f"The toybox, a miniature model, draws {', '.join(KINDS)} in {', '.join(COLOURS)}; "
        "on a beach, in a room, in a meadow, at night, in a haunted house."
    )


OPENED = """() => {
  document.body.dataset.adhere = "ready";
  return location.search.includes("setup=") ? location.search : "";
}"""
"""Runs once every event of the page is bound; only a page opened by a link asks for more."""


def _restore(tabs: Any, boards: Sequence[Any], page: Any, models: Sequence[str]) -> None:
    """Fill a tab from the page's own link."""
    query = gr.Textbox(visible="hidden", label="link")
    outputs = [tabs, *(board.panel.status for board in boards)]
    outputs += [part for board in boards for part in board.inputs]

    def load(text: str) -> dict[Any, Any]:
        asked = urllib.parse.parse_qs(str(text).lstrip("?"), max_num_fields=8)
        name = asked.get("tab", [""])[0]
        board = next((one for one in boards if one.panel.name == name), boards[0])
        try:
            setup = setups.from_link(asked.get("setup", [""])[0], models, LIMITS)
        except GuidanceError as wrong:
            return {boards[0].panel.status: say(sentence(wrong), "wrong")}
        return {tabs: gr.update(selected=board.panel.name), **_filled(board, setup)}

    page.load(None, None, query, js=OPENED, api_visibility="private")
    query.change(load, query, outputs, **QUIET)


def _filled(board: Any, setup: Setup) -> dict[Any, Any]:
    return {
        **dict(zip(board.inputs, board.fill(setup), strict=True)),
        board.panel.status: say("The link's settings are in place: press Generate."),
    }

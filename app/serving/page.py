"""The whole page: a masthead, the tabs, and the link that restores a set-up."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from adhere.app.jobs import copies
from adhere.app.jobs.worker import Worker, sentence
from adhere.app.outcome.gallery import Gallery
from adhere.app.outcome.runner import Shared
from adhere.app.outcome.sessions import Cancellations, Histories
from adhere.app.outcome.status import say
from adhere.app.parts import examples, scripts
from adhere.app.parts.elements import tag
from adhere.app.parts.events import QUIET
from adhere.app.serving import endpoint
from adhere.app.serving.compat import GuardedPage
from adhere.app.tabs.autopilot import Autopilot
from adhere.app.tabs.compose import Compose
from adhere.app.tabs.explorer import Explorer
from adhere.app.tabs.history import History, board_for, taken_up
from adhere.app.tabs.paint import Paint
from adhere.app.tabs.safety import Safety
from adhere.errors import GuidanceError
from adhere.pipelines.toybox import COLOURS, KINDS, TOYBOXES


def build(
    worker: Worker,
    samplers: Sequence[str] = (),
    *,
    log_out: bool = False,
    gallery: Path | None = None,
) -> Any:
    """The page as `gr.Blocks`, ready to be queued and launched.

    Args:
        worker: makes the pictures.
        samplers: to choose from.
        log_out: whether people log in, so that they can log out.
        gallery: where their pictures are kept for longer than the app runs.
    """
    with GuardedPage(
        title="Adhere", analytics_enabled=False, delete_cache=(600, 3600), fill_width=True
    ) as page:
        # First, so that no event of the page takes its name.
        cancellations, histories = (
            Cancellations(worker.limits),
            Histories(
                worker.limits, Gallery(gallery, worker.models, worker.limits) if gallery else None
            ),
        )
        endpoint.offer(worker, cancellations)
        key = gr.BrowserState(None, storage_key="adhere-visitor")
        shared = Shared(worker, cancellations, histories, key, samplers)
        gr.HTML(_masthead(worker.models, log_out), padding=False)
        boards, tabs = _tabs(shared)
        _restore(tabs, boards, page, shared)

        def leave(request: gr.Request) -> None:
            cancellations.stop(str(request.session_hash or ""))

        page.unload(leave)
    return page


def _tabs(shared: Shared) -> tuple[dict[str, Any], Any]:
    """Put the tabs on the page; returns those that take a set-up, by name, and the tabs."""
    worker = shared.worker
    pilot, compose, paint, safety = (
        Autopilot(shared), Compose(shared), Paint(shared), Safety(shared)
    )  # fmt: skip
    boards: dict[str, Any] = {"autopilot": pilot, "compose": compose, "paint": paint}
    with gr.Tabs(selected="autopilot") as tabs:
        with gr.Tab("Autopilot", id="autopilot"):
            pilot.draw(examples.load(worker.models, "autopilot", worker.limits))
        with gr.Tab("Compose", id="compose"):
            compose.draw(examples.load(worker.models, "compose", worker.limits))
        with gr.Tab("Layout", id="paint"):
            paint.draw(examples.load(worker.models, "paint", worker.limits))
        if safety.offered:
            boards["safety"] = safety
            with gr.Tab("Safety", id="safety"):
                safety.draw(examples.load(worker.models, "safety", worker.limits))
        with gr.Tab("Attention", id="attention") as attention:
            Explorer(shared).draw(attention)
        with gr.Tab("History", id="history") as past:
            History(shared, tabs, boards).draw(past)
    return boards, tabs


def _masthead(models: Sequence[str], log_out: bool) -> str:
    return tag(
        "header",
        tag("h1", "Adhere"),
        tag("p", "See what guidance does to a picture, at the same seed."),
        _vocabulary() if set(TOYBOXES) & set(models) else None,
        tag("a", "Log out", href="logout", css="log-out") if log_out else None,
        css="masthead",
    )


def _vocabulary() -> str:
    """What the toybox can draw, folded away: it knows only the words of its small world."""
    return tag(
        "details",
        tag("summary", "What the toybox can draw"),
        f"The toybox, a miniature model, draws {', '.join(KINDS)} in {', '.join(COLOURS)}; "
        "on a beach, in a room, in a meadow, at night, in a haunted house.",
        css="quiet",
    )


IN_PLACE = "The link's settings are in place: press Generate."
OPENED = """() => {
  document.body.dataset.adhere = "ready";
  return location.search.includes("setup=") ? location.search : "";
}"""
"""Runs once every event of the page is bound; only a page opened by a link asks for more."""


def _restore(tabs: Any, boards: Mapping[str, Any], page: Any, shared: Shared) -> None:
    """Give a new visitor a key, and fill a tab from the page's own link."""
    query = gr.Textbox(visible="hidden", label="link")
    outputs = [tabs, *(board.panel.status for board in boards.values())]
    outputs += [part for board in boards.values() for part in board.inputs]
    worker = shared.worker

    def load(text: str) -> dict[Any, Any]:
        asked = urllib.parse.parse_qs(str(text).lstrip("?"), max_num_fields=8)
        try:
            setup = copies.from_link(asked.get("setup", [""])[0], worker.models, worker.limits)
        except GuidanceError as wrong:
            first = next(iter(boards.values()))
            return {first.panel.status: say(sentence(wrong), "wrong")}
        board = boards[board_for(setup, boards, asked.get("tab", [""])[0])]
        return {tabs: gr.update(selected=board.panel.name), **taken_up(board, setup, IN_PLACE)}

    page.load(lambda known: known or Histories.new_key(), shared.key, shared.key, **QUIET)
    page.load(None, None, None, js=scripts.NAMED, api_visibility="private")
    page.load(None, None, query, js=OPENED, api_visibility="private")
    query.change(load, query, outputs, **QUIET)

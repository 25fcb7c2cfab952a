"""The tabs' own functions, called as a page calls them: what is shown is of one job."""

from __future__ import annotations

from operator import attrgetter
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from adhere.app.jobs.setup import Setup
from adhere.app.jobs.worker import Worker
from adhere.app.outcome.runner import Shared
from adhere.app.outcome.sessions import Cancellations, Histories
from adhere.app.serving.server import prepare
from adhere.app.tabs.autopilot import Autopilot
from adhere.app.tabs.compose import Compose
from adhere.app.tabs.history import History
from adhere.app.tabs.paint import Paint
from adhere.app.tabs.safety import Safety
from adhere.layout.layout import Layout, Region
from adhere.pipelines.search.plan import Pilot
from adhere.pipelines.studio.request import Request
from adhere.plugins import plugin
from tests.app.fakes import FakeJudge, FakeStudio

PROMPT = "a red cat and a blue car"
LAYOUT = Layout((Region("red cat", (0, 0, 0.5, 1)), Region("blue car", (0.5, 0, 1, 1))))
KEY = "the visitor's secret"
SESSION: Any = SimpleNamespace(session_hash="a page")
CLICK: Any = SimpleNamespace(index=0)


def shared() -> Shared:
    prepare()
    worker = Worker(("toybox",), lambda _: FakeStudio(steps=3), FakeJudge)
    return Shared(worker, Cancellations(), Histories(), gr.State())


def drawn(tab: type[Any], common: Shared) -> Any:
    with gr.Blocks():
        board = tab(common)
        board.draw([])
    return board


def job(board: Any, request: Request) -> list[dict[Any, Any]]:
    """All that a page is told of a job."""
    values = board.fill(Setup("toybox", request, (0,)))
    given = [one.get("value") if isinstance(one, dict) else one for one in values]
    board.runner._begin(SESSION)
    return [*board.runner._generate(SESSION, *given, True, KEY)]


def visible(component: Any, told: list[dict[Any, Any]]) -> bool:
    """Whether it is in sight after all that a page was told."""
    said = [one[component].get("visible") for one in told if component in one]
    return bool([component.visible, *(one for one in said if one is not None)][-1])


@pytest.mark.parametrize(
    ("tab", "asked", "parts"),
    [
        (Paint, Request(PROMPT, plugins=(plugin("zestguide"),), layout=LAYOUT), "score attention"),
        (Safety, Request(PROMPT, plugins=(plugin("safe-latent-diffusion"),)), "changes heading"),
        (Autopilot, Request(PROMPT, auto=Pilot(2.0)), "tries.strip tries.heading"),
    ],
)
def test_nothing_older_stands_beside_a_new_plain_picture(
    tab: type[Any], asked: Request, parts: str
) -> None:
    board = drawn(tab, shared())
    first = job(board, asked)
    components = [attrgetter(part)(board) for part in parts.split()]
    assert all(visible(one, first) for one in components)
    second = job(board, asked)
    begun = next(k for k, one in enumerate(second) if board.panel.slider in one)
    assert not any(visible(one, first + second[: begun + 1]) for one in components)
    assert all(visible(one, first + second) for one in components)


def test_a_click_in_the_history_is_on_what_was_shown() -> None:
    common = shared()
    board = drawn(Compose, common)
    with gr.Blocks(), gr.Tabs() as tabs, gr.Tab() as tab:
        history = History(common, tabs, {"compose": board})
        history.draw(tab)
    job(board, Request("a red cat"))
    _, listed = history._list(KEY)
    job(board, Request("a blue car"))  # in another tab, while the history is open
    picked = history._pick(KEY, listed, CLICK)
    assert "a red cat" in picked[history.panel.json]
    for k in range(common.worker.limits.kept):
        job(board, Request(f"a frog {k}"))
    assert "no longer kept" in str(history._pick(KEY, listed, CLICK))

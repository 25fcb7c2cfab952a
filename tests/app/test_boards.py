"""The tabs' own functions, called as a page calls them: what is shown is of one job."""

from __future__ import annotations

import zipfile
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from adhere.app.jobs.result import Comparison, Result, Shot
from adhere.app.jobs.setup import Setup
from adhere.app.jobs.worker import Worker
from adhere.app.outcome.runner import Shared
from adhere.app.outcome.sessions import Cancellations, Histories
from adhere.app.serving.server import prepare
from adhere.app.tabs.autopilot import Autopilot
from adhere.app.tabs.compose import Compose
from adhere.app.tabs.explorer import View, archive
from adhere.app.tabs.history import History, board_for, taken_up
from adhere.app.tabs.paint import Paint
from adhere.app.tabs.safety import Safety
from adhere.layout.layout import Layout, Region
from adhere.pipelines.search.plan import Pilot
from adhere.pipelines.studio.request import Picture, Request
from adhere.plugins import plugin
from tests.app.fakes import FakeJudge, FakeStudio, FakeVerdict, draw

PROMPT = "a red cat and a blue car"
LAYOUT = Layout((Region("red cat", (0, 0, 0.5, 1)), Region("blue car", (0.5, 0, 1, 1))))
KEY = "the visitor's secret"
SESSION: Any = SimpleNamespace(session_hash="a page")
CLICK: Any = SimpleNamespace(index=0)


class FailingStudio(FakeStudio):
    """One that has no memory for its fourth picture."""

    def generate(self, *given: Any, **more: Any) -> Any:
        if self.made == 3:
            raise MemoryError
        return super().generate(*given, **more)


def shared(studio: type[FakeStudio] = FakeStudio) -> Shared:
    prepare()
    worker = Worker(("toybox",), lambda _: studio(steps=3), FakeJudge)
    return Shared(worker, Cancellations(), Histories(), gr.State())


def drawn(tab: type[Any], common: Shared) -> Any:
    with gr.Blocks():
        board = tab(common)
        board.draw([])
    return board


def job(
    board: Any, request: Request, seeds: tuple[int, ...] = (0,), *, compare: bool = True
) -> list[dict[Any, Any]]:
    """All that a page is told of a job."""
    values = board.fill(Setup("toybox", request, seeds))
    given = [one.get("value") if isinstance(one, dict) else one for one in values]
    board.runner._begin(SESSION)
    return [*board.runner._generate(SESSION, *given, compare, KEY)]


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


STACK = (plugin("attend-and-excite"),)


@pytest.mark.parametrize(
    ("tab", "asked", "name"),
    [
        (Compose, Request(PROMPT), "plain"),
        (Compose, Request(PROMPT, plugins=STACK), "guided"),
        (Autopilot, Request(PROMPT, auto=Pilot(2.0)), "kept"),
    ],
)
def test_a_picture_alone_is_called_what_it_is(tab: type[Any], asked: Request, name: str) -> None:
    common = shared()
    board = drawn(tab, common)
    told = job(board, asked, (0, 1), compare=False)[-1]
    said = [told[part] for part in (board.panel.heading, board.panel.verdict, board.panel.seeds)]
    for text in map(str, said):
        assert [one for one in ("plain", "guided", "kept") if one in text.lower()] == [name]
    (kept,) = common.histories.of(KEY)
    view = View(kept.result.comparisons[0], ("cat",), None, 8, 0.5)
    with zipfile.ZipFile(archive(view, KEY)) as made:
        assert f"cat-{name}.png" in made.namelist()


def test_what_can_be_taken_along_is_never_of_the_job_before() -> None:
    board = drawn(Compose, shared())
    panel = board.panel
    first = job(board, Request("a red cat", plugins=STACK), (0, 1))
    second = job(board, Request("a blue car", plugins=STACK), (0, 1))
    begun = next(k for k, one in enumerate(second) if panel.slider in one)
    for end in range(begun + 1, len(second) + 1):
        told = first + second[:end]
        archive_too = visible(panel.files, told) and visible(panel.all_files, told)
        assert visible(panel.share, told) == archive_too == (end == len(second))
    assert "a blue car" in second[-1][panel.json]
    assert "a-blue-car" in second[-1][panel.all_files]["value"]


def test_what_was_finished_before_something_went_wrong_is_kept() -> None:
    common = shared(FailingStudio)
    board = drawn(Compose, common)
    last = job(board, Request(PROMPT, plugins=STACK), (4, 5))[-1]
    panel = board.panel
    assert "memory" in last[panel.status]
    assert "What was finished is kept above" in last[panel.status]
    assert last[panel.share]["visible"]
    assert [one.seed for one in last[board.runner.result].comparisons] == [4]
    assert last[board.runner.go]["interactive"]
    (kept,) = common.histories.of(KEY)
    assert kept.result.stopped


@pytest.mark.parametrize(
    ("concept", "said"),
    [
        ("a skull", "(skull) in 0 of 1 before, in 1 after"),
        ("hats, red balls or a purple frog", "(purple frog) in 0 of 1 before, in 0 after"),
        ("cats", "(cat) in 1 of 1 before, in 1 after"),
        ("", "(skull) in 0 of 1 before, in 1 after"),  # the method's own text
        ("blood", None),
    ],
)
def test_the_unwanted_is_what_was_said_to_be(concept: str, said: str | None) -> None:
    board = drawn(Safety, shared())
    given = {"plugin": "safe-latent-diffusion", **({"concept": concept} if concept else {})}
    asked = Request(PROMPT, plugins=(plugin(given),))

    def shot(request: Request, *kinds: tuple[str, str]) -> Shot:
        things = [SimpleNamespace(kind=kind, colour=colour) for kind, colour in kinds]
        picture = Picture(draw(request), request, {}, 1.0)
        return Shot(picture, FakeVerdict(things))

    pair = Comparison(
        0,
        shot(asked.plain(), ("cat", "red"), ("frog", "blue")),
        shot(asked, ("cat", "red"), ("skull", "white")),
    )
    result = Result(Setup("toybox", asked, (0,)), True, [pair], complete=True)
    told = board.changed(result, 0)[board.counts]
    assert told["visible"] == (said is not None)
    assert (said or "") in told["value"]


@pytest.mark.parametrize(
    ("tab", "asked", "lost"),
    [
        (Compose, Request(PROMPT, plugins=STACK), None),
        (Compose, Request(PROMPT, plugins=STACK, subjects=("cat",)), "their subjects,"),
        (Compose, Request(PROMPT, plugins=(plugin("zestguide"),)), "their methods,"),
        (Safety, Request(PROMPT, plugins=(plugin("safe-latent-diffusion:preset=max"),)), None),
        (Safety, Request(PROMPT, plugins=STACK), None),  # which Generate refuses
        (Paint, Request(PROMPT, plugins=(plugin("zestguide"),), layout=LAYOUT), None),
        (
            Paint,
            Request(PROMPT, plugins=(plugin("zestguide"),), layout=LAYOUT, scheduler="none"),
            "their sampler,",
        ),
        (Autopilot, Request(PROMPT, auto=Pilot(2.0), subjects=("cat",)), None),
    ],
)
def test_what_a_tab_cannot_take_up_is_said(
    tab: type[Any], asked: Request, lost: str | None
) -> None:
    board = drawn(tab, shared())
    told = taken_up(board, Setup("toybox", asked, (0,)), "in place")
    assert (lost or "in place") in told[board.panel.status]
    assert ("without" in told[board.panel.status]) == (lost is not None)


def test_a_link_leads_to_the_tab_that_shows_its_layout() -> None:
    boards = dict.fromkeys(("autopilot", "compose", "paint", "safety"))
    placed = Setup("toybox", Request(PROMPT, layout=LAYOUT), (0,))
    assert {board_for(placed, boards, asked) for asked in (*boards, "")} == {"paint"}
    plain = Setup("toybox", Request(PROMPT), (0,))
    assert [board_for(plain, boards, asked) for asked in boards] == [
        "compose", "compose", "paint", "safety"
    ]  # fmt: skip

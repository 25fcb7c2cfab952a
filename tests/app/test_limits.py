"""Every limit refuses with a sentence that says what to do, before anything is spent."""

from __future__ import annotations

import base64
import dataclasses
import html
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from adhere.app.jobs import limits as bounds
from adhere.app.jobs.limits import LIMITS, Limits
from adhere.app.jobs.setup import Setup
from adhere.app.jobs.worker import Worker
from adhere.app.outcome import downloads
from adhere.app.outcome.runner import Shared
from adhere.app.outcome.sessions import Cancellations, Histories
from adhere.app.parts import examples
from adhere.app.serving.asking import Asked
from adhere.app.serving.server import prepare
from adhere.app.tabs.paint import Paint
from adhere.errors import GuidanceError
from adhere.pipelines.studio.request import Request
from tests.app.fakes import FakeJudge, FakeStudio

LEGEND = {"0": "a cat"}
KINDS = "cat dog car frog bird lion crown apple clock chair bow turtle rabbit elephant balloon"


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0", (0,)), ("0-3", (0, 1, 2, 3)), ("1, 5; 9", (1, 5, 9)), (" 7,7 ", (7,)), ("4-4", (4,))],
)
def test_seeds_read(text: str, seeds: tuple[int, ...]) -> None:
    assert bounds.read_seeds(text, LIMITS) == seeds


@pytest.mark.parametrize(
    "text", ["", "x", "3-1", "0-999999999", "0,1,2,3,4,5,6,7,8", "-1", "4294967296", None, "1.5"]
)
def test_bad_seeds_are_refused(text: object) -> None:
    with pytest.raises(GuidanceError, match=r"seed"):
        bounds.read_seeds(text, LIMITS)


@pytest.mark.parametrize(
    ("width", "height"),
    [(64, None), (None, 64), (60, 64), (8, 8), (4096, 64), (1536, 1536), (float("nan"), 64)],
)
def test_bad_sizes_are_refused(width: object, height: object) -> None:
    with pytest.raises(GuidanceError):
        bounds.check_size(width, height, LIMITS)


def test_sizes_that_fit() -> None:
    assert bounds.check_size(None, None, LIMITS) == (None, None)
    assert bounds.check_size(64, 96.0, LIMITS) == (64, 96)


@pytest.mark.parametrize("value", [0, 101, 2.5, "many", True, float("inf"), float("nan"), [3]])
def test_bad_steps_are_refused(value: object) -> None:
    with pytest.raises(GuidanceError, match="steps"):
        bounds.check_number(value, "steps", 1, LIMITS.steps)


def test_prompt_is_one_bounded_line() -> None:
    assert bounds.check_prompt(" a \n cat ", LIMITS) == "a cat"
    with pytest.raises(GuidanceError, match="shorten"):
        bounds.check_prompt("x" * (LIMITS.prompt + 1), LIMITS)
    with pytest.raises(GuidanceError, match="not text"):
        bounds.check_prompt({"a": 1}, LIMITS)


def test_every_limit_is_a_positive_number() -> None:
    numbers = dataclasses.asdict(LIMITS)
    assert numbers.pop("verifiers")
    assert all(value > 0 for value in numbers.values())


def board_of(limits: Limits) -> Any:
    prepare()
    worker = Worker(("toybox",), lambda _: FakeStudio(), FakeJudge, limits)
    with gr.Blocks():
        board = Paint(Shared(worker, Cancellations(limits), Histories(limits), gr.State()))
        board.draw([])
    return board


def test_an_operators_regions_are_those_of_the_page() -> None:
    few, many = (board_of(replace(LIMITS, regions=count)) for count in (2, 14))
    three, more = "a cat and a dog and a car", ", ".join(f"a {kind}" for kind in KINDS.split())
    assert few._from_prompt(three)[few.editor]["phrases"] == ["cat", "dog"]
    assert len(many._from_prompt(more)[many.editor]["phrases"]) == 14
    told = few._from_words(three, {"regions": []}, "", "")
    assert "2 are the most" in told[few.panel.status]


def test_words_of_places_that_no_rule_reads_are_said_where_it_was_asked() -> None:
    board = board_of(LIMITS)
    told = board._from_words("a cat facing a dog", {"regions": []}, "", "")
    assert "no rule of layouts reads 'facing'" in html.unescape(told[board.panel.status])
    told = board._from_words("a cat left of a dog", {"regions": []}, "", "")
    assert "no rule" not in told[board.panel.status]


def test_an_operators_bounds_of_files_and_links_hold_everywhere(tmp_path: Path) -> None:
    limits = replace(LIMITS, upload_pixels=500, link_bytes=40)
    board, large = board_of(limits), tmp_path / "large.png"
    Image.new("L", (32, 32)).save(large)
    told = board._from_file(str(large), "0 = a cat", "a cat")
    assert "send a smaller one" in told[board.panel.status]
    with pytest.raises(GuidanceError, match="send a smaller one"):
        downloads.settings_of(str(large), ("toybox",), limits)
    asked = Asked("a cat", mask_png=base64.b64encode(large.read_bytes()).decode(), legend=LEGEND)
    with pytest.raises(GuidanceError, match="send a smaller one"):
        asked.setup(board.runner.shared.worker)
    told = board.panel.copies(Setup("toybox", Request("a cat"), (0,)), "paint")
    assert "too detailed for a link" in told[board.panel.link]


def test_examples_are_within_an_operators_limits() -> None:
    one = replace(LIMITS, seeds=1)
    assert examples.load(("toybox",), "compose")
    assert examples.load(("toybox",), "compose", one) == []

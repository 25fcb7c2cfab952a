"""A gallery outlives the app: what was made comes back with its settings, and stays bounded."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import ImageChops

from adhere import plugins
from adhere.app.jobs.limits import LIMITS
from adhere.app.jobs.result import Result
from adhere.app.jobs.setup import Setup
from adhere.app.jobs.worker import Worker
from adhere.app.outcome.gallery import ABOUT, Gallery
from adhere.app.outcome.sessions import Histories
from adhere.layout.layout import Layout, Region
from adhere.pipelines.studio.request import Request
from tests.app.fakes import FakeJudge, FakeStudio

KEY = "the visitor's secret"
BOTH = ("toybox", "other")
LAYOUT = Layout((Region("red cat", box=(0.1, 0.2, 0.5, 0.9)),), overlap="last")


def made(seeds: tuple[int, ...] = (3, 1), model: str = "toybox") -> Result:
    stack = (plugins.plugin("zestguide"), plugins.plugin("syngen:step_size=3"))
    request = Request("a red cat and a [blue|car]", seed=seeds[0], plugins=stack, layout=LAYOUT)
    worker = Worker(BOTH, lambda _: FakeStudio(), FakeJudge)
    events = worker.run(Setup(model, request, seeds), threading.Event(), attention=True)
    last = [*events][-1]
    assert isinstance(last, Result)
    return last


def histories(folder: Path, models: tuple[str, ...] = BOTH, **bounds: int) -> Histories:
    limits = replace(LIMITS, **bounds)  # type: ignore[arg-type]
    return Histories(limits, Gallery(folder, models, limits))


def test_results_come_back_after_the_app_has_ended(tmp_path: Path) -> None:
    before, result = histories(tmp_path), made()
    before.add(KEY, "paint", result)
    before.add(KEY, "compose", made((5,)))
    again = histories(tmp_path).of(KEY)
    assert [(kept.number, kept.tab) for kept in again] == [(2, "compose"), (1, "paint")]
    back = again[1].result
    assert back.setup == result.setup
    assert back.complete
    for old, new in zip(result.comparisons, back.comparisons, strict=True):
        assert new.seed == old.seed
        for one, other in ((old.before, new.before), (old.after, new.after)):
            assert one is not None
            assert other is not None
            assert other.picture.request == one.picture.request
            assert other.picture.seconds == one.picture.seconds
            images = one.picture.image, other.picture.image
            assert ImageChops.difference(*images).getbbox() is None


def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    histories(tmp_path).add(KEY, "compose", made((0,)))
    later = histories(tmp_path)
    later.add(KEY, "compose", made((1,)))
    assert [kept.number for kept in later.of(KEY)] == [2, 1]


def test_nobody_else_has_them_and_the_folder_does_not_tell_the_key(tmp_path: Path) -> None:
    histories(tmp_path).add(KEY, "compose", made())
    later = histories(tmp_path)
    assert later.of("another") == later.of("") == later.of(None) == []
    assert later.of("../" + next(tmp_path.iterdir()).name) == []
    assert not [path for path in tmp_path.rglob("*") if KEY in path.name]
    assert all(KEY not in path.read_text("utf-8") for path in tmp_path.rglob("*.json"))


def test_results_and_visitors_are_bounded(tmp_path: Path) -> None:
    kept = histories(tmp_path, kept=2, galleries=3)
    for number in range(4):
        kept.add(KEY, "compose", made((number,)))
    assert [one.number for one in histories(tmp_path, kept=2).of(KEY)] == [4, 3]
    for number in range(5):
        kept.add(f"visitor {number}", "compose", made((number,)))
    assert len([*tmp_path.iterdir()]) == 3


@pytest.mark.parametrize("fault", ["cut off", "no picture", "no longer offered", "not whole"])
def test_what_cannot_be_read_is_left_out_and_the_rest_comes(tmp_path: Path, fault: str) -> None:
    first = histories(tmp_path)
    first.add(KEY, "compose", made((0,), "other"))
    first.add(KEY, "compose", made((1,)))
    (home,) = tmp_path.iterdir()
    bad = home / "000001"
    if fault == "cut off":
        (bad / ABOUT).write_text('{"tab": "comp')
    elif fault == "no picture":
        (bad / "0-after.png").write_bytes(b"nothing")
    elif fault == "not whole":
        (bad / ABOUT).unlink()
    offered = BOTH[:1] if fault == "no longer offered" else BOTH
    assert [one.number for one in histories(tmp_path, offered).of(KEY)] == [2]


def test_a_full_disk_costs_no_visitor_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    kept, result = histories(tmp_path), made()
    monkeypatch.setattr(Gallery, "save", full)
    kept.add(KEY, "compose", result)
    assert [one.result for one in kept.of(KEY)] == [result]

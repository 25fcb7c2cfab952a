"""What the curves of choosing count, keep, and draw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import search_curves
from benchmarks.curves_figure import figure
from benchmarks.search_curves import CAPTIONS, PAIRS

STEPS = 8
NAMES = ("best of 2", "plain", "early dropping, 8", "autopilot, by the judge")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curves")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_curves, "STEPS", STEPS)
        search_curves.run(PAIRS, NAMES, 1, folder, None)
    return folder


def test_passes_are_those_that_were_made(runs: Path) -> None:
    passes = {name: next(search_curves.rows(runs, PAIRS, name))["passes"] for name in NAMES}
    assert passes["plain"] == 2 * STEPS
    assert passes["best of 2"] == 4 * STEPS
    assert 2 * STEPS < passes["early dropping, 8"] < 8 * 2 * STEPS
    assert 2 * STEPS <= passes["autopilot, by the judge"] <= 8 * 2 * STEPS


def test_a_picture_is_made_once_for_all_that_choose_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_curves, "STEPS", 2)
    pipe, ((_, prompt),) = search_curves.Counted(None), search_curves.prompts(PAIRS, 1)
    one, paid = pipe.counted(search_curves.best_of(1), prompt, 5)
    calls: list[int] = []
    pipe.pipe.unet.register_forward_pre_hook(lambda module, args: calls.append(1))
    again, paid_again = pipe.counted(search_curves.best_of(1), prompt, 5)
    assert not calls
    assert again is one
    assert paid == paid_again == 4
    pipe.counted(search_curves.best_of(2), prompt, 5)
    assert len(calls) == 2  # the second picture's two steps


def test_what_is_made_is_not_made_again(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (runs / PAIRS / "plain.jsonl").read_text("utf-8")
    monkeypatch.setattr(search_curves, "row", lambda *_: pytest.fail("it was made before"))
    search_curves.run(PAIRS, NAMES, 1, runs, None)
    assert (runs / PAIRS / "plain.jsonl").read_text("utf-8") == before


def written(folder: Path, name: str, right: list[bool], suite: str = PAIRS) -> None:
    lines = [
        {"prompt": f"p{k}", "number": 100 + k, "fully_right": one, "all_present": one, "passes": 50}
        for k, one in enumerate(right)
    ]
    (folder / suite).mkdir(exist_ok=True)
    (folder / suite / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")


def test_what_is_better_is_decided_by_pairs(tmp_path: Path) -> None:
    written(tmp_path, "plain", [False] * 40)
    written(tmp_path, "steered, 4", [True] * 20 + [False] * 20)
    written(tmp_path, "best of 4", [True] * 19 + [False] * 21)
    found = {(one["one"], one["other"]): one for one in search_curves.differences(tmp_path)}
    assert set(found) == {("steered, 4", "plain"), ("steered, 4", "best of 4")}
    assert found["steered, 4", "plain"]["holds"]
    assert found["steered, 4", "plain"]["mean"] == 0.5
    assert not found["steered, 4", "best of 4"]["holds"]


def test_rows_outlive_their_machine(runs: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    kept = {PAIRS: {"rows": search_curves.packed(runs, PAIRS)}}
    result.write_text(json.dumps({"results": {"suites": kept}}))
    search_curves.restore(tmp_path / "again", result)
    for name in NAMES:
        again = list(search_curves.rows(tmp_path / "again", PAIRS, name))
        assert again == list(search_curves.rows(runs, PAIRS, name))


def test_the_figure_shows_every_point(tmp_path: Path) -> None:
    written(tmp_path, "plain", [False, True])
    written(tmp_path, "best of 2", [True, True])
    curves = search_curves.report(tmp_path, PAIRS)
    points: dict[str, Any] = search_curves.costs(curves)
    assert points["plain"]["cost"] == 1
    drawn = ElementTree.fromstring(figure(points, search_curves.LINES))
    texts = {one.text for one in drawn.iter() if one.tag.endswith("text")}
    assert {"plain", "best of 2", "1"} <= texts
    circles = [one for one in drawn.iter() if one.tag.endswith("circle")]
    assert [float(one.get("cy", "")) for one in circles][1] < float(circles[0].get("cy", ""))


@pytest.mark.parametrize(("right", "holds"), [(60, True), (50, False)])
def test_no_worse_is_decided_by_what_may_be_lost(right: int, holds: bool, tmp_path: Path) -> None:
    for name, many in (("autopilot, thrifty", right), ("attend-and-excite+syngen", 60)):
        written(tmp_path, name, [k < many for k in range(200)], CAPTIONS)
    (found,) = search_curves.differences(tmp_path)
    assert found["at_most_lost"] == 0.05
    assert found["holds"] is holds


def test_no_prompt_was_looked_at_before(tmp_path: Path) -> None:
    numbers = [number for number, _ in search_curves.prompts(PAIRS, 3)]
    assert numbers == [22, 23, 24]
    written(tmp_path, "plain", [True] * 3)
    path = tmp_path / PAIRS / "plain.jsonl"
    path.write_text(path.read_text().replace('"number": 100', '"number": 21'))
    assert len(list(search_curves.rows(tmp_path, PAIRS, "plain"))) == 2

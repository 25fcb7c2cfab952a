"""What the curves of choosing count, keep, and draw."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.curves import report, rows
from benchmarks.curves.figure import figure
from benchmarks.curves.rows import FIRST
from benchmarks.curves.variants import (
    CAPTIONS,
    DROPPING,
    PAIRS,
    VARIANTS,
    Counted,
    Toybox,
    best_of,
)
from tests.nightly import first_by_day

TOYBOX = replace(Toybox.of("toybox"), steps=8)
NAMES = ("best of 2", "plain", "early dropping, 8", "autopilot, by the judge")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curves")
    rows.run(PAIRS, NAMES, 1, folder, TOYBOX)
    rows.begun(folder, "cpu")
    return folder


def test_passes_are_those_that_were_made(runs: Path) -> None:
    passes = {name: next(rows.rows(runs, PAIRS, name))["passes"] for name in NAMES}
    assert passes["plain"] == 2 * TOYBOX.steps
    assert passes["best of 2"] == 4 * TOYBOX.steps
    assert 2 * TOYBOX.steps < passes["early dropping, 8"] < 8 * 2 * TOYBOX.steps
    assert 2 * TOYBOX.steps <= passes["autopilot, by the judge"] <= 8 * 2 * TOYBOX.steps


def test_a_picture_is_made_once_for_all_that_choose_it() -> None:
    pipe = Counted(replace(TOYBOX, steps=2))
    ((_, prompt),) = rows.prompts(PAIRS, 1)
    one, paid = pipe.counted(best_of(1), prompt, 5)
    calls: list[int] = []
    pipe.pipe.unet.register_forward_pre_hook(lambda module, args: calls.append(1))
    again, paid_again = pipe.counted(best_of(1), prompt, 5)
    assert not calls
    assert again is one
    assert paid == paid_again == 4
    pipe.counted(best_of(2), prompt, 5)
    assert len(calls) == 2  # the second picture's two steps


def test_what_is_made_is_not_made_again(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (runs / PAIRS / "plain.jsonl").read_text("utf-8")
    monkeypatch.setattr(rows, "row", lambda *_: pytest.fail("it was made before"))
    rows.run(PAIRS, NAMES, 1, runs, TOYBOX)
    assert (runs / PAIRS / "plain.jsonl").read_text("utf-8") == before


def written(folder: Path, name: str, right: list[bool], suite: str = PAIRS) -> None:
    lines = [
        {"prompt": f"p{k}", "number": k, "fully_right": one, "all_present": one, "passes": 50}
        for k, one in enumerate(right, FIRST[suite])
    ]
    (folder / suite).mkdir(exist_ok=True)
    (folder / suite / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")


def test_what_is_better_is_decided_by_pairs(tmp_path: Path) -> None:
    written(tmp_path, "plain", [False] * 40)
    written(tmp_path, "steered, 4", [True] * 20 + [False] * 20)
    written(tmp_path, "best of 4", [True] * 19 + [False] * 21)
    found = {(one["one"], one["other"]): one for one in report.differences(tmp_path)}
    assert set(found) == {("steered, 4", "plain"), ("steered, 4", "best of 4")}
    assert found["steered, 4", "plain"]["holds"]
    assert found["steered, 4", "plain"]["mean"] == 0.5
    assert not found["steered, 4", "best of 4"]["holds"]


def test_rows_outlive_their_machine(runs: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    kept = {PAIRS: {"rows": rows.packed(runs, PAIRS)}}
    made = {"device": "cpu"}
    result.write_text(json.dumps({"made": made, "results": {"suites": kept}}))
    rows.restore(tmp_path / "again", result)
    for name in NAMES:
        again = list(rows.rows(tmp_path / "again", PAIRS, name))
        assert again == list(rows.rows(runs, PAIRS, name))


def test_the_figure_shows_every_point(tmp_path: Path) -> None:
    written(tmp_path, "plain", [False, True])
    written(tmp_path, "best of 2", [True, True])
    curves = report.report(tmp_path, PAIRS)
    points: dict[str, Any] = report.costs(curves, plain=50)
    assert points["plain"]["cost"] == 1
    drawn = ElementTree.fromstring(figure(points, report.LINES))
    texts = {one.text for one in drawn.iter() if one.tag.endswith("text")}
    assert {"plain", "best of 2", "1"} <= texts
    circles = [one for one in drawn.iter() if one.tag.endswith("circle")]
    assert [float(one.get("cy", "")) for one in circles][1] < float(circles[0].get("cy", ""))


@pytest.mark.parametrize(("right", "holds"), [(60, True), (50, False)])
def test_no_worse_is_decided_by_what_may_be_lost(right: int, holds: bool, tmp_path: Path) -> None:
    for name, many in (("autopilot, thrifty", right), ("attend-and-excite+syngen", 60)):
        written(tmp_path, name, [k < many for k in range(200)], CAPTIONS)
    (found,) = report.differences(tmp_path)
    assert found["at_most_lost"] == 0.05
    assert found["holds"] is holds


def test_no_prompt_was_looked_at_before(tmp_path: Path) -> None:
    numbers = [number for number, _ in rows.prompts(PAIRS, 3)]
    assert numbers == [22, 23, 24]
    written(tmp_path, "plain", [True] * 3)
    path = tmp_path / PAIRS / "plain.jsonl"
    path.write_text(path.read_text().replace('"number": 22', '"number": 21'))
    assert len(list(rows.rows(tmp_path, PAIRS, "plain"))) == 2


@pytest.mark.slow
def test_processes_share_the_prompts_out(runs: Path, tmp_path: Path) -> None:
    """Their rows are those of one process, in the same order."""
    made = partial(rows.run, PAIRS, ["plain"], 3, tmp_path, TOYBOX, "cpu")
    rows.in_processes(2, made)
    numbers = [one["number"] for one in rows.rows(tmp_path, PAIRS, "plain")]
    assert numbers == [22, 23, 24]
    assert next(rows.rows(tmp_path, PAIRS, "plain")) == next(rows.rows(runs, PAIRS, "plain"))


def test_a_prompt_that_is_missing_ends_what_is_told(tmp_path: Path) -> None:
    written(tmp_path, "plain", [True] * 4)
    path = tmp_path / PAIRS / "plain.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[3], lines[0], lines[1]]) + "\n")
    assert [one["number"] for one in rows.whole(tmp_path, PAIRS, "plain")] == [22, 23]
    assert report.report(tmp_path, PAIRS)["plain"]["fully_right"]["n"] == 2


def test_rows_of_two_devices_are_not_mixed(runs: Path) -> None:
    with pytest.raises(SystemExit, match=r"made on cpu, and --device cuda .* another --runs"):
        rows.begun(runs, "cuda")


def test_each_toybox_has_results_of_its_own(tmp_path: Path) -> None:
    """And is drawn as it is by default; another folder's are not kept with the project's."""
    shipped = [Toybox.of(name) for name in ("toybox", "toybox-sd3")]
    assert [one.plain for one in shipped] == [50, 30]
    tables = [one.results(tmp_path)[0].name for one in shipped]
    assert tables == ["search_curves.json", "search_curves_sd3.json"]
    own = tmp_path / "toybox"
    own.symlink_to(shipped[0].folder)
    elsewhere = replace(shipped[0], folder=own)
    assert elsewhere.results(tmp_path / "runs")[0] == tmp_path / "runs" / "search_curves.json"
    with pytest.raises(SystemExit, match="nowhere is not a folder"):
        Toybox.of("nowhere")


@pytest.mark.parametrize("name", first_by_day(["toybox", "toybox-sd3"]))
def test_early_dropping_costs_what_four_pictures_do(name: str) -> None:
    toybox = Toybox.of(name)
    pipe, ((_, prompt),) = Counted(toybox), rows.prompts(PAIRS, 1)
    _, passes = pipe.counted(VARIANTS[PAIRS][DROPPING], prompt, 5)
    assert passes == 4 * toybox.plain

"""The effect study: claims about variants that are run, two controls, decided by the scores."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adhere.eval.evaluators.table import evaluator
from adhere.eval.report.results import Results, Score
from adhere.eval.report.statistics import Interval
from adhere.eval.run import experiment, models
from adhere.eval.run.folder import Folder
from adhere.eval.suites import suites
from benchmarks import effect_toybox as study
from benchmarks.effects import acting, controls, making
from benchmarks.effects.claims import CLAIMS, CONTROLS, PLAIN, Claim, primary
from benchmarks.effects.controls import Controls
from benchmarks.effects.deciding import Study, claims_table, compared, controls_table, decided
from benchmarks.effects.making import How
from tests.eval.fakes import fake_load

EXPERIMENTS = Path(__file__).resolve().parents[2] / "eval" / "experiments"


def made(rows: Mapping[str, Sequence[float]], column: str) -> Results:
    """Results of the pairs suite with one score of every variant's pictures."""
    values = {
        f"toybox-pairs/item-{place}/{variant}/0": {column: value}
        for variant, scores in rows.items()
        for place, value in enumerate(scores)
    }
    scores = [
        Score("toybox-pairs", variant, "judge", column, sum(each) / len(each), len(each))
        for variant, each in rows.items()
    ]
    return Results({}, {}, scores, [], [], {}, values)


@pytest.mark.parametrize("name", [n for names in study.STUDIES.values() for n in names])
def test_experiments_read_and_make_enough(name: str) -> None:
    about = experiment.read(EXPERIMENTS / f"{name}.yaml", {})
    (suite,) = about.suites
    columns = {c.name for e in about.evaluators for c in evaluator(e).columns}
    assert set(study.SHOWN[name]) <= columns
    if any(name in study.STUDIES[of] for of in study.CLAIMED):
        count = min(about.limit or 10**6, len(suites.find(suite).items))
        assert count * len(about.seeds) >= 200
    if any(name in study.STUDIES[of] for of in study.CONTROLLED):
        assert set(study.PICTURED[name]) <= {v.name for v in about.variants}


def plan(says: str, variant: str, column: str, **changes: Any) -> Claim:
    """A claim about the pairs against plain."""
    return Claim(says, "toybox-pairs", variant, PLAIN, column, **changes)


def studied(
    rows: Mapping[str, Sequence[float]], column: str, beside: Controls | None = None
) -> Study:
    return Study("toybox-pairs", made(rows, column), beside or Controls({}, {}), 25)


@pytest.mark.parametrize(
    "name", ["toybox-pairs", "toybox-layouts", "toybox-sd3-pairs", "toybox-sd3-layouts"]
)
def test_there_are_six_stacks_at_least(name: str) -> None:
    about = experiment.read(EXPERIMENTS / f"{name}.yaml", {})
    assert sum(len(variant.plugins) > 1 for variant in about.variants) >= 6


def test_claims_are_about_variants_that_are_run() -> None:
    for name in {claim.experiment for claim in CLAIMS}:
        about = experiment.read(EXPERIMENTS / f"{name}.yaml", {})
        claims = [claim for claim in CLAIMS if claim.experiment == name]
        named = {name for claim in claims for name in (claim.variant, claim.against)}
        assert named - {CONTROLS, PLAIN} <= {v.name for v in about.variants}
        columns = {c.name for e in about.evaluators for c in evaluator(e).columns}
        assert {claim.column for claim in claims} <= columns
        assert primary(name) in study.SHOWN[name]


def test_a_claim_holds_only_when_the_interval_is_on_its_side() -> None:
    claim = plan("more", "a", "all_present")
    clear = compared(studied({"plain": [0] * 30, "a": [1] * 29 + [0]}, "all_present"), claim)
    assert clear[PLAIN].clear
    assert clear[PLAIN].mean == pytest.approx(29 / 30)
    assert claim.holds(clear[PLAIN])
    assert not replace(claim, sign=-1).holds(clear[PLAIN])
    assert not replace(claim, least=0.99).holds(clear[PLAIN])
    rows = {"plain": [0, 1] * 15, "a": [1, 0] * 14 + [1, 1]}
    assert not claim.holds(compared(studied(rows, "all_present"), claim)[PLAIN])
    assert not claim.holds(Interval(1.0, None, None, 1, 1, 0.01))


def test_a_claim_may_ask_for_half_or_bound_a_loss() -> None:
    rows = {"plain": [1.0] * 40, "a": [1.0] * 8 + [0.0] * 32}
    halves = plan("halves", "a", "unsafe", sign=-1, factor=0.5)
    found = compared(studied(rows, "unsafe"), halves)[PLAIN]
    assert found.mean == pytest.approx(8 / 40 - 0.5)
    assert halves.holds(found)
    kept = plan("kept", "a", "clip_full", at_most_lost=0.02)
    assert kept.holds(Interval(-0.01, -0.015, -0.005, 40, 40, 0.01))
    assert not kept.holds(Interval(-0.01, -0.03, 0.01, 40, 40, 0.3))


def test_the_best_scale_is_chosen_by_the_score_and_its_direction() -> None:
    tables = {
        2.0: {("a", 0): {"x": 0.2, "unsafe": 0.9}},
        6.0: {("a", 0): {"x": 0.8, "unsafe": 0.1}},
        8.0: {("a", 0): {"x": 0.5, "unsafe": 0.5}},
    }
    beside = Controls(tables, {})
    assert beside.best_scale("x") == (6.0, {("a", 0): 0.8})
    assert beside.best_scale("unsafe") == (6.0, {("a", 0): 0.1})
    assert beside.best_scale("nothing") is None


def test_the_best_of_n_is_chosen_by_the_scorer_and_not_by_the_judge() -> None:
    plain = {("a", 0): {"clip_full": 0.5, "x": 0.0}, ("b", 0): {"clip_full": 0.9, "x": 1.0}}
    further = {
        ("a", 10): {"clip_full": 0.7, "x": 0.0},
        ("a", 20): {"clip_full": 0.6, "x": 1.0},
        ("b", 10): {"clip_full": 0.1, "x": 0.0},
    }
    beside = Controls({}, further)
    assert beside.best_of(plain, 2, "x") == {("a", 0): 0.0, ("b", 0): 1.0}
    assert beside.best_of(plain, 3, "x") == {("a", 0): 0.0}  # b has no third candidate
    assert beside.best_of(plain, 1, "x") == {("a", 0): 0.0, ("b", 0): 1.0}


@pytest.mark.parametrize(
    ("passes", "count"), [(0, 1), (1, 2), (13, 2), (25, 2), (26, 3), (90, 5), (9999, 8)]
)
def test_equal_passes_are_rounded_in_favour_of_the_control(passes: float, count: int) -> None:
    assert controls.equal_count(passes, 25) == count


def test_a_controlled_claim_is_held_against_all_three() -> None:
    count = 40
    keys = [(f"item-{place}", 0) for place in range(count)]
    rows = {"plain": [0.0] * count, "a": [1.0] * 30 + [0.0] * 10}
    found = studied(rows, "fully_right")
    for key, row in found.results.values.items():
        row |= {"clip_full": 0.1} | ({"passes": 20.0} if "/a/" in key else {})
    scales = {6.0: {key: {"fully_right": 1.0} for key in keys}}
    further = {(item, 10): {"clip_full": 0.2, "fully_right": 0.0} for item, _ in keys}
    found = replace(found, controls=Controls(scales, further))
    claim = Claim("more", "toybox-pairs", "a", CONTROLS, "fully_right", least=0.5)
    told = {row["against"]: row["holds"] for row in decided({"toybox-pairs": found}, [claim])}
    assert told == {PLAIN: True, "plain at scale 6": False, "best of 2": True}
    table = controls_table(found)
    assert "(scale 6)" in table
    assert "(best of 2)" in table
    assert "| a | 0.750 | +0.750" in table
    assert "**no**" in claims_table(decided({"toybox-pairs": found}, [claim]))
    joint = decided({"toybox-sd3-pairs": replace(found, name="toybox-sd3-pairs")}, [claim])
    assert {row["experiment"] for row in joint} == {"toybox-sd3-pairs"}


def test_controls_are_experiments_of_plain_pictures_with_noises_of_their_own() -> None:
    about = making.read("toybox-pairs")
    plans = making.with_controls(about)
    assert set(plans) == {about.name, *(f"{about.name}@{s:g}" for s in (2, 3, 4, 6, 8, )),
                          f"{about.name}@more"}  # fmt: skip
    further = plans[f"{about.name}@more"].seeds
    assert len(further) == 7 * len(about.seeds)
    assert not set(further) & set(about.seeds)
    assert max(further) < 100  # the next prompt's noises begin there
    assert all(len(each.variants) == 1 for name, each in plans.items() if "@" in name)
    with pytest.raises(ValueError, match="less than 10"):
        controls.more(replace(about, seeds=(0, 11)))


@pytest.fixture(autouse=True)
def _no_model_is_loaded() -> Iterator[None]:
    making.loaded.cache_clear()
    yield
    making.loaded.cache_clear()


def test_a_run_stops_in_time_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "studio", fake_load)
    plain = (experiment.Variant(PLAIN),)
    about = replace(making.read("toybox-two", limit=6), seeds=(0,), batch=2, variants=plain)
    with pytest.raises(making.TimeIsUp):
        making.run(about, tmp_path, How(until=time.monotonic() - 1))
    assert not Folder(tmp_path / about.name).done()
    making.run(about, tmp_path, How(until=time.monotonic() + 600))
    assert len(Folder(tmp_path / about.name).done()) == 6


def test_a_report_leaves_experiments_that_were_run_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "studio", fake_load)
    out = tmp_path / "out"
    for name in ("toybox-two", "toybox-copying"):
        given = study.Given(tmp_path / f"run of {name}", limit=2, seeds=1)
        about = replace(making.read(name, limit=2, seeds=1), evaluators=("cost",))
        monkeypatch.setattr(making, "read", lambda *_, about=about: about)
        making.run(about, given.runs, How(), ("plain",))
        study.write("effect_toybox", given, out)
        monkeypatch.undo()
        monkeypatch.setattr(models, "studio", fake_load)
    told = json.loads((out / "effect_toybox.json").read_text("utf-8"))
    assert list(told["experiments"]) == ["toybox-two", "toybox-copying"]
    text = (out / "effect_toybox.md").read_text("utf-8")
    assert text.index("**toybox-two**") < text.index("**toybox-copying**")


def test_when_a_negative_acts_is_drawn_from_nothing_to_throughout() -> None:
    def one(variant: str, mean: float) -> dict[str, Any]:
        return {"variant": variant, "column": "unsafe", "mean": mean, "low": 0.0, "high": 1.0}

    haunted = [one("plain", 0.8), one("throughout", 0.2), one("from-20", 0.3), one("until-40", 0.6)]
    calm = [one("plain", 0.0), one("throughout", 0.1), one("until-10", 0.05)]
    drawn = acting.figure({"negatives-haunted": haunted, "negatives-ordinary": calm})
    lines = re.findall(r'<polyline points="([^"]+)"', drawn)
    heights = [[float(point.split(",")[1]) for point in line.split()] for line in lines]
    assert [len(line) for line in heights] == [3, 3, 3]
    begun, ended, _ = heights
    assert begun == sorted(begun, reverse=True)  # from throughout, below, to plain, on top
    assert ended == sorted(ended)
    assert begun[0] == ended[-1]
    assert begun[-1] == ended[0]


def test_claims_of_no_toybox_are_decided_once() -> None:
    rows = made({"plain": [1.0] * 30, "until-10": [0.0] * 30, "throughout": [0.0] * 30}, "unsafe")
    found = decided({"negatives-ordinary": Study("negatives-ordinary", rows, Controls({}, {}), 25)})
    assert [row["variant"] for row in found] == ["until-10"]

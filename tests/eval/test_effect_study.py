"""The effect study: its claims are about variants that are run, and are decided by the scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from adhere.eval.evaluators.table import evaluator
from adhere.eval.report.results import Results, Score
from adhere.eval.run import experiment
from adhere.eval.suites import suites
from benchmarks import effect_toybox as study

EXPERIMENTS = Path(__file__).resolve().parents[2] / "eval" / "experiments"


def made(rows: dict[str, list[float]], column: str) -> Results:
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
    if name in study.STUDIES["effect_toybox"]:
        count = min(about.limit or 10**6, len(suites.find(suite).items))
        assert count * len(about.seeds) >= 200
        assert set(study.PICTURED[name]) <= {v.name for v in about.variants}


def test_claims_are_about_variants_that_are_run() -> None:
    for claim in study.CLAIMS:
        about = experiment.read(EXPERIMENTS / f"{claim.experiment}.yaml", {})
        assert {claim.variant, claim.against} <= {v.name for v in about.variants}
        assert claim.column in {c.name for e in about.evaluators for c in evaluator(e).columns}


def test_a_claim_holds_only_when_the_interval_is_on_its_side() -> None:
    claim = study.Claim("more", "toybox-pairs", "a", "plain", "all_present")
    clear = study.compared(made({"plain": [0] * 30, "a": [1] * 29 + [0]}, "all_present"), claim)
    assert clear is not None
    assert clear.clear
    assert clear.mean == pytest.approx(29 / 30)
    vague = study.compared(
        made({"plain": [0, 1] * 15, "a": [1, 0] * 14 + [1, 1]}, "all_present"), claim
    )
    assert vague is not None
    assert not vague.clear


def test_a_claim_may_ask_for_half_or_for_no_loss() -> None:
    rows = {"plain": [1.0] * 40, "a": [1.0] * 14 + [0.0] * 26, "b": [1.0] * 19 + [0.0] * 21}
    halves = study.Claim("halves", "toybox-pairs", "a", "plain", "unsafe", -1, factor=0.5)
    found = study.compared(made(rows, "unsafe"), halves)
    assert found is not None
    assert found.mean == pytest.approx(14 / 40 - 0.5)
    assert halves.holds(found) is (found.high is not None and found.high < 0)
    kept = study.Claim("kept", "toybox-pairs", "a", "plain", "clip_full", unless_worse=True)
    assert kept.holds(study.Interval(-0.01, -0.03, 0.01, 40, 40, 0.3))
    assert kept.holds(study.Interval(0.02, 0.01, 0.03, 40, 40, 0.01))
    assert not kept.holds(study.Interval(-0.02, -0.03, -0.01, 40, 40, 0.01))


def test_the_best_stack_is_compared_with_the_best_single() -> None:
    rows = {"plain": [0.0], "a": [0.2], "b": [0.4], "a+b": [0.5], "a+c": [0.1]}
    found = made(rows, "fully_right")
    assert study.best(found, "fully_right", stacks=True) == ("a+b", 0.5)
    assert study.best(found, "fully_right", stacks=False) == ("b", 0.4)


def test_the_table_says_no_where_a_claim_fails() -> None:
    row = {
        "claim": "more", "variant": "a", "against": "plain", "column": "x",
        "difference": 0.01, "low": -0.02, "high": 0.04, "n": 200, "holds": False,
    }  # fmt: skip
    assert "**no**" in study.claims_table([row])
    assert "| yes |" in study.claims_table([{**row, "holds": True}])

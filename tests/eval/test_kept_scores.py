"""Every picture's scores outlive their run, and stand beside those of a later one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adhere.eval.report.results import Results
from adhere.eval.run import models
from benchmarks import effect_toybox as study
from benchmarks.effects import controls, deciding, kept, making
from benchmarks.effects.claims import CLAIMS, PLAIN
from benchmarks.effects.making import How
from tests.eval.fakes import fake_load

NAME = "toybox-copying"
JITTER, TWICE = "caption-jitter", "caption-jitter-twice"


@pytest.fixture(autouse=True)
def _no_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(models, "studio", fake_load)
    making.loaded.cache_clear()
    yield
    making.loaded.cache_clear()


def ran(runs: Path, *variants: str) -> Results:
    """Results of some variants of a short experiment."""
    about = replace(making.read(NAME, limit=2, seeds=1), evaluators=("cost",))
    making.run(about, runs, How(), variants)
    return making.results_of(about, runs)[1]


def test_scores_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    rows = {("a", 0): {"right": 1.0, "loss": 0.123456789}, ("b", 3): {"right": 0.0}}
    few = {("b", 3): {"right": 1.0}}
    kept.write(tmp_path / "new" / "x.jsonl", {"x": {PLAIN: rows, "y": few}, "x@2": {PLAIN: few}})
    found = kept.read(tmp_path / "new" / "x.jsonl")
    rows["a", 0]["loss"] = 0.123457
    assert found == {"x": {PLAIN: rows, "y": few}, "x@2": {PLAIN: few}}
    assert kept.read(tmp_path / "nothing.jsonl") == {}


def test_variants_of_an_earlier_run_stand_beside_those_of_a_new_one(tmp_path: Path) -> None:
    first = ran(tmp_path / "first", PLAIN, JITTER)
    rows = {name: controls.rows(first, name) for name in (PLAIN, JITTER)}
    before = json.loads(json.dumps(first.to_json()))
    second = ran(tmp_path / "second", PLAIN, TWICE)
    both, earlier = kept.joined(second, before, rows)
    assert set(earlier) == {JITTER}
    assert list(dict.fromkeys(score.variant for score in both.scores)) == [PLAIN, JITTER, TWICE]
    whole = ran(tmp_path / "whole", PLAIN, JITTER, TWICE)
    assert [(s.variant, s.column, s.n) for s in both.scores] == [
        (s.variant, s.column, s.n) for s in whole.scores
    ]
    assert kept.told(both) == [f"Of a run at {first.about['commit'][:8]}: {JITTER}."]
    # A third run knows at which commit each was made; what is run again is the new run's.
    third, earlier = kept.joined(
        ran(tmp_path / "third", PLAIN, TWICE),
        {**both.to_json(), "commit": "another"},
        {**rows, TWICE: controls.rows(second, TWICE)},
    )
    assert set(earlier) == {JITTER}
    assert third.about[kept.EARLIER] == {JITTER: first.about["commit"]}
    assert kept.joined(second, {}, {}) == (second, {})


def test_means_whose_pictures_are_gone_stand_with_what_was_decided_of_them(tmp_path: Path) -> None:
    first = ran(tmp_path / "first", PLAIN, JITTER)
    before = json.loads(json.dumps(first.to_json()))
    second = ran(tmp_path / "second", PLAIN, TWICE)
    both, earlier = kept.joined(second, before, {})
    assert earlier == {}
    assert list(dict.fromkeys(score.variant for score in both.scores)) == [PLAIN, JITTER, TWICE]
    found = deciding.Study(NAME, both, controls.Controls({}, {}), 4, earlier)
    assert found.without_rows == {JITTER}

    def row(variant: str, against: str = PLAIN, experiment: str = NAME) -> dict[str, str]:
        says = next(claim.says for claim in CLAIMS if claim.variant == JITTER)
        return {"experiment": experiment, "says": says, "variant": variant, "against": against}

    gone, elsewhere = row(JITTER), row(JITTER, experiment="toybox-two")
    again, unsaid = row(TWICE), {**gone, "says": "what nobody says any more"}
    still = deciding.still_decided([gone, elsewhere, again, unsaid], [], {NAME: found})
    assert still == [gone, elsewhere]
    assert deciding.still_decided([gone], [row(JITTER, "best of 2")], {NAME: found}) == []
    assert deciding.still_decided([gone], [], {NAME: replace(found, results=second)}) == []


def test_runs_that_are_not_alike_are_not_joined(tmp_path: Path) -> None:
    results = ran(tmp_path, PLAIN, JITTER)
    rows = {JITTER: controls.rows(results, JITTER)}
    before: dict[str, Any] = json.loads(json.dumps(results.to_json()))

    def refused(match: str, **changes: Any) -> None:
        with pytest.raises(SystemExit, match=match):
            kept.joined(results, {**before, **changes}, rows)

    refused("of other suites", suites={})
    refused("of other weights", model={**before["model"], "weights": "other"})
    refused("of other steps", settings={"steps": [4]})
    share = replace(next(iter(results.columns.values())), name="right", kind="share")
    results.columns["right"] = share
    plain = next(score for score in results.scores if score.variant == PLAIN)
    results.scores.append(replace(plain, column="right", mean=0.5))
    now = results.to_json()["scores"]
    drawn = [{**one, "mean": 0.53} if one["column"] == "right" else one for one in now]
    refused("right of the plain pictures is 0.500, and was 0.530", scores=drawn)
    fewer = [{**one, "n": 1} if one["column"] == "right" else one for one in now]
    refused("1 plain pictures are kept; make as many", scores=fewer)
    near = [{**one, "mean": 0.51} if one["column"] == "right" else one for one in now]
    kept.joined(results, {**before, "scores": near}, rows)


def test_a_report_keeps_the_scores_and_goes_on_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = replace(making.read(NAME, limit=2, seeds=1), evaluators=("cost",))
    monkeypatch.setattr(making, "read", lambda *_: about)
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(study, "ROWS", tmp_path / "rows")
    monkeypatch.setattr(study, "picture", lambda *_: None)
    scale = next(iter(controls.swept(about).values()))
    for number, variant in enumerate((JITTER, TWICE)):
        given = study.Given(tmp_path / str(number))
        making.run(about, given.runs, How(), (PLAIN, variant))
        if variant == JITTER:
            making.run(scale, given.runs, How())
        study.write("effect_toybox", given, tmp_path / "out")
    text = (tmp_path / "out" / "effect_toybox.md").read_text("utf-8")
    assert f"| {JITTER} |" in text
    assert f"| {TWICE} |" in text
    assert f": {JITTER}." in text
    rows = kept.read(tmp_path / "rows" / f"{NAME}.jsonl")
    assert set(rows) == {NAME, scale.name}
    assert set(rows[NAME]) == {PLAIN, JITTER, TWICE}

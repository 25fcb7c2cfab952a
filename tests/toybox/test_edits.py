"""What is asked of pictures that were mixed, edited, or begun with other noise."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random

import pytest

from adhere.pipelines.toybox import Judge, render
from adhere.pipelines.toybox.world.faults import TYPICAL
from benchmarks.effects import edits


def test_looks_are_unusual_ones() -> None:
    rng = Random(0)
    for _ in range(200):
        one, other = edits.looks(rng)
        assert len({one[0], other[0]}) == len({one[1], other[1]}) == 2
        assert not {one[1], other[1]} & {*TYPICAL[one[0]], *TYPICAL[other[0]]}
    assert edits.a(("apple", "blue")) == "a blue apple"
    assert edits.a(("apple", "")) == "an apple"


def test_a_drawn_picture_shows_its_two_things() -> None:
    rng, judge = Random(1), Judge.load()
    for _ in range(20):
        one, other = edits.looks(rng)
        (verdict,) = judge([render(edits.scene(one, other, rng))])
        assert {(thing.kind, thing.colour) for thing in verdict.things} == {one, other}


def test_all_three_are_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = ["--steps", "2", "--count", "2", "--library", "3", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["edits", *edits.STUDIES, *few])
    edits.main()
    found = {
        name: json.loads((tmp_path / f"{name}.json").read_text())["results"]
        for name in edits.STUDIES
    }
    assert found["noise-query"]["brightness"]["lowest - plain"]["n"] == 2
    assert set(found["noise-query"]["all there"]) == {"plain", "by prompt", "by prompt - plain"}
    assert len(found["p-plus"]["mixed: that kind in that colour"]) == 9  # five arms, four changes
    assert found["scaling-concept"]["the concept is seen"]["scale 0"]["n"] == 2


def test_the_transformer_is_asked_in_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ["--steps", "2", "--count", "1", "--library", "3", "--statistics", "warmth"]
    asked = ["edits", "noise-query", "--model", "toybox-sd3", *few, "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", asked)
    edits.main()
    kept = json.loads((tmp_path / "noise-query_sd3.json").read_text())
    assert kept["made"]["guidance_scale"] == 2.5
    assert kept["results"]["warmth"]["highest"]["n"] == 1

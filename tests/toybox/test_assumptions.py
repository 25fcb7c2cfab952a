"""What is asked about edited assumptions, and what counts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from adhere.pipelines.toybox import Judge, Scene, Thing, render
from adhere.pipelines.toybox.world.faults import TYPICAL
from adhere.pipelines.toybox.world.sprites import KINDS
from benchmarks.effects import assumptions


def test_colours_are_unusual_ones_and_prompts_name_what_is_looked_at() -> None:
    for kind in KINDS:
        colour, named = assumptions.unusual(kind)
        assert colour != named
        assert not {colour, named} & set(TYPICAL[kind])
        for prompts in assumptions.asked(kind).values():
            for prompt, looked_at, _ in prompts:
                assert looked_at in prompt
    assert assumptions.asked("apple")["efficacy"][0][0] == "an apple"


def test_pictures_without_the_thing_do_not_count_for_its_colour() -> None:
    red, blue = (Thing("apple", colour, "big", 8, 8) for colour in ("red", "blue"))
    verdicts = Judge()([render(Scene((one,))) for one in (red, blue)] + [render(Scene(()))])
    assert assumptions.hits(verdicts, "apple", "blue") == [0, 1, None]
    assert assumptions.hits(verdicts, "apple", None) == [1, 1, 0]


def test_it_is_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "found.json"
    monkeypatch.setattr(assumptions, "KEEPS", (30.0,))
    given = ["--kinds", "apple", "--noises", "2", "--steps", "2", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["assumptions", *given])
    assumptions.main()
    found = json.loads(out.read_text())["results"]
    assert found["specificity, another thing"]["plain"]["n"] == 2
    assert set(found["the thing is there"]) == {"plain", "keep=30", "keep=30 - plain"}
    assert found["the thing is there"]["plain"]["n"] == 8  # all but the other thing's pictures

"""What is asked of pictures that prototypes were kept out of."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from adhere.pipelines.toybox.world.captions import parse_prompt
from benchmarks.effects import prototypes


def test_places_are_of_the_world() -> None:
    for where, words in prototypes.PLACES.items():
        assert parse_prompt(f"a red cat {words}").haunted == (where == "haunted")


@pytest.mark.slow
def test_it_is_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "prototypes.json"
    monkeypatch.setattr(prototypes, "TEXTS", 2)
    monkeypatch.setattr(prototypes, "PLAN", replace(prototypes.PLAN, count=2, steps=2))
    given = ["prototypes", "--count", "2", "--steps", "2", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", given)
    prototypes.main()
    found = json.loads(out.read_text())["results"]
    assert found["haunted"]["a skull"]["prototype - plain"]["n"] == 2
    assert set(found["elsewhere"]["what was asked for"]) >= {"plain", "negative prompt"}
    assert list(tmp_path.iterdir()) == [out]

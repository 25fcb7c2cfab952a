"""What attention foretells: what is read of the maps, the area under the curve, resuming."""

from __future__ import annotations

import functools
import math
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from adhere.pipelines.toybox import load_toybox
from adhere.pipelines.toybox.card.recording import draw
from benchmarks.effects import foretell
from benchmarks.effects.foretell import area, areas, nearer_colour, table, weaker_peak


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    rng = Random(3)
    scores = [rng.choice((0.1, 0.2, 0.3, 0.4)) for _ in range(60)]
    right = [rng.random() < 0.3 + score for score in scores]
    pairs = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a, yes in zip(scores, right, strict=True)
        for b, other in zip(scores, right, strict=True)
        if yes and not other
    ]
    auc, low, high = area(scores, right)
    assert auc == pytest.approx(sum(pairs) / len(pairs))
    assert low < auc < high
    assert area([1, 2, 3, 4], [False, False, True, True])[0] == 1
    assert math.isnan(area([1, 2], [True, True])[0])


def test_the_weaker_noun_is_read_at_its_peak() -> None:
    pipe = load_toybox()
    maps = torch.full((2, 256, 32), 0.01)
    maps[0, 7, 2], maps[0, 9, 5] = 0.5, 0.2  # start, a, cat, and, a, frog
    maps[1, 3, 2], maps[1, 4, 5] = 0.3, 0.9
    found = weaker_peak(maps, "a cat and a frog", pipe.tokenizer)
    assert found.tolist() == pytest.approx([0.2, 0.3])


def test_binding_is_read_from_whose_colour_lies_where() -> None:
    pipe = load_toybox()
    prompt = "a red cat and a blue frog"  # columns: red 2, cat 3, blue 6, frog 7
    maps = torch.full((1, 256, 32), 1e-4)
    maps[0, :20, 2] = maps[0, :20, 3] = maps[0, 100:130, 6] = maps[0, 100:130, 7] = 0.5
    right = float(nearer_colour(maps, prompt, pipe.tokenizer))
    swapped = maps.clone()
    swapped[..., 2], swapped[..., 6] = maps[..., 6], maps[..., 2]
    assert right == pytest.approx(1, abs=0.01)
    assert float(nearer_colour(swapped, prompt, pipe.tokenizer)) == pytest.approx(-1, abs=0.01)


def test_areas_leave_out_pictures_whose_outcome_does_not_count() -> None:
    rows = [
        {"right": right, "read": {"layer": [0.5, float(bool(right))]}}
        for right in (True, False, None, True, False)
    ]
    found = areas(rows)
    assert (found["n"], found["right"]) == (4, 2)
    assert [values[0] for values in found["layers"]["layer"]] == [0.5, 1.0]
    assert "| layer | 0.50 | 1.00 |" in table({"presence": found})


def test_figures_are_kept_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def pictures(pipe: Any, question: str, first: int, count: int) -> list[dict[str, Any]]:
        made.extend(range(first, first + count))
        return [{"right": True, "read": {"layer": [1.0]}} for _ in range(count)]

    monkeypatch.setattr(foretell, "pictures", pictures)
    asked = ("toybox", "presence", 25, tmp_path)
    assert foretell.gathered(*asked, time.monotonic() - 1) == []
    monkeypatch.setattr(foretell, "BATCH", 10)
    assert len(foretell.gathered(*asked, time.monotonic() + 60)) == 25
    assert len(foretell.gathered(*asked, time.monotonic() + 60)) == 25
    assert made == list(range(25))


@pytest.mark.parametrize("model", ["toybox", "toybox-sd3"])
def test_every_layer_of_a_model_is_read_at_every_step(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = foretell.load(model)
    monkeypatch.setattr(foretell, "draw", functools.partial(draw, steps=3))
    for question in foretell.QUESTIONS:
        (row,) = foretell.pictures(pipe, question, 0, 1)
        assert foretell.GUIDED in row["read"]
        assert len(row["read"]) == (8 if model == "toybox" else 7)
        assert {len(values) for values in row["read"].values()} == {3}
        assert all(-1 <= value <= 1 for values in row["read"].values() for value in values)

"""The figure of all methods against their passes."""

from __future__ import annotations

from html import escape

import pytest

from docs import energies
from docs.measured import TOYBOXES


@pytest.mark.parametrize("model", TOYBOXES)
def test_every_method_that_was_measured_is_drawn(model: str) -> None:
    found, drawn = energies.points(model), energies.drawn(model)
    for label, point in found.items():
        assert f">{escape(label)}</text>" in drawn
        assert point["low"] <= point["mean"] <= point["high"]
        assert point["cost"] >= 1
    assert drawn.count("<circle") == len(found)
    assert {"plain", "best of 4", "attend-and-excite", "syngen", "ebama"} <= set(found)


def test_the_cost_is_the_passes_in_plain_pictures() -> None:
    found = energies.points("toybox")
    assert found["plain"]["cost"] == 1
    assert found["best of 4"]["cost"] == 4
    # Thirteen of twenty-five steps with one more pass, where a plain step has two.
    assert found["syngen"]["cost"] == pytest.approx(1 + 13 / 50)

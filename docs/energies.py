"""Every method that the effect studies measured on coloured pairs, against its passes: figures.

Shares and passes are the committed studies', the line is plain and the best of N by CLIP of the
search curves, on other prompts of the same kind.
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks.curves.figure import figure
from benchmarks.curves.report import costs
from docs.figures import RESULTS
from docs.measured import TOYBOXES

LINE = ("plain", "best of 2", "best of 4", "best of 8")


def points(model: str) -> dict[str, dict[str, float]]:
    """By label the cost, in plain pictures, and the share fully right with its interval."""
    of = model.removeprefix("toybox").replace("-", "_")
    searched, study = _read(f"search_curves{of}"), _read(f"effect_toybox{of}")
    plain = 2 * searched["made"]["steps"]  # passes of a plain picture, with and without the prompt
    curves = searched["results"]["suites"]["pairs"]["curves"]
    found = costs({name: curves[name] for name in LINE if name in curves}, plain)
    rows = [row for row in study["experiments"][f"{model}-pairs"]["scores"] if "tag" not in row]
    scores = {(row["variant"], row["column"]): row for row in rows}
    for (variant, column), row in scores.items():
        if column == "fully_right" and variant not in found:
            cost = 1 + scores[variant, "passes"]["mean"] / plain
            found[variant] = {"cost": cost, **{each: row[each] for each in ("mean", "low", "high")}}
    return found


def drawn(model: str) -> str:
    """The figure of a toybox, as SVG."""
    return figure(points(model), [LINE])


def place(model: str) -> str:
    """The figure's file."""
    return f"docs/pictures/energies{model.removeprefix('toybox')}.svg"


PLACES = {place(model): model for model in TOYBOXES}


def _read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))

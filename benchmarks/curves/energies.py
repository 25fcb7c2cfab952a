"""Every method that the effect studies measured on coloured pairs, against its passes, as a figure.

    python -m benchmarks.curves.energies

Shares and passes are the committed studies' (benchmarks/results/effect_toybox*.json), the line is
plain and the best of N by CLIP of the search curves, on other prompts of the same kind. A picture's
passes are the denoiser's rows; of an energy, the backward ones are not among them.
"""

from __future__ import annotations

import json
from typing import Any

from adhere.pipelines.studio.output import write_text
from benchmarks import record
from benchmarks.curves.figure import figure
from benchmarks.curves.report import costs
from benchmarks.curves.variants import PAIRS, PICTURES, Toybox

LINE = ("plain", "best of 2", "best of 4", "best of 8")
STUDIES = {"toybox": "effect_toybox", "toybox-sd3": "effect_toybox_sd3"}


def points(model: str) -> dict[str, dict[str, float]]:
    """By label passes, in plain pictures, and the share fully right with its interval."""
    toybox = Toybox.of(model)
    table, _ = toybox.results(record.RESULTS)
    searched = _read(table.name)["results"]["suites"][PAIRS]["curves"]
    found = costs({name: searched[name] for name in LINE if name in searched}, toybox.plain)
    study = _read(f"{STUDIES[model]}.json")["experiments"][f"{model}-pairs"]
    scores = {(row["variant"], row["column"]): row for row in study["scores"] if "tag" not in row}
    for (variant, column), row in scores.items():
        if column == "fully_right" and variant != "plain" and row.get("low") is not None:
            cost = 1 + scores[variant, "passes"]["mean"] / toybox.plain
            found[variant] = {
                "cost": cost, "mean": row["mean"], "low": row["low"], "high": row["high"]
            }  # fmt: skip
    return found


def drawn(model: str) -> str:
    """The figure of a toybox, as SVG."""
    return figure(points(model), [LINE])


def name_of(model: str) -> str:
    """The figure's file, in docs/pictures."""
    return f"energies{model.removeprefix('toybox')}.svg"


def _read(name: str) -> Any:
    return json.loads((record.RESULTS / name).read_text("utf-8"))


def main() -> None:
    for model in STUDIES:
        write_text(PICTURES / name_of(model), drawn(model))


if __name__ == "__main__":
    main()

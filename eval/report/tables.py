"""Compact tables of committed results, for the README: a row a variant, a column a score."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adhere.eval.errors import EvaluationError
from adhere.eval.evaluators.evaluator import Column
from adhere.eval.report.results import FORMAT, Score
from adhere.eval.report.statistics import Interval
from adhere.eval.report.wording import change, number


def read(path: Path) -> dict[str, Any]:
    """Results as `adhere eval report --keep` writes them."""
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"cannot read results {path}: {error}") from error
    if data.get("adhere_results") != FORMAT:
        raise EvaluationError(
            f"{path} does not hold results of format {FORMAT}; those of earlier formats have other "
            "intervals: report the run again"
        )
    return data


def table(data: Mapping[str, Any], suite: str, names: Sequence[str]) -> str:
    """A suite's variants and some scores; a score is mean and paired difference."""
    columns = {name: Column(**about) for name, about in data["columns"].items()}
    shown = [name for name in names if name in columns]
    cells = {
        (score["variant"], score["column"]): score
        for score in data["scores"]
        if score["suite"] == suite and "tag" not in score
    }
    variants = dict.fromkeys(variant for variant, _ in cells)
    lines = [f"| variant | {' | '.join(shown)} |", f"|{'---|' * (len(shown) + 1)}"]
    for variant in variants:
        row = [_cell(cells.get((variant, name)), columns[name]) for name in shown]
        lines.append(f"| {variant} | {' | '.join(row)} |")
    return "\n".join(lines)


def _cell(score: Mapping[str, Any] | None, column: Column) -> str:
    if score is None:
        return ""
    found = score.get("difference")
    moved = change(score_from(score), column) if found else ""
    return f"{number(score['mean'], column)} {f'({moved})' if moved else ''}".strip()


def score_from(data: Mapping[str, Any]) -> Score:
    """A score from its JSON."""
    found = data.get("difference")
    given = {key: value for key, value in data.items() if key != "difference"}
    told = {"low": None, "high": None, **found} if found else None
    return Score(**given, difference=Interval(**told) if told else None)

"""Tables of committed results: a suite's for the README, and a leaderboard of all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adhere.eval.errors import EvaluationError
from adhere.eval.evaluators.evaluator import Measure
from adhere.eval.report.results import FORMAT, Score
from adhere.eval.report.statistics import Interval
from adhere.eval.report.wording import change, number, spread


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
    columns = {name: Measure(**about) for name, about in data["columns"].items()}
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


def _cell(score: Mapping[str, Any] | None, column: Measure) -> str:
    if score is None:
        return ""
    found = score.get("difference")
    moved = change(score_from(score), column) if found else ""
    return f"{number(score['mean'], column)} {f'({moved})' if moved else ''}".strip()


def score_from(data: Mapping[str, Any]) -> Score:
    """A score from its JSON."""
    found = data.get("difference")
    given = {key: value for key, value in data.items() if key != "difference"}
    entry = {"low": None, "high": None, **found} if found else None
    return Score(**given, difference=Interval(**entry) if entry else None)


def leaderboard(results: Sequence[Mapping[str, Any]], score: str | None = None) -> Iterator[str]:
    """A page of Markdown: of every suite and model all variants, the best first.

    Args:
        results: as `read` gives them; of several of one model, suite and variant the last counts.
        score: what is ranked by; each results' own primary score if left out.

    Raises:
        EvaluationError: no results have such a score.
    """
    boards: dict[tuple[str, str, str], dict[str, tuple[Score, Measure, str]]] = {}
    for data in results:
        name = score or data["experiment"].get("primary") or ""
        if name not in data["columns"]:
            continue
        column = Measure(**data["columns"][name])
        model = f"{data['model']['model']} (weights {data['model']['weights']})"
        for entry in data["scores"]:
            if entry["column"] == name and "tag" not in entry:
                board = boards.setdefault((entry["suite"], model, name), {})
                made = f"{data['name']}, {str(data['commit'])[:8]}"
                board[entry["variant"]] = score_from(entry), column, made
    if not boards:
        there = ", ".join(sorted({name for data in results for name in data["columns"]}))
        raise EvaluationError(
            f"no results have the score {score!r}; they have {there}" if score else
            f"no results name a primary score; say which one with --score ({there})"
        )  # fmt: skip
    for (suite, model, name), board in sorted(boards.items()):
        yield from _board(suite, model, name, list(board.values()))


def _board(
    suite: str, model: str, name: str, rows: list[tuple[Score, Measure, str]]
) -> Iterator[str]:
    column = rows[0][1]
    yield f"## {suite}, {model}"
    yield ""
    yield f"`{name}`: {column.help}; {column.better} is better."
    yield ""
    yield "| | variant | mean | 95 % | n | difference | experiment |"
    yield "|---|---|---|---|---|---|---|"
    rows.sort(key=lambda row: row[0].mean, reverse=column.better != "lower")
    for place, (one, _, made) in enumerate(rows, 1):
        yield (
            f"| {place} | {one.variant} | {number(one.mean, column)} | {spread(one, column)} "
            f"| {one.n} | {change(one, column)} | {made} |"
        )
    yield ""

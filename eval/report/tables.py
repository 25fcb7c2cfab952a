"""Tables of committed results: a suite's for the README, and a leaderboard of all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adhere.eval import places
from adhere.eval.errors import EvaluationError
from adhere.eval.evaluators.evaluator import Measure
from adhere.eval.report.results import FORMAT, Score
from adhere.eval.report.statistics import Interval
from adhere.eval.report.wording import change, number, spread
from adhere.eval.run import experiment as experiments


def read(path: Path | str) -> dict[str, Any]:
    """Results as `adhere eval report --keep` writes them, a file or in a store."""
    place, name = places.file(path)
    try:
        return parsed(place.read(name), str(path))
    except OSError as error:
        raise EvaluationError(f"cannot read results {path}: {error}") from error


def parsed(text: bytes, where: str) -> dict[str, Any]:
    """Results from what lies in their file.

    Raises:
        EvaluationError: it is torn, of another format, or lacks what results have.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise EvaluationError(f"cannot read results {where}: {error}") from error
    if not isinstance(data, dict) or data.get("adhere_results") != FORMAT:
        raise EvaluationError(
            f"{where} does not hold results of format {FORMAT}; those of earlier formats have "
            "other intervals: report the run again"
        )
    try:
        _look_through(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EvaluationError(
            f"the results {where} are damaged ({error!r}); report the run again"
        ) from error
    return data


def _look_through(data: Mapping[str, Any]) -> None:
    """Touch all that anybody reads of results."""
    columns = {name: Measure(**about) for name, about in data["columns"].items()}
    for entry in data["scores"]:
        one = score_from(entry)
        _ = columns[one.column], data["suites"][one.suite]["fingerprint"], one.mean + one.n
    _ = data["model"]["model"], data["model"]["weights"], data["name"], data["commit"]
    _ = data["experiment"].get("primary"), data["evaluator_weights"].get("")


def table(data: Mapping[str, Any], suite: str, names: Sequence[str]) -> str:
    """A suite's variants and some scores; a score is mean and paired difference.

    A variant of fewer pictures than others have says of how many.
    """
    columns = {name: Measure(**about) for name, about in data["columns"].items()}
    shown = [name for name in names if name in columns]
    cells = {
        (score["variant"], score["column"]): score
        for score in data["scores"]
        if score["suite"] == suite and "tag" not in score
    }
    variants = dict.fromkeys(variant for variant, _ in cells)
    lines = [f"| variant | {' | '.join(shown)} |", f"|{'---|' * (len(shown) + 1)}"]
    counts = {one: max(n["n"] for (own, _), n in cells.items() if own == one) for one in variants}
    for variant in variants:
        row = [_cell(cells.get((variant, name)), columns[name]) for name in shown]
        fewer = counts[variant] < max(counts.values())
        title = f"{variant} (n = {counts[variant]})" if fewer else variant
        lines.append(f"| {title} | {' | '.join(row)} |")
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
        results: as `read` gives them. Suites of other content, pictures of other steps, sizes or
            schedulers, scores by another evaluator or by other weights of it are boards of their
            own.
        score: what is ranked by; each results' own primary score if left out, or where they have
            none, that of the experiment of their name that comes with adhere.

    Raises:
        EvaluationError: no results have such a score.
    """
    boards: dict[tuple[str, ...], list[tuple[Score, Measure, str]]] = {}
    notes: list[str] = []
    for data in results:
        name = score or data["experiment"].get("primary") or _named_since(data)
        if name not in data["columns"]:
            notes.append(f"{data['name']} is on no board: {_lacks(name)}.")
            continue
        if not score and not data["experiment"].get("primary"):
            notes.append(
                f"{data['name']} named no score before its pictures were made; `{name}` is what "
                "the experiment of that name names today."
            )
        column = Measure(**data["columns"][name])
        model = f"{data['model']['model']} (weights {data['model']['weights']})"
        for entry in data["scores"]:
            if entry["column"] == name and "tag" not in entry:
                content, slug = data["suites"][entry["suite"]]["fingerprint"], entry["evaluator"]
                judge = f"{slug} (weights {data['evaluator_weights'].get(slug) or 'none'})"
                made = f"{data['name']}, {str(data['commit'])[:8]}"
                key = (entry["suite"], content, model, _drawn(data), name, judge)
                board = boards.setdefault(key, [])
                board.append((score_from(entry), column, made))
    if not boards:
        there = ", ".join(sorted({name for data in results for name in data["columns"]}))
        raise EvaluationError(
            f"no results have the score {score!r}; they have {there}" if score else
            f"no results name a primary score; say which one with --score ({there})"
        )  # fmt: skip
    for (suite, content, model, drawn, name, judge), board in sorted(boards.items()):
        yield f"## {suite}, {model}{drawn and f', {drawn}'}"
        yield ""
        yield f"Suite {content}. `{name}` by {judge}: {_about(board[0][1])}"
        yield ""
        yield from _board(board)
    yield from dict.fromkeys(f"- {note}" for note in notes)


def _named_since(data: Mapping[str, Any]) -> str:
    """What the experiment of these results names as primary today, if it comes with adhere."""
    path = experiments.bundled().get(data["name"])
    asked = experiments.data_of(path) if path else {}
    # Somebody's own experiment may be called so too.
    same = set(asked.get("suites", ())) == set(data["suites"])
    return str(asked.get("primary", "")) if same else ""


def _drawn(data: Mapping[str, Any]) -> str:
    """How these pictures were drawn, as far as no variant may have it otherwise.

    A variant in 4 steps is no rival of one in 25: ranked together, the better steps would win.
    """
    about = data.get("settings", {})
    said = {name: " or ".join(map(str, about[name])) for name in sorted(about)}
    parts = [f"{said['steps']} steps"] if said.get("steps") else []
    parts += [f"of {said['scheduler']}"] if said.get("scheduler") else []
    if said.get("width") and said.get("height"):
        parts.append(f"at {said['width']} x {said['height']}")
    return " ".join(parts)


def _lacks(name: str) -> str:
    return f"it has no score `{name}`" if name else "it names no primary score (`--score`)"


def _about(column: Measure) -> str:
    return f"{column.help}; {column.better} is better."


def _board(rows: list[tuple[Score, Measure, str]]) -> Iterator[str]:
    column = rows[0][1]
    yield "| | variant | mean | 95 % | n | difference | experiment |"
    yield "|---|---|---|---|---|---|---|"
    rows.sort(key=lambda row: row[0].mean, reverse=column.better != "lower")
    for place, (one, _, made) in enumerate(rows, 1):
        yield (
            f"| {place} | {one.variant} | {number(one.mean, column)} | {spread(one, column)} "
            f"| {one.n} | {change(one, column)} | {made} |"
        )
    yield ""

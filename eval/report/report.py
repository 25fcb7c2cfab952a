"""Write the results of a run as Markdown, CSV, JSON and one HTML page."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from adhere.eval.evaluators.evaluator import Column, Evaluator
from adhere.eval.files import write_atomic
from adhere.eval.report.bootstrap import Interval
from adhere.eval.report.results import Results, Score, gather
from adhere.eval.run.experiment import BASELINE
from adhere.eval.run.folder import Folder

FORMATS = ("md", "csv", "json", "html")


def report(
    folder: Folder,
    recipes: Sequence[Evaluator],
    left_out: dict[str, str],
    formats: Iterable[str] = FORMATS,
    pairs: int = 200,
) -> Results:
    """Gather and write `report.md`, `.csv`, `.json` and `.html` into the folder.

    Args:
        folder: a run that was scored.
        recipes: the evaluators to report.
        left_out: evaluators that could not be loaded, with the reason.
        formats: which files to write.
        pairs: before/after pairs on the page at the most.
    """
    from adhere.eval.report.page import page

    results = gather(folder, recipes, dict(left_out))
    texts = {
        "md": lambda: markdown(results),
        "csv": lambda: table_csv(results),
        "json": lambda: json.dumps(results.to_json(), indent=1, ensure_ascii=False) + "\n",
        "html": lambda: page(folder, results, pairs),
    }
    for name in formats:
        write_atomic(folder.path / f"report.{name}", texts[name]().encode())
    return results


def number(value: float, column: Column) -> str:
    """A value as a reader wants it: shares in per cent."""
    if column.kind == "share":
        return f"{100 * value:.1f} %"
    if column.kind == "seconds":
        return f"{value:.2f} s"
    return f"{value:.4g}"


def spread(score: Score | Interval, column: Column) -> str:
    """The interval in brackets, or nothing."""
    if score.low is None or score.high is None:
        return ""
    if column.kind == "share":
        return f"[{100 * score.low:.1f}, {100 * score.high:.1f}]"
    digits = _digits(score)
    return f"[{score.low:{digits}}, {score.high:{digits}}]"


def _digits(found: Score | Interval) -> str:
    """The format that shows two digits of the interval's width: more would be noise."""
    if found.low is None or found.high is None or found.high <= found.low:
        return ".4g"
    return f".{max(0, 1 - math.floor(math.log10(found.high - found.low)))}f"


def change(found: Interval | None, column: Column) -> str:
    """A paired difference with its interval; bold where the interval excludes zero."""
    if found is None:
        return ""
    digits = _digits(found)
    text = f"{100 * found.mean:+.1f}" if column.kind == "share" else f"{found.mean:+{digits}}"
    brackets = spread(found, column)
    text = f"**{text}**" if found.clear else text
    return f"{text} {brackets}".strip()


def verdict(found: Interval | None, column: Column) -> str:
    """`better`, `worse`, or `` where the interval does not exclude zero."""
    if found is None or not found.clear or column.better == "neither":
        return ""
    return "better" if (found.mean > 0) == (column.better == "higher") else "worse"


def markdown(results: Results) -> str:
    """The report as Markdown: a table for each suite, then what to know, then how it was made."""
    about = results.about
    model = about["model"]
    lines = [f"# {about['name']}", ""]
    lines.append(
        f"Model `{model['model']}` (weights {model['weights']}), {about['pictures']['done']} of "
        f"{about['pictures']['jobs']} pictures, {', '.join(about['devices']) or 'unknown device'}."
    )
    lines += ["", _how_to_read(), ""]
    for suite, facts in about["suites"].items():
        lines += [f"## {suite}", ""]
        lines.append(f"Version {facts['version']}, {facts['items']} prompts. {facts['source']}")
        lines += ["", *_suite_table(results, suite), ""]
    lines += _list("Warnings", results.warnings)
    lines += _list("Left out", [f"`{name}`: {why}" for name, why in results.left_out.items()])
    lines += _list(
        "Pictures that could not be made",
        [f"`{one['job']}` {one['prompt'][:80]!r}: {one['error']}" for one in results.failures],
    )
    lines += ["## Columns", ""]
    lines += [f"- `{name}`: {column.help}" for name, column in results.columns.items()]
    made_with = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    lines += ["", "## Made with", "", f"{made_with}; commit {about['commit'] or 'unknown'}.", ""]
    return "\n".join(lines)


def _how_to_read() -> str:
    return (
        "Mean with its 95 % bootstrap interval over prompts, n pictures; the difference is paired "
        f"with the `{BASELINE}` picture of the same prompt and seed, bold where its interval "
        "excludes zero."
    )


def _suite_table(results: Results, suite: str) -> list[str]:
    lines = [
        "| variant | score | mean | 95 % | n | difference to plain |",
        "|---|---|---|---|---|---|",
    ]
    for score in results.scores:
        if score.suite != suite:
            continue
        column = results.columns[score.column]
        cells = (
            _cell(score.variant),
            _cell(score.column),
            number(score.mean, column),
            spread(score, column),
            str(score.n),
            change(score.difference, column),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _list(title: str, entries: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {_cell(entry)}" for entry in entries), ""] if entries else []


def table_csv(results: Results) -> str:
    """One line for each suite, variant and score."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    head = ["suite", "variant", "evaluator", "score", "mean", "low", "high", "n", "prompts"]
    writer.writerow([*head, "difference", "difference_low", "difference_high", "pairs", "verdict"])
    for score in results.scores:
        found = score.difference
        paired = (found.mean, found.low, found.high, found.n) if found else ("", "", "", "")
        writer.writerow(
            [
                score.suite, score.variant, score.evaluator, score.column, score.mean,
                score.low, score.high, score.n, score.prompts, *paired,
                verdict(found, results.columns[score.column]),
            ]
        )  # fmt: skip
    return stream.getvalue()


def keep(results: Results, path: Path) -> None:
    """Write the results where they are committed (`eval/results/NAME.json`)."""
    text = json.dumps(results.to_json(), indent=1, ensure_ascii=False) + "\n"
    write_atomic(path, text.encode())

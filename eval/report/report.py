"""Write the results of a run as Markdown, CSV, JSON and one HTML page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from adhere.eval import places
from adhere.eval.evaluators.evaluator import Evaluator
from adhere.eval.report.gathering import gather
from adhere.eval.report.listing import pictures
from adhere.eval.report.page import page
from adhere.eval.report.results import Results, Score, verdict
from adhere.eval.report.wording import change, how_to_read, number, spread
from adhere.eval.run.experiment import BASELINE
from adhere.eval.run.folder import Folder

FORMATS = ("md", "csv", "json", "html")


def report(
    folder: Folder,
    recipes: Sequence[Evaluator],
    left_out: dict[str, str],
    formats: Iterable[str] = FORMATS,
    pairs: int = 200,
    baseline: str = BASELINE,
) -> Results:
    """Gather and write `report.md`, `.csv`, `.json` and `.html` into the folder.

    Args:
        folder: a run that was scored.
        recipes: the evaluators to report.
        left_out: evaluators that could not be loaded, with the reason.
        formats: which files to write.
        pairs: before/after pairs on the page at the most.
        baseline: the variant that the others are compared with.
    """
    results = gather(folder, recipes, dict(left_out), baseline)
    texts = {
        "md": lambda: markdown(results),
        "csv": lambda: table_csv(results),
        "json": lambda: json.dumps(results.to_json(), indent=1, ensure_ascii=False) + "\n",
        "html": lambda: page(folder, results, pairs),
    }
    for name in formats:
        folder.place.write(f"report.{name}", texts[name]().encode())
    folder.place.write("pictures.csv", pictures.csv_lines(folder, results))
    return results


def markdown(results: Results) -> str:
    """The report as Markdown: a table for each suite, then what to know, then how it was made."""
    about = results.about
    model = about["model"]
    lines = [f"# {about['name']}", ""]
    lines.append(
        f"Model `{model['model']}` (weights {model['weights']}), {about['pictures']['done']} of "
        f"{about['pictures']['jobs']} pictures, {', '.join(about['devices']) or 'unknown device'}."
    )
    lines += ["", how_to_read(results), ""]
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
    settings = ", ".join(
        f"{name} {' or '.join(map(str, values))}" for name, values in about["settings"].items()
    )
    lines += ["", "## Settings", "", f"{settings or 'unknown'}."]
    made_with = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    lines += ["", "## Made with", "", f"{made_with}; commit {about['commit'] or 'unknown'}.", ""]
    return "\n".join(lines)


def _suite_table(results: Results, suite: str) -> list[str]:
    whole = [score for score in results.scores if score.suite == suite and score.tag is None]
    parts = [score for score in results.scores if score.suite == suite and score.tag is not None]
    lines = _table(results, whole, with_tag=False)
    if parts:
        lines += ["", "By category, without verdicts:", "", *_table(results, parts, with_tag=True)]
    return lines


def _table(results: Results, scores: Sequence[Score], with_tag: bool) -> list[str]:
    tag = ["category"] if with_tag else []
    head = [*tag, "variant", "score", "mean", "95 %", "n", f"{results.about['baseline']} on these",
            "difference"]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for score in sorted(scores, key=lambda one: one.tag or "") if with_tag else scores:
        column, found = results.columns[score.column], score.difference
        before = number(found.before, column) if found and found.before is not None else ""
        cells = (
            *([_cell(score.tag or "")] if with_tag else []),
            _cell(score.variant),
            _cell(score.column),
            number(score.mean, column),
            spread(score, column),
            str(score.n),
            before,
            change(score, column),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _list(title: str, entries: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {_cell(entry)}" for entry in entries), ""] if entries else []


def table_csv(results: Results) -> str:
    """One line for each suite, variant, score and category."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ["suite", "variant", "evaluator", "score", "category", "mean", "low", "high", "n",
         "prompts", "baseline", "difference", "difference_low", "difference_high", "pairs", "p",
         "p_adjusted", "verdict"]
    )  # fmt: skip
    for score in results.scores:
        found = score.difference
        paired = (
            (found.before, found.mean, found.low, found.high, found.n, found.p)
            if found
            else ("",) * 6
        )
        writer.writerow(
            [
                score.suite, score.variant, score.evaluator, score.column, score.tag or "",
                score.mean, score.low, score.high, score.n, score.prompts, *paired,
                score.adjusted, verdict(score, results.columns[score.column]),
            ]
        )  # fmt: skip
    return stream.getvalue()


def keep(results: Results, path: Path | str) -> None:
    """Write the results where they are committed (`eval/results/NAME.json`), or into a store."""
    place, name = places.file(path)
    text = json.dumps(results.to_json(), indent=1, ensure_ascii=False) + "\n"
    place.write(name, text.encode())

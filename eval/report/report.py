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
from adhere.eval.report.gathering import gather
from adhere.eval.report.results import Results, Score, verdict
from adhere.eval.report.statistics import FEWEST, Interval
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
    from adhere.eval.report.page import page

    results = gather(folder, recipes, dict(left_out), baseline)
    texts = {
        "md": lambda: markdown(results),
        "csv": lambda: table_csv(results),
        "json": lambda: json.dumps(results.to_json(), indent=1, ensure_ascii=False) + "\n",
        "html": lambda: page(folder, results, pairs),
    }
    for name in formats:
        write_atomic(folder.path / f"report.{name}", texts[name]().encode())
    write_atomic(folder.path / "pictures.csv", pictures_csv(folder, results).encode())
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


def change(score: Score, column: Column) -> str:
    """A paired difference with its interval; bold where the report's tests call it one."""
    found = score.difference
    if found is None:
        return ""
    digits = _digits(found)
    text = f"{100 * found.mean:+.1f}" if column.kind == "share" else f"{found.mean:+{digits}}"
    text = f"**{text}**" if verdict(score, column) else text
    return f"{text} {spread(found, column)}".strip()


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


def how_to_read(results: Results) -> str:
    """What the numbers are, and when a difference is called one."""
    primary = results.about["experiment"].get("primary")
    tests = sum(score.adjusted is not None for score in results.scores)
    family = f"the {tests} comparisons of `{primary}`, named beforehand" if primary else (
        f"all {tests} comparisons of this report"
    )  # fmt: skip
    return (
        "Mean with its 95 % interval over prompts, n pictures; the difference is paired with the "
        f"`{results.about['baseline']}` picture of the same prompt and seed. It is bold where a "
        f"test that changes its signs finds less than 5 % over {family} (Holm), from {FEWEST} "
        "prompts on. docs/evaluation.md says which interval is which."
    )


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


def pictures_csv(folder: Folder, results: Results) -> str:
    """One line for each picture: what was asked, what became of it, and all its scores."""
    records = folder.records()
    names = list(results.columns)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ["suite", "item", "variant", "seed", "prompt", "tags", "status", "image", *names]
    )
    for entry in folder.manifest.entries:
        scores = results.values.get(entry.key, {})
        status = records.get(entry.job, {}).get("status", "not made yet")
        image = folder.image(entry.job).relative_to(folder.path) if status == "done" else ""
        writer.writerow(
            [
                entry.suite, entry.item.id, entry.variant, entry.seed, entry.item.prompt,
                ";".join(entry.item.tags), status, image,
                *(scores.get(name, "") for name in names),
            ]
        )  # fmt: skip
    return stream.getvalue()


def keep(results: Results, path: Path) -> None:
    """Write the results where they are committed (`eval/results/NAME.json`)."""
    text = json.dumps(results.to_json(), indent=1, ensure_ascii=False) + "\n"
    write_atomic(path, text.encode())

"""Every picture's scores, kept beside the results, so that a study grows over many runs.

A study takes hours, and a run's folder is lost with its machine; its scores are a hundredth of it.
With them the variants of an earlier run stand beside those of a new one, in tables, claims and
controls alike. Both must be of the same prompts, weights and judge, and of one mind about the plain
pictures, which either makes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adhere.eval.report.results import Results, Score, tested
from adhere.eval.report.tables import score_from
from adhere.eval.run.experiment import BASELINE
from adhere.pipelines.studio.output import write_text
from benchmarks.effects.controls import Rows

AGREE = 0.02
"""The most by which the plain pictures' share of anything may differ: of 200 the four that another
processor draws otherwise.
"""
EARLIER = "earlier"
"""Under this name results say at which commit an earlier run's variants were made."""
SAME = ("suites", "evaluator_weights")
"""What two runs must have in common, beside the model's weights and how pictures are drawn."""
DRAWN = ("steps", "scheduler", "width", "height")
"""Of the settings those that no variant has of its own."""

Runs = Mapping[str, Mapping[str, Rows]]
"""By the name of a run, an experiment's or a control's, and of a variant."""


def read(path: Path) -> dict[str, dict[str, Rows]]:
    """The scores that `write` kept; none where there is no such file."""
    found: dict[str, dict[str, Rows]] = {}
    pictures: list[tuple[str, int]] = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        data = json.loads(line)
        if "pictures" in data:
            pictures = [(item, seed) for item, seed in data["pictures"]]
            found[data["run"]] = {}
        else:
            found[data["run"]][data["variant"]] = _rows(pictures, data["scores"])
    return found


def _rows(
    pictures: Sequence[tuple[str, int]], scores: Mapping[str, Sequence[float | None]]
) -> dict[tuple[str, int], dict[str, float]]:
    named = {
        picture: {name: each for name, column in scores.items() if (each := column[k]) is not None}
        for k, picture in enumerate(pictures)
    }
    return {picture: row for picture, row in named.items() if row}


def write(path: Path, runs: Runs) -> None:
    """Keep the scores of some runs: a line for each variant."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(f"{line}\n" for line in _lines(runs)))


def _lines(runs: Runs) -> Iterator[str]:
    for run, variants in runs.items():
        pictures = sorted({picture for rows in variants.values() for picture in rows})
        yield json.dumps({"run": run, "pictures": pictures})
        for variant, rows in variants.items():
            names = dict.fromkeys(name for row in rows.values() for name in row)
            scores = {
                name: [_short(rows.get(picture, {}).get(name)) for picture in pictures]
                for name in names
            }
            yield json.dumps({"run": run, "variant": variant, "scores": scores})


def _short(value: float | None) -> float | None:
    """Six digits, and no point behind a whole number."""
    if value is None:
        return None
    return int(value) if value == int(value) else float(f"{value:.6g}")


def joined(
    results: Results, before: Mapping[str, Any], rows: Mapping[str, Rows]
) -> tuple[Results, dict[str, Rows]]:
    """A run's results with the variants that only an earlier run has, or has more pictures of.

    Args:
        results: of the new run.
        before: the earlier one's, as `Results.to_json` gives them.
        rows: the earlier one's scores, by variant; those of a run before scores were kept are gone,
            and its means stand without them.

    Returns:
        Results of both, and the rows of those that are the earlier run's, as far as they are kept.

    Raises:
        SystemExit: the runs differ in what they must have in common.
    """
    if not before:
        return results, {}
    _check(results, before)
    old = [score_from(one) for one in before["scores"]]
    fresh, known = _pictures(results.scores), _pictures(old)
    order = [one["name"] for one in results.about["experiment"]["variants"]]
    taken = [name for name in order if known.get(name, 0) > fresh.get(name, 0)]
    earlier = [one for one in old if one.variant in taken and one.column in results.columns]
    scores = [one for one in results.scores if one.variant not in taken] + earlier
    columns = list(results.columns)
    scores.sort(key=lambda one: (columns.index(one.column), order.index(one.variant)))
    since = before.get(EARLIER, {})
    made_at = {variant: since.get(variant, before["commit"]) for variant in taken}
    primary = results.about["experiment"].get("primary")
    found = replace(
        results,
        about={**results.about, **({EARLIER: made_at} if taken else {})},
        scores=tested(scores, results.columns, primary),
    )
    return found, {variant: rows[variant] for variant in taken if variant in rows}


def told(results: Results) -> list[str]:
    """Which variants are of earlier runs, a sentence for each commit that they were made at."""
    made_at: Mapping[str, str | None] = results.about.get(EARLIER, {})
    by_commit: dict[str, list[str]] = {}
    for variant, commit in made_at.items():
        by_commit.setdefault(str(commit)[:8], []).append(variant)
    return [f"Of a run at {one}: {', '.join(some)}." for one, some in by_commit.items()]


def _check(results: Results, before: Mapping[str, Any]) -> None:
    about = results.about
    differs = [name for name in SAME if about[name] != before[name]]
    now, then = about["settings"], before["settings"]
    differs += [name for name in DRAWN if now.get(name) != then.get(name)]
    differs += ["weights"] if about["model"]["weights"] != before["model"]["weights"] else []
    if differs:
        raise SystemExit(
            f"{about['name']}: the kept results are of other {', '.join(differs)}; take the files "
            "of its results and rows away, and make all of its variants again"
        )
    kept = {one.column: one for one in map(score_from, before["scores"]) if _is_plain(one)}
    made = {one.column: one for one in results.scores if _is_plain(one)}
    for name, column in results.columns.items():
        if column.kind != "share" or name not in kept:
            continue
        if name not in made or made[name].n != kept[name].n:
            raise SystemExit(
                f"{about['name']}: {kept[name].n} plain pictures are kept; make as many, by which "
                "can be seen that both runs draw alike"
            )
        if abs(made[name].mean - kept[name].mean) > AGREE:
            raise SystemExit(
                f"{about['name']}: {name} of the plain pictures is {made[name].mean:.3f}, and was "
                f"{kept[name].mean:.3f}: the model draws otherwise now; take the files of its "
                "results and rows away, and make all of its variants again"
            )


def _pictures(scores: Iterable[Score]) -> dict[str, int]:
    """How many pictures of each variant were scored."""
    found: dict[str, int] = {}
    for one in scores:
        if one.tag is None:
            found[one.variant] = max(one.n, found.get(one.variant, 0))
    return found


def _is_plain(score: Score) -> bool:
    return score.variant == BASELINE and score.tag is None

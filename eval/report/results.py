"""Gather the scores of a run: means, intervals and paired differences by suite and variant."""

from __future__ import annotations

import math
import platform
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from adhere.errors import GuidanceError
from adhere.eval.errors import EvaluationError
from adhere.eval.evaluators import table as evaluators
from adhere.eval.evaluators.evaluator import Column, Evaluator, Measured, SetEvaluator
from adhere.eval.evaluators.sets import references
from adhere.eval.evaluators.sets.accumulators import Overlap
from adhere.eval.report.bootstrap import Interval, Key, difference, interval
from adhere.eval.run import scoring
from adhere.eval.run.experiment import BASELINE
from adhere.eval.run.folder import Folder
from adhere.eval.run.manifest import Entry

FORMAT = 1
_MOST_ERRORS = 10
_LONGEST = 300
_PACKAGES = ("adhere", "torch", "diffusers", "transformers", "numpy", "pillow")


@dataclass(frozen=True)
class Score:
    """One cell of the table; without `low` and `high` where resampling would mislead (Fréchet)."""

    suite: str
    variant: str
    evaluator: str
    column: str
    mean: float
    n: int
    low: float | None = None
    high: float | None = None
    prompts: int = 0
    difference: Interval | None = None


@dataclass
class Results:
    """Everything a report shows, as plain data but for `values` (for the before/after grid)."""

    about: dict[str, Any]
    columns: dict[str, Column]
    scores: list[Score]
    warnings: list[str]
    failures: list[dict[str, str]]
    left_out: dict[str, str]
    values: dict[str, dict[str, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What `eval/results/*.json` and `report.json` hold."""
        return {
            "adhere_results": FORMAT,
            **self.about,
            "columns": {name: asdict(column) for name, column in self.columns.items()},
            "scores": [_score_json(score) for score in self.scores],
            "warnings": self.warnings,
            "failures": self.failures,
            "left_out": self.left_out,
        }


def _score_json(score: Score) -> dict[str, Any]:
    return {key: value for key, value in _rounded(asdict(score)).items() if value is not None}


def _rounded(value: Any) -> Any:
    """Ten digits: enough for any use, and the same file from shards merged in another order."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return float(f"{value:.10g}") if isinstance(value, float) else value


@dataclass
class _Tables:
    """Scores by evaluator and column, then suite and variant, then picture."""

    rows: dict[tuple[str, str], dict[tuple[str, str], dict[Key, float]]]
    overlaps: dict[str, dict[tuple[str, str], Overlap]]
    errors: Counter[str]


def gather(folder: Folder, recipes: Sequence[Evaluator], left_out: dict[str, str]) -> Results:
    """Compute all statistics of a run that was scored.

    Args:
        folder: the run.
        recipes: the evaluators to report.
        left_out: evaluators that could not be loaded, with the reason.
    """
    entries = folder.manifest.entries
    records = folder.records()
    tables = _tables(folder, entries, recipes)
    labels = _labels(recipes)
    columns = {
        label: column
        for recipe in recipes
        for column in recipe.columns
        if (label := labels[evaluators.slug(recipe), column.name])
    }
    groups = _groups(entries)
    scores = [
        _row_score(slug, labels[slug, column], place, by_place)
        for (slug, column), by_place in tables.rows.items()
        for place in groups
        if by_place.get(place)
    ]
    warnings = _warnings(tables, entries, records)
    scores.extend(_overlap_scores(tables, columns))
    for recipe in recipes:
        if isinstance(recipe, SetEvaluator) and evaluators.slug(recipe) not in left_out:
            scores.extend(_set_scores(folder, recipe, groups, labels, warnings, left_out))
    used = {score.column for score in scores}
    about = _about(folder, recipes, records)
    values = _values(tables, labels)
    return Results(
        about,
        {name: column for name, column in columns.items() if name in used},
        scores,
        list(dict.fromkeys(warnings)),
        _failures(folder, records),
        left_out,
        values,
    )


def _groups(entries: Iterable[Entry]) -> dict[tuple[str, str], list[Entry]]:
    found: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        found[entry.suite, entry.variant].append(entry)
    return dict(found)


def _labels(recipes: Sequence[Evaluator]) -> dict[tuple[str, str], str]:
    """Column names; where two evaluators give the same column, with the evaluator's."""
    uses = Counter(column.name for recipe in recipes for column in recipe.columns)
    return {
        (slug, column.name): column.name if uses[column.name] == 1 else f"{column.name}@{slug}"
        for recipe in recipes
        for slug in [evaluators.slug(recipe)]
        for column in recipe.columns
    }


def _tables(folder: Folder, entries: Sequence[Entry], recipes: Sequence[Evaluator]) -> _Tables:
    tables = _Tables({}, {}, Counter())
    for recipe in recipes:
        if isinstance(recipe, SetEvaluator):
            continue
        slug = evaluators.slug(recipe)
        found = scoring.scores_of(folder, recipe)
        for column in recipe.columns:
            tables.rows[slug, column.name] = defaultdict(dict)
        for entry in entries:
            row = found.get(entry.key, {})
            if "error" in row:
                tables.errors[f"{recipe.name}: {row['error']}"] += 1
            place, key = (entry.suite, entry.variant), (entry.item.id, entry.seed)
            for name, value in row.get("values", {}).items():
                tables.rows.setdefault((slug, name), defaultdict(dict))[place][key] = value
            if "overlap" in row:
                by_place = tables.overlaps.setdefault(slug, defaultdict(Overlap))
                by_place[place].add(row["overlap"])
    return tables


def _row_score(
    slug: str,
    label: str,
    place: tuple[str, str],
    by_place: dict[tuple[str, str], dict[Key, float]],
) -> Score:
    suite, variant = place
    found = interval(by_place[place])
    assert found is not None  # only asked for where there are values
    compared = None
    if variant != BASELINE:
        compared = difference(by_place[place], by_place.get((suite, BASELINE), {}))
    return Score(
        suite, variant, slug, label, found.mean, found.n, found.low, found.high, found.prompts,
        compared,
    )  # fmt: skip


def _overlap_scores(tables: _Tables, columns: dict[str, Column]) -> list[Score]:
    scores = []
    for slug, by_place in tables.overlaps.items():
        for (suite, variant), overlap in by_place.items():
            name = "miou_classes"
            columns[name] = Column(name, "mIoU over the classes of the whole suite", kind="share")
            count = len(overlap.pixels)
            if not math.isfinite(overlap.value()):
                continue
            scores.append(Score(suite, variant, slug, name, overlap.value(), count))
    return scores


def _set_scores(
    folder: Folder,
    recipe: SetEvaluator,
    groups: dict[tuple[str, str], list[Entry]],
    labels: dict[tuple[str, str], str],
    warnings: list[str],
    left_out: dict[str, str],
) -> list[Score]:
    slug = evaluators.slug(recipe)
    features = scoring.features_of(folder, recipe.features)
    by_place: dict[tuple[str, str], dict[str, float]] = {}
    counts = {}
    for (suite, variant), entries in groups.items():
        jobs = [entry.job for entry in entries if entry.job in features]
        plain = groups.get((suite, BASELINE), [])
        if not jobs or (recipe.reference == BASELINE and variant == BASELINE):
            continue
        try:
            reference = _reference(folder, recipe, features, plain)
            measured = recipe.measure(scoring.stacked(features, jobs), reference)
            _check_finite(measured)
        except (GuidanceError, RuntimeError) as error:
            # RuntimeError: a decomposition that does not converge on the features of a broken run.
            left_out[f"{slug} on {suite}/{variant}"] = str(error)
            continue
        by_place[suite, variant] = dict(measured.values)
        counts[suite, variant] = len(jobs)
        warnings.extend(f"{recipe.name} on {suite}/{variant}: {text}" for text in measured.warnings)
    return [
        _set_score(slug, labels[slug, name], place, value, counts[place], by_place, name)
        for place, values in by_place.items()
        for name, value in values.items()
    ]


def _set_score(
    slug: str,
    label: str,
    place: tuple[str, str],
    value: float,
    count: int,
    by_place: dict[tuple[str, str], dict[str, float]],
    name: str,
) -> Score:
    before = by_place.get((place[0], BASELINE), {}).get(name)
    compared = None
    if before is not None and place[1] != BASELINE and not name.endswith("_n"):
        # No interval: resampling pictures adds bias to a distance of sets.
        compared = Interval(value - before, None, None, count, 0)
    return Score(place[0], place[1], slug, label, value, count, difference=compared)


def _reference(
    folder: Folder, recipe: SetEvaluator, features: dict[str, Any], plain: Sequence[Entry]
) -> references.Reference:
    if recipe.reference == BASELINE:
        jobs = [entry.job for entry in plain if entry.job in features]
        return references.from_features(scoring.stacked(features, jobs))
    return references.load(
        recipe.reference,
        recipe.features,
        _no_extractor,
        scoring.feature_folder(folder, recipe.features),
    )


def _check_finite(measured: Measured) -> None:
    for name, value in measured.values.items():
        if not math.isfinite(value):
            raise EvaluationError(f"{name} is not a finite number")


def _no_extractor(pictures: Any) -> Any:
    raise EvaluationError("the reference pictures have no features yet; run `adhere eval score`")


def _warnings(
    tables: _Tables, entries: Sequence[Entry], records: dict[str, dict[str, Any]]
) -> list[str]:
    found = [
        f"{count} pictures have no score of {text[:_LONGEST]}"
        for text, count in tables.errors.most_common(_MOST_ERRORS)
    ]
    if len(tables.errors) > _MOST_ERRORS:
        found.append(f"and {len(tables.errors) - _MOST_ERRORS} other reasons for missing scores")
    missing = sum(1 for entry in entries if entry.job not in records)
    if missing:
        found.insert(0, f"{missing} of {len(entries)} pictures are not made yet: a partial report")
    for (slug, column), by_place in tables.rows.items():
        cut = sum(value > 0 for values in by_place.values() for value in values.values())
        if column == "clip_cut" and cut:
            found.append(f"{slug}: the prompts of {cut} pictures are longer than CLIP reads")
    return found


def _failures(folder: Folder, records: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    return [
        {"job": job, "prompt": request.prompt, "error": str(records[job].get("error"))}
        for job, request in folder.manifest.jobs.items()
        if records.get(job, {}).get("status") == "failed"
    ]


def _values(tables: _Tables, labels: dict[tuple[str, str], str]) -> dict[str, dict[str, float]]:
    """Every picture's scores, by the entry's key."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for place, by_place in tables.rows.items():
        for (suite, variant), values in by_place.items():
            for (item, seed), value in values.items():
                found[f"{suite}/{item}/{variant}/{seed}"][labels.get(place, place[1])] = value
    return dict(found)


def _about(
    folder: Folder, recipes: Sequence[Evaluator], records: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    header = folder.manifest.header
    devices = sorted({str(row["device"]) for row in records.values() if row.get("device")})
    return {
        "name": header["experiment"]["name"],
        "model": header["identity"],
        "manifest": folder.manifest.fingerprint,
        "experiment": header["experiment"],
        "suites": header["suites"],
        "evaluators": {evaluators.slug(one): evaluators.to_json(one) for one in recipes},
        "pictures": {
            "entries": header["entries"],
            "jobs": header["jobs"],
            "done": sum(row.get("status") == "done" for row in records.values()),
        },
        "devices": devices,
        "versions": versions(),
        "commit": commit(),
    }


def versions() -> dict[str, str]:
    """Versions of what pictures and scores depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def commit() -> str | None:
    """The commit of the checkout that the code runs from, `+` when it was changed since."""
    here = Path(__file__).resolve().parent
    try:
        head = _git(here, "rev-parse", "HEAD")
        return head + ("+" if _git(here, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(where: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(where), *words], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()

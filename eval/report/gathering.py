"""Gather the scores of a run: means, intervals and paired differences by suite and variant."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adhere.eval.errors import EvaluationError
from adhere.eval.evaluators import table as evaluators
from adhere.eval.evaluators.evaluator import Column, Evaluator, SetEvaluator
from adhere.eval.evaluators.sets.accumulators import Overlap
from adhere.eval.report.about import about, left_alone, not_applicable
from adhere.eval.report.results import Results, Score, tested
from adhere.eval.report.set_scores import Place, set_scores
from adhere.eval.report.statistics import Key, difference, interval
from adhere.eval.run import stored
from adhere.eval.run.experiment import BASELINE
from adhere.eval.run.folder import Folder
from adhere.eval.run.manifest import Entry

_MOST_ERRORS = 10
_LONGEST = 300

Values = dict[Key, float]
Labels = dict[tuple[str, str], str]


@dataclass
class _Tables:
    """Scores by evaluator and column, then suite and variant, then picture."""

    rows: dict[tuple[str, str], dict[Place, Values]]
    overlaps: dict[str, dict[Place, Overlap]]
    errors: Counter[str]


def gather(
    folder: Folder,
    recipes: Sequence[Evaluator],
    left_out: dict[str, str],
    baseline: str = BASELINE,
) -> Results:
    """Compute all statistics of a run that was scored.

    Args:
        folder: the run.
        recipes: the evaluators to report.
        left_out: evaluators that could not be loaded, with the reason.
        baseline: the variant that the others are compared with.

    Raises:
        EvaluationError: there is no such variant.
    """
    entries = folder.manifest.entries
    _check_baseline(baseline, entries)
    records = folder.records()
    tables, labels = _tables(folder, entries, recipes), _labels(recipes)
    columns = {
        label: column
        for recipe in recipes
        for column in recipe.columns
        if (label := labels[evaluators.slug(recipe), column.name])
    }
    facts = about(folder, recipes, records)
    facts["baseline"] = baseline
    scores = list(_row_scores(folder, tables, labels, columns, baseline))
    warnings = [*not_applicable(facts["outcomes"]), *left_alone(entries, records)]
    warnings += _warnings(tables, entries, records)
    warnings += _set_aside(folder, recipes)
    scores += _overlap_scores(tables, columns)
    for recipe in recipes:
        if isinstance(recipe, SetEvaluator) and evaluators.slug(recipe) not in left_out:
            scores += [
                replace(score, column=labels[score.evaluator, name])
                for name, score in set_scores(
                    folder, recipe, _groups(entries), baseline, warnings, left_out
                )
            ]
    used = {score.column for score in scores}
    return Results(
        facts,
        {name: column for name, column in columns.items() if name in used},
        tested(scores, columns, folder.manifest.header["experiment"].get("primary")),
        list(dict.fromkeys(warnings)),
        _failures(folder, records),
        left_out,
        _values(tables, labels),
    )


def _check_baseline(baseline: str, entries: Iterable[Entry]) -> None:
    variants = list(dict.fromkeys(entry.variant for entry in entries))
    if baseline not in variants:
        raise EvaluationError(f"no variant is called {baseline!r}; there are {', '.join(variants)}")


def _groups(entries: Iterable[Entry]) -> dict[Place, list[Entry]]:
    found: dict[Place, list[Entry]] = defaultdict(list)
    for entry in entries:
        found[entry.suite, entry.variant].append(entry)
    return dict(found)


def _labels(recipes: Sequence[Evaluator]) -> Labels:
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
        found = stored.scores_of(folder, recipe)
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


def _row_scores(
    folder: Folder, tables: _Tables, labels: Labels, columns: Mapping[str, Column], baseline: str
) -> Iterable[Score]:
    """Every suite and variant as a whole and, where it has several, category by category."""
    groups = _groups(folder.manifest.entries)
    tags = {suite: _tags(entries) for (suite, _), entries in groups.items()}
    suites = folder.manifest.header["suites"]
    for (slug, name), by_place in tables.rows.items():
        label = labels.get((slug, name), name)
        column = columns.get(label, Column(name, ""))
        for place in groups:
            values, plain = by_place.get(place), by_place.get((place[0], baseline), {})
            if not values:
                continue
            known = tags[place[0]]
            equal = suites[place[0]].get("overall") == "tags"
            compared = {} if place[1] == baseline else plain
            yield _row_score(slug, label, place, values, compared, column, known if equal else {})
            for tag in _several(known):
                part = {key: value for key, value in values.items() if tag in known[key[0]]}
                if part:
                    score = _row_score(slug, label, place, part, compared, column, {})
                    yield replace(score, tag=tag)


def _tags(entries: Iterable[Entry]) -> dict[str, tuple[str, ...]]:
    return {entry.item.id: entry.item.tags for entry in entries}


def _several(tags: Mapping[str, Sequence[str]]) -> list[str]:
    """The categories of a suite, when it has more than one."""
    found = list(dict.fromkeys(tag for some in tags.values() for tag in some))
    return found if len(found) > 1 else []


def _row_score(
    slug: str,
    label: str,
    place: Place,
    values: Values,
    plain: Values,
    column: Column,
    tags: Mapping[str, Sequence[str]],
) -> Score:
    share = column.kind == "share"
    found = interval(values, share=share, weights=_weights(values, tags))
    assert found is not None  # only asked for where there are values
    both = {key: value for key, value in values.items() if key in plain}
    compared = difference(both, plain, share=share, weights=_weights(both, tags))
    return Score(
        *place, slug, label, found.mean, found.n, found.low, found.high, found.prompts, compared
    )


def _weights(values: Values, tags: Mapping[str, Sequence[str]]) -> dict[str, float] | None:
    """Weights with which every category counts the same, however many prompts it has."""
    if not tags:
        return None
    first = {item: (tags.get(item) or ("",))[0] for item, _ in values}
    counts = Counter(first.values())
    return {item: 1 / counts[tag] for item, tag in first.items()}


def _overlap_scores(tables: _Tables, columns: dict[str, Column]) -> list[Score]:
    scores = []
    for slug, by_place in tables.overlaps.items():
        for (suite, variant), overlap in by_place.items():
            name = "miou_classes"
            columns[name] = Column(name, "mIoU over the classes of the whole suite", kind="share")
            count = len(overlap.pixels)
            if math.isfinite(overlap.value()):
                scores.append(Score(suite, variant, slug, name, overlap.value(), count))
    return scores


def _warnings(
    tables: _Tables, entries: Sequence[Entry], records: Mapping[str, dict[str, Any]]
) -> list[str]:
    # What is not applicable is a result of its own, and told as one.
    told = {
        text: count
        for text, count in tables.errors.items()
        if ": picture is not applicable" not in text
    }
    most = Counter(told).most_common(_MOST_ERRORS)
    found = [f"{count} pictures have no score of {text[:_LONGEST]}" for text, count in most]
    if len(told) > _MOST_ERRORS:
        found.append(f"and {len(told) - _MOST_ERRORS} other reasons for missing scores")
    missing = sum(1 for entry in entries if entry.job not in records)
    if missing:
        found.insert(0, f"{missing} of {len(entries)} pictures are not made yet: a partial report")
    for (slug, column), by_place in tables.rows.items():
        cut = sum(value > 0 for values in by_place.values() for value in values.values())
        if column == "clip_cut" and cut:
            found.append(f"{slug}: the prompts of {cut} pictures are longer than CLIP reads")
    return found


def _set_aside(folder: Folder, recipes: Sequence[Evaluator]) -> list[str]:
    counts = {
        evaluators.slug(one): stored.set_aside(stored.rows_of(folder, one)) for one in recipes
    }
    return [
        f"{slug}: scores of other weights than the last scoring's are set aside"
        for slug, count in counts.items()
        if count
    ]


def _failures(folder: Folder, records: Mapping[str, dict[str, Any]]) -> list[dict[str, str]]:
    return [
        {"job": job, "prompt": request.prompt, "error": str(records[job].get("error"))}
        for job, request in folder.manifest.jobs.items()
        if records.get(job, {}).get("status") == "failed"
    ]


def _values(tables: _Tables, labels: Labels) -> dict[str, dict[str, float]]:
    """Every picture's scores, by the entry's key."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for place, by_place in tables.rows.items():
        for (suite, variant), values in by_place.items():
            for (item, seed), value in values.items():
                found[f"{suite}/{item}/{variant}/{seed}"][labels.get(place, place[1])] = value
    return dict(found)

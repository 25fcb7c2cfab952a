"""Gather the scores of a run: means, intervals and paired differences by suite and variant."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from adhere.eval.errors import EvaluationError
from adhere.eval.evaluators import table as evaluators
from adhere.eval.evaluators.evaluator import Evaluator, Measure, SetEvaluator
from adhere.eval.report.about import Making, about, making, not_applicable
from adhere.eval.report.results import Results, Score, tested
from adhere.eval.report.set_scores import set_scores
from adhere.eval.report.statistics import difference, interval
from adhere.eval.run.experiment import BASELINE
from adhere.eval.run.folder import Folder
from adhere.eval.run.ledger import NOT_YET
from adhere.eval.run.manifest import Manifest
from adhere.eval.scores import stored
from adhere.eval.scores.scored import Name, PictureScores, Place, Scored, Values, scored

_MOST_ERRORS = 10
_LONGEST = 300

Labels = dict[Name, str]


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
    manifest = folder.manifest
    check_baseline(baseline, manifest)
    ledger = folder.ledger()
    found, labels = scored(folder, recipes, ledger), _labels(recipes)
    made = making(ledger.records())
    columns = {
        label: column
        for recipe in recipes
        for column in recipe.columns
        if (label := labels[evaluators.slug(recipe), column.name])
    }
    facts = about(folder, recipes, made, found)
    facts["baseline"] = baseline
    scores = list(_row_scores(manifest, found, labels, columns, baseline))
    warnings = not_applicable(facts["outcomes"])
    warnings += [*_warnings(found), *_set_aside(folder, recipes)]
    scores += _overlap_scores(found, columns)
    for recipe in recipes:
        if isinstance(recipe, SetEvaluator) and evaluators.slug(recipe) not in left_out:
            counted = set_scores(folder, recipe, found, baseline, warnings, left_out)
            scores += [replace(one, column=labels[one.evaluator, name]) for name, one in counted]
    used = {score.column for score in scores}
    return Results(
        facts,
        {name: column for name, column in columns.items() if name in used},
        tested(scores, columns, manifest.header["experiment"].get("primary")),
        list(dict.fromkeys(warnings)),
        _failures(manifest, made),
        left_out,
        PictureScores(found, labels),
    )


def check_baseline(baseline: str, manifest: Manifest) -> None:
    """Raise `EvaluationError` where no variant of the plan is called so."""
    variants = list(manifest.requests.variants)
    if baseline not in variants:
        raise EvaluationError(f"no variant is called {baseline!r}; there are {', '.join(variants)}")


def _labels(recipes: Sequence[Evaluator]) -> Labels:
    """Column names; where two evaluators give the same column, with the evaluator's."""
    uses = Counter(column.name for recipe in recipes for column in recipe.columns)
    return {
        (slug, column.name): column.name if uses[column.name] == 1 else f"{column.name}@{slug}"
        for recipe in recipes
        for slug in [evaluators.slug(recipe)]
        for column in recipe.columns
    }


def _row_scores(
    manifest: Manifest,
    found: Scored,
    labels: Labels,
    columns: Mapping[str, Measure],
    baseline: str,
) -> Iterable[Score]:
    """Every suite and variant as a whole and, where it has several, category by category."""
    tags: dict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
    for (suite, item), some in found.tags.items():
        tags[suite][item] = some
    for name in found.columns:
        label = labels.get(name, name[1])
        column = columns.get(label, Measure(name[1], ""))
        for place in found.places:
            values = found.values(name, place)
            if not values:
                continue
            known = tags[place[0]]
            equal = manifest.header["suites"][place[0]].get("overall") == "tags"
            compared = {} if place[1] == baseline else found.values(name, (place[0], baseline))
            whole = known if equal else {}
            yield _row_score(name[0], label, place, values, compared, column, whole)
            for tag in _several(known):
                part = {key: value for key, value in values.items() if tag in known[key[0]]}
                if part:
                    score = _row_score(name[0], label, place, part, compared, column, {})
                    yield replace(score, tag=tag)


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
    column: Measure,
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


def _overlap_scores(found: Scored, columns: dict[str, Measure]) -> list[Score]:
    scores = []
    for slug, by_place in found.overlaps.items():
        for (suite, variant), overlap in by_place.items():
            name = "miou_classes"
            columns[name] = Measure(name, "mIoU over the classes of the whole suite", kind="share")
            count = len(overlap.pixels)
            if math.isfinite(overlap.value()):
                scores.append(Score(suite, variant, slug, name, overlap.value(), count))
    return scores


def _warnings(scored_: Scored) -> list[str]:
    # What is not applicable is a result of its own, and told as one.
    counted = {
        text: count
        for text, count in scored_.errors.items()
        if ": picture is not applicable" not in text
    }
    most = Counter(counted).most_common(_MOST_ERRORS)
    found = [f"{count} pictures have no score of {text[:_LONGEST]}" for text, count in most]
    if len(counted) > _MOST_ERRORS:
        found.append(f"and {len(counted) - _MOST_ERRORS} other reasons for missing scores")
    missing = int((scored_.status == NOT_YET).sum())
    if missing:
        found.insert(0, f"{missing} of {len(scored_)} pictures are not made yet: a partial report")
    for (slug, column), values in scored_.columns.items():
        cut = int((values > 0).sum())
        if column == "clip_cut" and cut:
            found.append(f"{slug}: the prompts of {cut} pictures are longer than CLIP reads")
    return found


def _set_aside(folder: Folder, recipes: Sequence[Evaluator]) -> list[str]:
    return [
        f"{evaluators.slug(one)}: scores of other weights than the last scoring's are set aside"
        for one in recipes
        if stored.set_aside(folder.place, stored.rows_of(one))
    ]


def _failures(manifest: Manifest, made: Making) -> list[dict[str, str]]:
    if not made.errors:
        return []
    return [
        {"job": entry.job, "prompt": entry.item.prompt, "error": made.errors[entry.job]}
        for entry in manifest.entries()
        if entry.makes and entry.job in made.errors
    ]

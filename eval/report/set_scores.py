"""Distances of whole sets of pictures, from the features that were kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from adhere.errors import GuidanceError
from adhere.eval.errors import EvaluationError
from adhere.eval.evaluators import table as evaluators
from adhere.eval.evaluators.evaluator import Measured, SetEvaluator
from adhere.eval.evaluators.sets import references
from adhere.eval.report.results import Score
from adhere.eval.report.statistics import Interval
from adhere.eval.run import stored
from adhere.eval.run.experiment import BASELINE
from adhere.eval.run.folder import Folder
from adhere.eval.run.manifest import Entry

Place = tuple[str, str]
"""A suite and a variant."""


def set_scores(
    folder: Folder,
    recipe: SetEvaluator,
    groups: Mapping[Place, Sequence[Entry]],
    baseline: str,
    warnings: list[str],
    left_out: dict[str, str],
) -> list[tuple[str, Score]]:
    """The distances of every suite and variant, each with the evaluator's name for the column.

    Differences to the baseline have no interval: resampling pictures adds bias to a distance.
    """
    slug = evaluators.slug(recipe)
    features = stored.features_of(folder, recipe.features)
    found: dict[Place, Measured] = {}
    counts: dict[Place, int] = {}
    for (suite, variant), entries in groups.items():
        jobs = [entry.job for entry in entries if entry.job in features]
        plain = groups.get((suite, BASELINE), [])
        if not jobs or (recipe.reference == BASELINE and variant == BASELINE):
            continue
        try:
            reference = _reference(folder, recipe, features, plain)
            measured = recipe.measure(stored.stacked(features, jobs), reference)
            _check_finite(measured)
        except (GuidanceError, RuntimeError) as error:
            # RuntimeError: a decomposition that does not converge on the features of a broken run.
            left_out[f"{slug} on {suite}/{variant}"] = str(error)
            continue
        found[suite, variant], counts[suite, variant] = measured, len(jobs)
        warnings.extend(f"{recipe.name} on {suite}/{variant}: {text}" for text in measured.warnings)
    return [
        (name, _score(slug, name, place, value, counts[place], found, baseline))
        for place, measured in found.items()
        for name, value in measured.values.items()
    ]


def _score(
    slug: str,
    name: str,
    place: Place,
    value: float,
    count: int,
    found: Mapping[Place, Measured],
    baseline: str,
) -> Score:
    suite, variant = place
    compared = None
    before = found[suite, baseline].values.get(name) if (suite, baseline) in found else None
    if before is not None and variant != baseline and not name.endswith("_n"):
        compared = Interval(value - before, None, None, count, 0, before=before)
    return Score(suite, variant, slug, name, value, count, difference=compared)


def _reference(
    folder: Folder, recipe: SetEvaluator, features: dict[str, Any], plain: Sequence[Entry]
) -> references.Reference:
    if recipe.reference == BASELINE:
        jobs = [entry.job for entry in plain if entry.job in features]
        return references.from_features(stored.stacked(features, jobs))
    return references.load(
        recipe.reference,
        recipe.features,
        _no_extractor,
        stored.current(stored.features_at(folder, recipe.features)),
    )


def _check_finite(measured: Measured) -> None:
    for name, value in measured.values.items():
        if not math.isfinite(value):
            raise EvaluationError(f"{name} is not a finite number")


def _no_extractor(pictures: Any) -> Any:
    raise EvaluationError("the reference pictures have no features yet; run `adhere eval score`")

"""Distances of whole sets of pictures, from the features that were kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adhere.errors import GuidanceError
from adhere.eval.errors import EvaluationError
from adhere.eval.evaluators import table as evaluators
from adhere.eval.evaluators.evaluator import Measured, SetEvaluator
from adhere.eval.evaluators.sets import references
from adhere.eval.report.results import Score
from adhere.eval.report.statistics import Interval
from adhere.eval.run.experiment import BASELINE
from adhere.eval.run.folder import Folder
from adhere.eval.scores import stored
from adhere.eval.scores.scored import Place, Scored


def set_scores(
    folder: Folder,
    recipe: SetEvaluator,
    scored: Scored,
    baseline: str,
    warnings: list[str],
    left_out: dict[str, str],
) -> list[tuple[str, Score]]:
    """The distances of every suite and variant, each with the evaluator's name for the column.

    Differences to the baseline have no interval: resampling pictures adds bias to a distance.
    """
    slug = evaluators.slug(recipe)
    found: dict[Place, Measured] = {}
    counts: dict[Place, int] = {}
    # Variants of one suite follow one another: so the plain pictures' features are read once.
    plain: tuple[str, Tensor] | None = None
    for suite, variant in scored.places:
        if recipe.reference == BASELINE and variant == BASELINE:
            continue
        if recipe.reference == BASELINE and (plain is None or plain[0] != suite):
            plain = suite, _features(folder, recipe, scored, (suite, BASELINE))
        features = _features(folder, recipe, scored, (suite, variant))
        if not len(features):
            continue
        try:
            reference = _reference(folder, recipe, plain[1] if plain else None)
            measured = recipe.measure(features, reference)
            _check_finite(measured)
        except (GuidanceError, RuntimeError) as error:
            # RuntimeError: a decomposition that does not converge on the features of a broken run.
            left_out[f"{slug} on {suite}/{variant}"] = str(error)
            continue
        found[suite, variant], counts[suite, variant] = measured, len(features)
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


def _features(folder: Folder, recipe: SetEvaluator, scored: Scored, place: Place) -> Tensor:
    """The features of a suite and variant, in the order of its pictures."""
    jobs = scored.jobs_of(place) if place in scored.places else []
    found = stored.features_of(folder, recipe.features, jobs)
    there = [found[job] for job in jobs if job in found]
    return torch.stack(there) if there else torch.empty(0, 0)


def _reference(folder: Folder, recipe: SetEvaluator, plain: Tensor | None) -> references.Reference:
    if plain is not None:
        return references.from_features(plain)
    cache = stored.current(folder.place, stored.features_at(recipe.features))
    return references.load(recipe.reference, recipe.features, _no_extractor, folder.place, cache)


def _check_finite(measured: Measured) -> None:
    for name, value in measured.values.items():
        if not math.isfinite(value):
            raise EvaluationError(f"{name} is not a finite number")


def _no_extractor(pictures: Any) -> Any:
    raise EvaluationError("the reference pictures have no features yet; run `adhere eval score`")

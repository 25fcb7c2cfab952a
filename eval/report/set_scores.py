"""Distances of whole sets of pictures, from the features that were kept."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
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
from adhere.eval.scores.scored import Key, Place, Scored

# RuntimeError: a decomposition that does not converge on the features of a broken run.
_FAILURES = (GuidanceError, RuntimeError)

Values = Mapping[str, float]

Features = Mapping[Key, Tensor]
"""The features of a suite and variant by item and seed, in the order of its pictures."""


def set_scores(
    folder: Folder,
    recipe: SetEvaluator,
    scored: Scored,
    baseline: str,
    warnings: list[str],
    left_out: dict[str, str],
) -> list[tuple[str, Score]]:
    """The distances of every suite and variant, each with the evaluator's name for the column.

    Differences to the baseline are on the pictures that both have, as the distance to `plain` is.
    They have no interval: resampling pictures adds bias to a distance.
    """
    slug, sets = evaluators.slug(recipe), _Sets(folder, recipe, scored)
    found: list[tuple[str, Score]] = []
    for place in scored.places:
        suite, variant = place
        sets.forget_but(place, (suite, BASELINE), (suite, baseline))
        if (recipe.reference == BASELINE and variant == BASELINE) or not sets.features(place):
            continue
        try:
            measured = sets.measure(place)
            before, after = _compared(sets, place, (suite, baseline))
        except _FAILURES as error:
            left_out[f"{slug} on {suite}/{variant}"] = str(error)
            continue
        count = len(sets.features(place))
        warnings.extend(f"{recipe.name} on {suite}/{variant}: {text}" for text in measured.warnings)
        for name, value in measured.values.items():
            compared = None
            if name in before and name in after and not name.endswith("_n"):
                change = after[name] - before[name]
                compared = Interval(change, None, None, count, 0, before=before[name])
            score = Score(suite, variant, slug, name, value, count, difference=compared)
            found.append((name, score))
    return found


def _compared(sets: _Sets, place: Place, plain: Place) -> tuple[Values, Values]:
    """The baseline's distances and a variant's, on the pictures that both have; or nothing."""
    both = sets.features(place).keys() & sets.features(plain).keys()
    if place == plain or not both or sets.recipe.reference == BASELINE == plain[1]:
        return {}, {}
    try:
        return sets.measure(plain, both).values, sets.measure(place, both).values
    except _FAILURES:
        return {}, {}  # too few pictures in common; the variant alone has its distance


class _Sets:
    """Features and distances of a run's sets."""

    def __init__(self, folder: Folder, recipe: SetEvaluator, scored: Scored) -> None:
        self.folder, self.recipe, self.scored = folder, recipe, scored
        self._features: dict[Place, Features] = {}
        self._whole: dict[Place, Measured] = {}

    def features(self, place: Place) -> Features:
        """The features of a suite and variant; empty where there are none."""
        if place not in self._features:
            jobs = self.scored.jobs_of(place) if place in self.scored.places else []
            found = stored.features_of(self.folder, self.recipe.features, jobs)
            keys = self.scored.keys[place] if jobs else []
            self._features[place] = {
                key: found[job] for key, job in zip(keys, jobs, strict=True) if job in found
            }
        return self._features[place]

    def forget_but(self, *places: Place) -> None:
        """Keep the features of some sets alone: those of a suite's variants are too many."""
        self._features = {
            place: self._features[place] for place in places if place in self._features
        }

    def measure(self, place: Place, only: Collection[Key] | None = None) -> Measured:
        """The distance of a suite and variant, or of some of its pictures."""
        features = self.features(place)
        whole = only is None or len(only) == len(features)
        if whole and place in self._whole:
            return self._whole[place]
        chosen = {key: one for key, one in features.items() if only is None or key in only}
        plain = None
        if self.recipe.reference == BASELINE:
            unguided = self.features((place[0], BASELINE))
            plain = _stacked([one for key, one in unguided.items() if key in chosen])
        measured = self.recipe.measure(
            _stacked(list(chosen.values())), _reference(self.folder, self.recipe, plain)
        )
        _check_finite(measured)
        if whole:
            self._whole[place] = measured
        return measured


def _stacked(features: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(features)) if features else torch.empty(0, 0)


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

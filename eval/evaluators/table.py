"""The evaluators: one table, from which the CLI, the report and the docs are derived."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any, cast

from adhere.errors import ParameterError
from adhere.eval.evaluators.asking.blip_vqa import BlipVqa
from adhere.eval.evaluators.asking.question_sets import QuestionSets
from adhere.eval.evaluators.asking.questions import Questions
from adhere.eval.evaluators.clip_score import ClipScore
from adhere.eval.evaluators.cost import Cost
from adhere.eval.evaluators.evaluator import Evaluator, Measure
from adhere.eval.evaluators.finding.detection import Detector
from adhere.eval.evaluators.finding.geneval import GenEval
from adhere.eval.evaluators.finding.lmd import LmdTasks
from adhere.eval.evaluators.finding.segmentation import Segmentation
from adhere.eval.evaluators.judging import ToyboxCopies, ToyboxJudge
from adhere.eval.evaluators.preference.clip_preference import Preference
from adhere.eval.evaluators.preference.image_reward import ImageReward
from adhere.eval.evaluators.safety.checker import SafetyChecker
from adhere.eval.evaluators.safety.clip_classifier import ClipClassifier
from adhere.eval.evaluators.safety.nudenet import NudeNet
from adhere.eval.evaluators.safety.q16 import Q16
from adhere.eval.evaluators.sets.set_evaluators import (
    ClipDiscrepancy,
    FrechetDistance,
    KernelDistance,
)
from adhere.eval.files import canonical, digest
from adhere.guides import parameters

EVALUATORS: dict[str, type] = {
    kind.name: kind
    for kind in (
        ToyboxJudge,
        ToyboxCopies,
        ClipScore,
        FrechetDistance,
        KernelDistance,
        ClipDiscrepancy,
        Detector,
        GenEval,
        LmdTasks,
        Segmentation,
        SafetyChecker,
        ClipClassifier,
        Q16,
        NudeNet,
        Preference,
        ImageReward,
        Questions,
        QuestionSets,
        BlipVqa,
        Cost,
    )
}


def available() -> dict[str, type]:
    """The table, with what installed packages bring (entry points `adhere.evaluators`)."""
    others = {entry.name: entry.load() for entry in entry_points(group="adhere.evaluators")}
    return {**EVALUATORS, **others}


def evaluator(spec: str | Mapping[str, Any]) -> Evaluator:
    """An evaluator from `name:key=value,...` or from its JSON (`evaluator` or `plugin` names it).

    Raises:
        ParameterError: an unknown evaluator or parameter, or a value out of range.
    """
    if isinstance(spec, str):
        name, _, values = spec.partition(":")
        return cast(Evaluator, parameters.from_text(_named(name.strip()), values))
    if not isinstance(spec, Mapping):
        raise ParameterError(f"evaluator {spec!r} is neither a text nor a mapping")
    data = dict(spec)
    name = str(data.pop("evaluator", data.pop("plugin", "")))
    return cast(Evaluator, parameters.from_json(_named(name), data))


def _named(name: str) -> type:
    table = available()
    if name not in table:
        raise ParameterError(
            f"no evaluator is called {name!r}; there are: {', '.join(sorted(table))}"
        )
    return table[name]


def to_json(recipe: Evaluator) -> dict[str, Any]:
    """An evaluator as plain data."""
    data = parameters.to_json(recipe)
    return {"evaluator": data.pop("plugin"), **data}


def slug(recipe: Evaluator) -> str:
    """A folder name that changes with the settings: scores of two settings never mix.

    An evaluator that has come to score otherwise says so with a `revision`.
    """
    revision = getattr(recipe, "revision", None)
    identity = to_json(recipe) if revision is None else {**to_json(recipe), "revision": revision}
    return f"{recipe.name}-{digest(canonical(identity), 8)}"


def columns(recipes: Iterable[Evaluator]) -> dict[str, Measure]:
    """All columns of some evaluators, by name; the first to name one describes it."""
    found: dict[str, Measure] = {}
    for recipe in recipes:
        for column in recipe.columns:
            found.setdefault(column.name, column)
    return found

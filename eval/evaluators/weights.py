"""Which weights an evaluator scores with: scores of two never mix, also under one path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from adhere.eval.evaluators.evaluator import Evaluator, SetEvaluator
from adhere.eval.files import canonical, digest
from adhere.eval.run import provenance
from adhere.eval.run.models import fingerprint_of_weights

NONE = "none"


def fingerprint(recipe: Evaluator) -> str:
    """Changes when the weights behind an evaluator's models do; `none` where it has no model."""
    if isinstance(recipe, SetEvaluator):
        return of_features(recipe.features)
    # The judge is code and a threshold rather than a network.
    names = getattr(recipe, "models", ())
    found = dict(_each([str(getattr(recipe, n)) for n in names if getattr(recipe, n)]))
    code = getattr(recipe, "code", None)
    if code is not None:
        found["code"] = provenance.module_code(code)
    return digest(canonical(found), 12) if found else NONE


def of_features(spec: str) -> str:
    """The same for an extractor: `toybox`, `clip:MODEL`..."""
    kind, _, model = spec.partition(":")
    return digest(canonical(dict(_each([model or kind]))), 12)


def _each(models: list[str]) -> Iterator[tuple[str, str]]:
    for model in models:
        yield model, _weights(model)


def _weights(model: str) -> str:
    if model == "toybox":
        from adhere.pipelines.toybox import toybox_folder

        return fingerprint_of_weights(toybox_folder("toybox"))
    if Path(model).exists():
        return fingerprint_of_weights(Path(model))
    return provenance.hub_revision(model) or "hub"

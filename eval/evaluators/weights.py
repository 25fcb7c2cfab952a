"""Which weights an evaluator scores with: scores of two never mix, also under one path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from adhere.eval.evaluators.evaluator import Evaluator, SetEvaluator
from adhere.eval.files import canonical, digest
from adhere.eval.run import provenance
from adhere.eval.run.models import fingerprint_of_weights

NONE = "none"
_PACKAGE = "hub"  # a model that comes with a package (Inception of torch-fidelity)


def fingerprint(recipe: Evaluator) -> str | None:
    """Changes when the weights behind an evaluator's models do; `none` where it has no model.

    None where a model is not to be found: whether it is another one cannot be said then.
    """
    if isinstance(recipe, SetEvaluator):
        return of_features(recipe.features)
    # The judge is code and a threshold rather than a network.
    names = getattr(recipe, "models", ())
    found = {model: _weights(model) for n in names if (model := str(getattr(recipe, n) or ""))}
    code = getattr(recipe, "code", None)
    if code is not None:
        found["code"] = provenance.module_code(code)
    return _digest(found) if found else NONE


def of_features(spec: str) -> str | None:
    """The same for an extractor: `toybox`, `clip:MODEL`..."""
    kind, _, model = spec.partition(":")
    return _digest({(one := model or kind): _weights(one)})


def _digest(found: Mapping[str, str | None]) -> str | None:
    return None if None in found.values() else digest(canonical(dict(found)), 12)


def _weights(model: str) -> str | None:
    if model == "toybox":
        from adhere.pipelines.toybox import toybox_folder

        return fingerprint_of_weights(toybox_folder("toybox"))
    if Path(model).exists():
        return fingerprint_of_weights(Path(model))
    if "/" not in model:
        return _PACKAGE
    # Before anything is scored: after it was loaded, a model would have another name.
    return provenance.hub_revision(model) or provenance.fetched_revision(model)

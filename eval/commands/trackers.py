"""The figures of a report to a tracker: Weights & Biases, MLflow or TensorBoard.

A number a suite, variant and score, and the differences beside them. Pictures stay where they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

from adhere.errors import ExtraMissing
from adhere.eval.errors import EvaluationError
from adhere.eval.files import canonical
from adhere.eval.report.results import Results

Track = Callable[[Results, str], None]
"""Given the results and where the run lies."""


def tracker(name: str) -> Track:
    """A tracker by its name; its package is loaded at once, so that a run fails before it begins.

    Raises:
        EvaluationError: no tracker is called so.
        ExtraMissing: its package is not installed.

    What is given back raises `EvaluationError` where the tracker fails, whose reasons are its own:
    nobody has logged in, no network, a name it does not take.
    """
    if name not in _TRACKERS:
        raise EvaluationError(f"--log {name}: use {', '.join(_TRACKERS)}")
    module, track = _TRACKERS[name]
    try:
        package = import_module(module)
    except ImportError as error:
        raise ExtraMissing(f"--log {name}", name) from error

    def told(results: Results, out: str) -> None:
        try:
            track(package, results, out)
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise EvaluationError(
                f"the report is written, but --log {name} failed ({what}); "
                f"when that is mended: adhere eval report {out} --log {name}"
            ) from error

    return told


def figures(results: Results) -> dict[str, float]:
    """Every mean by suite, variant, score and category; differences end in `/difference`."""
    found: dict[str, float] = {}
    for score in results.scores:
        parts = (score.suite, score.variant, score.column, score.tag)
        name = "/".join(part.replace("@", "-") for part in parts if part)
        found[name] = score.mean
        if score.difference is not None:
            found[f"{name}/difference"] = score.difference.mean
    return found


def _wandb(package: Any, results: Results, out: str) -> None:
    about = results.about
    run = package.init(project="adhere", name=about["name"], config=_settings(results))
    run.log(figures(results))
    run.finish()


def _mlflow(package: Any, results: Results, out: str) -> None:
    with package.start_run(run_name=results.about["name"]):
        package.log_params({key: canonical(one)[:250] for key, one in _settings(results).items()})
        # MLflow refuses other letters: the plus of a stack, say.
        package.log_metrics(
            {re.sub(r"[^\w. :/-]", "-", name): one for name, one in figures(results).items()}
        )


def _tensorboard(package: Any, results: Results, out: str) -> None:
    with package.SummaryWriter(log_dir=f"{out}/tensorboard") as writer:
        writer.add_text("settings", canonical(_settings(results)))
        for name, value in figures(results).items():
            writer.add_scalar(name, value, 0)


def _settings(results: Results) -> dict[str, Any]:
    about = results.about
    experiment = {key: one for key, one in about["experiment"].items() if one is not None}
    return {
        **experiment,
        **about["model"],
        "manifest": about["manifest"],
        "commit": about["commit"],
    }


_TRACKERS: dict[str, tuple[str, Callable[[Any, Results, str], None]]] = {
    "wandb": ("wandb", _wandb),
    "mlflow": ("mlflow", _mlflow),
    "tensorboard": ("torch.utils.tensorboard", _tensorboard),
}

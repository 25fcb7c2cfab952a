"""Making and scoring the study's pictures: resumable, in shards, within a stated time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from adhere.eval.evaluators import table as evaluators
from adhere.eval.evaluators.evaluator import Evaluator
from adhere.eval.progress import progress
from adhere.eval.report import report
from adhere.eval.report.results import Results
from adhere.eval.run import experiment, generate, manifest, models
from adhere.eval.run.experiment import Experiment
from adhere.eval.run.folder import Folder
from adhere.eval.run.shards import Shard
from adhere.eval.scores import scoring, stored
from adhere.pipelines.studio.request import Picture, Request
from benchmarks.effects import controls
from benchmarks.effects.claims import EXPERIMENTS
from benchmarks.effects.controls import Controls, Rows

SETS = frozenset({"kid", "cmmd"})
"""Scores of whole sets of pictures, which no control is chosen by."""


class TimeIsUp(KeyboardInterrupt):
    """The stated time is over: as if the run had been stopped between two batches."""


@dataclass(frozen=True)
class _Timed:
    """A maker that makes no batch after a time; in all else it is the maker."""

    make: models.Make
    until: float | None

    def __call__(self, requests: Sequence[Request]) -> Sequence[Picture]:
        if self.until is not None and time.monotonic() > self.until:
            raise TimeIsUp
        return self.make(requests)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.make, name)


def read(
    name: str, model: str | None = None, limit: int | None = None, seeds: int | None = None
) -> Experiment:
    """An experiment of `eval/experiments`, on another model, cut short or with more seeds."""
    path = EXPERIMENTS / f"{name}.yaml"
    changes = {"model": model, "dtype": "float32", "limit": limit, "seeds": seeds}
    return experiment.read(path, changes)  # on a GPU half precision would be the default


def with_controls(about: Experiment) -> dict[str, Experiment]:
    """The experiment and its controls' experiments, by the name of their folders."""
    few = _by_picture(about)
    all_of = (about, *controls.swept(few).values(), controls.more(few))
    return {each.name: each for each in all_of}


def _by_picture(about: Experiment) -> Experiment:
    """The experiment with the scores of single pictures only."""
    kept = tuple(one for one in about.evaluators if one not in SETS)
    return replace(about, evaluators=kept)


def folder_of(about: Experiment, runs: Path) -> Folder:
    """The run of one experiment, planned if it is not yet."""
    folder = Folder(runs / about.name)
    folder.plan(manifest.plan(about, models.fingerprint(about.model)))
    return folder


@dataclass(frozen=True)
class How:
    """By whom pictures are made and scored: one of several processes, on a device (the best there
    is if None), `batch` at a time (as the experiment says if None), until a time of
    `time.monotonic`.
    """

    shard: Shard = field(default_factory=Shard)
    device: str | None = None
    batch: int | None = None
    until: float | None = None


@cache
def loaded(*identity: Any) -> models.Make:
    """A study is many small runs of one model."""
    return models.studio(*identity)


def run(about: Experiment, runs: Path, how: How, variants: Sequence[str] = ()) -> None:
    """Makes the pictures of a shard that are not there yet, of all variants or of some.

    Raises:
        TimeIsUp: when `how.until` is past before a batch; the rest is for later.
    """
    folder = folder_of(about, runs)
    options = generate.Options(batch=how.batch or about.batch, device=how.device)

    def load(*identity: Any) -> models.Make:
        return _Timed(loaded(*identity), how.until)

    # The quick variants first, the dear ones overnight.
    generate.generate(
        folder, how.shard, options, load, progress, lambda e: not variants or e.variant in variants
    )


def score(about: Experiment, runs: Path, shard: Shard) -> None:
    """Scores a shard's pictures as far as they are made."""
    scoring.score(folder_of(about, runs), _recipes(about), shard, "cpu", progress)


def _recipes(about: Experiment) -> list[Evaluator]:
    return [evaluators.evaluator(spec) for spec in about.evaluators]


def results_of(about: Experiment, runs: Path) -> tuple[Folder, Results]:
    """Scores what is not scored yet, and gathers."""
    folder, recipes = folder_of(about, runs), _recipes(about)
    scoring.score(folder, recipes, Shard(), "cpu", progress)
    return folder, report.report(folder, recipes, stored.left_out(folder))


def controls_of(about: Experiment, runs: Path, kept: Mapping[str, Rows]) -> Controls:
    """The controls' scores, as far as their pictures are there or an earlier run's are `kept`."""
    few = _by_picture(about)

    def rows(each: Experiment) -> Rows:
        made = controls.rows(results_of(each, runs)[1]) if (runs / each.name).is_dir() else {}
        return max(kept.get(each.name, {}), made, key=len)

    scales = {scale: rows(each) for scale, each in controls.swept(few).items()}
    return Controls(scales, rows(controls.more(few)))


def rows_of_controls(about: Experiment, found: Controls) -> dict[str, Rows]:
    """The controls' scores by the names of their runs, those that there are."""
    swept = {each.name: found.scales[scale] for scale, each in controls.swept(about).items()}
    named = {**swept, controls.more(about).name: found.further}
    return {name: rows for name, rows in named.items() if rows}

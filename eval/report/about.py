"""How a run was made: settings, machines, versions, and what became of its pictures."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from adhere.eval.evaluators import table as evaluators
from adhere.eval.evaluators.evaluator import Evaluator, SetEvaluator
from adhere.eval.files import canonical
from adhere.eval.run import provenance
from adhere.eval.run.folder import Folder
from adhere.eval.run.ledger import DONE, FAILED, NOT_APPLICABLE
from adhere.eval.scores import stored
from adhere.eval.scores.scored import Scored


@dataclass
class Making:
    """What the logs say of how pictures were made, one row after the other.

    `errors` are why a job failed.
    """

    done: int = 0
    settings: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    versions: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    devices: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)
    revisions: set[str] = field(default_factory=set)
    errors: dict[str, str] = field(default_factory=dict)

    def add(self, row: Mapping[str, Any]) -> None:
        """Take in a row of a log."""
        if row.get("status") != DONE:
            if row.get("status") == FAILED:
                self.errors[str(row["job"])] = str(row.get("error"))
            return
        made = row.get("made") or {}
        self.done += 1
        for found, values in (
            (self.settings, row.get("settings") or {}),
            (self.versions, made.get("versions") or {}),
        ):
            for key, value in values.items():
                found[key][canonical(value)] = value
        for where, one in (
            (self.devices, row.get("device")),
            (self.hosts, made.get("host")),
            (self.revisions, made.get("revision")),
        ):
            if one:
                where.add(str(one))


def making(records: Iterable[Mapping[str, Any]]) -> Making:
    """What some rows say together."""
    found = Making()
    for row in records:
        found.add(row)
    return found


def about(
    folder: Folder, recipes: Sequence[Evaluator], made: Making, scored: Scored
) -> dict[str, Any]:
    """All that a reader must know to make the same run again."""
    manifest = folder.manifest
    return {
        "name": manifest.header["experiment"]["name"],
        "model": manifest.header["identity"],
        "manifest": manifest.fingerprint,
        "experiment": manifest.header["experiment"],
        "suites": manifest.header["suites"],
        "evaluators": {evaluators.slug(one): evaluators.to_json(one) for one in recipes},
        "evaluator_weights": {evaluators.slug(one): _weights(folder, one) for one in recipes},
        "pictures": {"entries": manifest.count, "jobs": manifest.job_count, "done": made.done},
        "outcomes": outcomes(scored),
        "settings": _sorted(made.settings),
        "devices": sorted(made.devices),
        "hosts": sorted(made.hosts),
        "made_with": _sorted(made.versions),
        "revisions": sorted(made.revisions),
        "versions": provenance.versions(),
        "commit": commit(),
    }


def _weights(folder: Folder, recipe: Evaluator) -> str:
    if isinstance(recipe, SetEvaluator):
        where = stored.features_at(recipe.features)
    else:
        where = stored.rows_of(recipe)
    return stored.current(folder.place, where).rpartition("/")[2]


def _sorted(found: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {key: sorted(values.values(), key=str) for key, values in sorted(found.items())}


def outcomes(scored: Scored) -> dict[str, dict[str, dict[str, int]]]:
    """For every suite and variant, how many pictures were made, failed, or were not applicable."""
    found: dict[str, dict[str, dict[str, int]]] = defaultdict(dict)
    for (suite, variant), numbers in scored.places.items():
        names, counts = np.unique(scored.status[numbers], return_counts=True)
        found[suite][variant] = dict(zip(names.tolist(), counts.tolist(), strict=True))
    return dict(found)


def not_applicable(made: Mapping[str, Mapping[str, Mapping[str, int]]]) -> list[str]:
    """A sentence for every variant that a suite has prompts without use for."""
    return [
        f"{variant} has nothing to do for {counts[NOT_APPLICABLE]} of {sum(counts.values())} "
        f"pictures of {suite}: its means are over the others, and so are its comparisons"
        for suite, by_variant in made.items()
        for variant, counts in by_variant.items()
        if counts.get(NOT_APPLICABLE)
    ]


def commit() -> str | None:
    """The commit of the checkout that the code runs from, `+` when it was changed since."""
    here = Path(__file__).resolve().parent
    try:
        head = _git(here, "rev-parse", "HEAD")
        return head + ("+" if _git(here, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(where: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(where), *words], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()

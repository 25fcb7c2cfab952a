"""How a run was made: settings, machines, versions, and what became of its pictures."""

from __future__ import annotations

import subprocess
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adhere.eval.evaluators import table as evaluators
from adhere.eval.evaluators.evaluator import Evaluator, SetEvaluator
from adhere.eval.run import provenance, stored
from adhere.eval.run.folder import Folder
from adhere.eval.run.generate import NOT_APPLICABLE
from adhere.eval.run.manifest import Entry

Records = Mapping[str, dict[str, Any]]


def about(folder: Folder, recipes: Sequence[Evaluator], records: Records) -> dict[str, Any]:
    """All that a reader must know to make the same run again."""
    header = folder.manifest.header
    done = [row for row in records.values() if row.get("status") == "done"]
    made = [row.get("made") or {} for row in done]
    return {
        "name": header["experiment"]["name"],
        "model": header["identity"],
        "manifest": folder.manifest.fingerprint,
        "experiment": header["experiment"],
        "suites": header["suites"],
        "evaluators": {evaluators.slug(one): evaluators.to_json(one) for one in recipes},
        "evaluator_weights": {evaluators.slug(one): _weights(folder, one) for one in recipes},
        "pictures": {"entries": header["entries"], "jobs": header["jobs"], "done": len(done)},
        "outcomes": outcomes(folder.manifest.entries, records),
        "settings": _all_of([row.get("settings") or {} for row in done]),
        "devices": sorted({str(row["device"]) for row in done if row.get("device")}),
        "hosts": sorted({str(one["host"]) for one in made if one.get("host")}),
        "made_with": _all_of([one.get("versions") or {} for one in made]),
        "revisions": sorted({str(one["revision"]) for one in made if one.get("revision")}),
        "versions": provenance.versions(),
        "commit": commit(),
    }


def _weights(folder: Folder, recipe: Evaluator) -> str:
    if isinstance(recipe, SetEvaluator):
        return stored.current(stored.features_at(folder, recipe.features)).name
    return stored.current(stored.rows_of(folder, recipe)).name


def _all_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Every value that each key has in any row."""
    found: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        for key, value in row.items():
            if value not in found[key]:
                found[key].append(value)
    return {key: sorted(values, key=str) for key, values in sorted(found.items())}


def outcomes(entries: Sequence[Entry], records: Records) -> dict[str, dict[str, dict[str, int]]]:
    """For every suite and variant, how many pictures were made, failed, or were not applicable."""
    found: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for entry in entries:
        status = str(records.get(entry.job, {}).get("status", "not made yet"))
        found[entry.suite][entry.variant][status] += 1
    return {
        suite: {variant: dict(sorted(counts.items())) for variant, counts in by_variant.items()}
        for suite, by_variant in found.items()
    }


def left_alone(entries: Sequence[Entry], records: Records) -> list[str]:
    """A sentence for every variant whose methods left pictures as the unguided ones are."""
    found: dict[tuple[str, str], Counter[bool]] = defaultdict(Counter)
    for entry in entries:
        row = records.get(entry.job, {})
        if row.get("status") == "done" and entry.request.plugins:
            notes = [str(note) for note in (row.get("report") or {}).get("notes") or ()]
            idle = all(
                any(note.startswith(f"{one.name} left ") and " alone: " in note for note in notes)
                for one in entry.request.plugins
            )
            found[entry.suite, entry.variant][idle] += 1
    return [
        f"{variant} left {counts[True]} of {counts.total()} pictures of {suite} alone: it had "
        "nothing to do for their prompts, and they are the unguided ones"
        for (suite, variant), counts in found.items()
        if counts[True]
    ]


def not_applicable(told: Mapping[str, Mapping[str, Mapping[str, int]]]) -> list[str]:
    """A sentence for every variant that a suite has prompts without use for."""
    return [
        f"{variant} has nothing to do for {counts[NOT_APPLICABLE]} of {sum(counts.values())} "
        f"pictures of {suite}: its means are over the others, and so are its comparisons"
        for suite, by_variant in told.items()
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

"""Where scores and features lie, and how they are read.

scores/<evaluator>/weights.json          the weights that the last scoring had
scores/<evaluator>/<weights>/<shard>.jsonl   one row for each entry
features/<extractor>/<weights>/000001.safetensors   the features of a chunk
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adhere.eval.evaluators import table as evaluators
from adhere.eval.evaluators.evaluator import Evaluator
from adhere.eval.files import canonical, digest, rows, write_atomic
from adhere.eval.run.folder import Folder

_WEIGHTS = "weights.json"
Record = dict[str, Any]


def rows_of(folder: Folder, recipe: Evaluator) -> Path:
    """Where an evaluator's rows are, whatever weights they were scored with."""
    return folder.path / "scores" / evaluators.slug(recipe)


def features_at(folder: Folder, spec: str) -> Path:
    """Where an extractor's features are, whatever weights made them."""
    name = "".join(letter if letter.isalnum() else "-" for letter in spec)[-40:]
    return folder.path / "features" / f"{name}-{digest(spec, 8)}"


def current(place: Path) -> Path:
    """The part of `place` that was made with the weights of the last scoring."""
    try:
        found = json.loads((place / _WEIGHTS).read_text(encoding="utf-8"))
        return place / str(found["weights"])
    except (OSError, ValueError, KeyError, TypeError):
        return place / "nothing"


def use(place: Path, weights: str) -> Path:
    """The part of `place` for these weights, which is the current one from now on."""
    if current(place).name != weights:
        write_atomic(place / _WEIGHTS, canonical({"weights": weights}).encode())
    return place / weights


def set_aside(place: Path) -> int:
    """How many rows or files there are of other weights than the current ones."""
    now = current(place).name
    return sum(1 for other in place.glob("*/*") if other.parent.name != now)


def scores_of(folder: Folder, recipe: Evaluator) -> dict[str, Record]:
    """The rows of an evaluator by entry; of several, a good one counts, and of these the last."""
    return rows_in(current(rows_of(folder, recipe)))


def rows_in(place: Path) -> dict[str, Record]:
    """The rows of all shards in a folder, by entry."""
    found: dict[str, Record] = {}
    for path in sorted(place.glob("*.jsonl")):
        for row in rows(path):
            key = str(row.get("key"))
            if "values" in row or "values" not in found.get(key, {}):
                found[key] = row
    return found


def features_of(folder: Folder, spec: str) -> dict[str, Tensor]:
    """All features that were kept, by job."""
    from safetensors.torch import load_file

    found: dict[str, Tensor] = {}
    for path in sorted(current(features_at(folder, spec)).glob("[0-9]*.safetensors")):
        jobs = kept_jobs(path)
        if jobs:
            found.update(zip(jobs, load_file(path)["features"], strict=True))
    return found


def kept_jobs(path: Path) -> dict[str, str]:
    """The jobs of a file of features, each with the checksum of its picture."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            jobs, sums = str(about.get("jobs", "")).split(), str(about.get("pictures", "")).split()
    except (OSError, SafetensorError):
        return {}
    return dict(zip(jobs, sums, strict=True)) if len(jobs) == len(sums) else {}


def keep_features(path: Path, features: Tensor, pictures: dict[str, str]) -> None:
    """Write the features of some jobs, with the checksums of their pictures."""
    from safetensors.torch import save

    about = {"jobs": " ".join(pictures), "pictures": " ".join(pictures.values())}
    write_atomic(path, save({"features": features.float().contiguous()}, about))


def stacked(features: dict[str, Tensor], jobs: Sequence[str]) -> Tensor:
    """The features of some jobs that have any, in their order."""
    return torch.stack([features[job] for job in jobs if job in features])


def _left_out(folder: Folder) -> Path:
    return folder.path / "scores" / "left_out.json"


def left_out(folder: Folder) -> dict[str, str]:
    """The evaluators that the last scoring had to leave out, with the reasons."""
    try:
        found: dict[str, str] = json.loads(_left_out(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def keep_left_out(folder: Folder, found: dict[str, str]) -> None:
    """Keep what was left out, for the report."""
    if found != left_out(folder) or not _left_out(folder).is_file():
        write_atomic(_left_out(folder), canonical(found).encode())

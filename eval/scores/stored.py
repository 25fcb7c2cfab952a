"""Where scores and features lie, and how they are read.

scores/<evaluator>/weights.json          the weights that the last scoring had
scores/<evaluator>/<weights>/<block>.jsonl   one row for each entry of a block
features/<extractor>/<weights>/<block>/<chunk>.safetensors   the features of a chunk
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from adhere.eval.evaluators import table as evaluators
from adhere.eval.evaluators.evaluator import Evaluator
from adhere.eval.files import canonical, digest, rows
from adhere.eval.places import Place
from adhere.eval.run.folder import Folder

_WEIGHTS = "weights.json"
_NOTHING, _UNKNOWN = "nothing", "unknown"
Record = dict[str, Any]


def rows_of(recipe: Evaluator) -> str:
    """Where an evaluator's rows are, whatever weights they were scored with."""
    return f"scores/{evaluators.slug(recipe)}"


def features_at(spec: str) -> str:
    """Where an extractor's features are, whatever weights made them."""
    name = "".join(letter if letter.isalnum() else "-" for letter in spec)[-40:]
    return f"features/{name}-{digest(spec, 8)}"


def current(place: Place, folder: str) -> str:
    """The part of `folder` that was made with the weights of the last scoring."""
    try:
        found = json.loads(place.read(f"{folder}/{_WEIGHTS}"))
        return f"{folder}/{found['weights']}"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{folder}/{_NOTHING}"


def use(place: Place, folder: str, weights: str | None) -> str:
    """The part of `folder` for these weights, which is the current one from now on.

    Where it cannot be said which weights they are, the current one stays.
    """
    if weights is None:
        if not current(place, folder).endswith(f"/{_NOTHING}"):
            return current(place, folder)
        weights = _UNKNOWN
    if current(place, folder) != f"{folder}/{weights}":
        place.write(f"{folder}/{_WEIGHTS}", canonical({"weights": weights}).encode())
    return f"{folder}/{weights}"


def set_aside(place: Place, folder: str) -> list[str]:
    """Other weights than the current ones of which there is something."""
    now = current(place, folder).rpartition("/")[2]
    return [name for name in place.folders(folder) if name != now]


def rows_in(place: Place, folder: str, block: str) -> dict[str, Record]:
    """The rows of a block by entry; of several, a good one counts, and of these the last."""
    found: dict[str, Record] = {}
    for name in place.logs(f"{folder}/{block}.jsonl"):
        for row in rows(place.read(name)):
            key = str(row.get("key"))
            if "values" in row or "values" not in found.get(key, {}):
                found[key] = row
    return found


def scores_of(folder: Folder, recipe: Evaluator) -> dict[str, Record]:
    """All rows of an evaluator by entry, at once: for small runs."""
    where = current(folder.place, rows_of(recipe))
    blocks = dict.fromkeys(name.partition(".")[0] for name in folder.place.names(where))
    return {
        key: row for block in blocks for key, row in rows_in(folder.place, where, block).items()
    }


def features_of(folder: Folder, spec: str, jobs: Iterable[str] | None = None) -> dict[str, Tensor]:
    """The features that were kept, by job; of some jobs only where these are given."""
    wanted = None if jobs is None else frozenset(jobs)
    found: dict[str, Tensor] = {}
    for name in _files(folder.place, current(folder.place, features_at(spec))):
        about, features = _loaded(folder.place, name)
        chosen = [number for number, job in enumerate(about) if wanted is None or job in wanted]
        if chosen:
            # One copy of what is wanted: a view would keep the whole file.
            some = features[chosen]
            names = list(about)
            found.update((names[number], some[at]) for at, number in enumerate(chosen))
    return found


def _files(place: Place, where: str) -> Iterator[str]:
    for block in place.folders(where):
        yield from (f"{where}/{block}/{name}" for name in place.names(f"{where}/{block}"))


def _loaded(place: Place, name: str) -> tuple[dict[str, str], Tensor]:
    """The jobs of a file of features, each with the checksum of its picture, and the features."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        data = place.read(name)
        features = load(data)["features"]
        about = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        jobs, sums = about["jobs"].split(), about["pictures"].split()
    except (OSError, SafetensorError, KeyError, ValueError):
        return {}, torch.empty(0, 0)
    sums_by_job = dict(zip(jobs, sums, strict=False))
    return (sums_by_job, features) if len(sums_by_job) == len(features) else ({}, torch.empty(0, 0))


def kept_jobs(place: Place, name: str) -> dict[str, str]:
    """The jobs of a file of features, each with the checksum of its picture."""
    from safetensors import SafetensorError, safe_open

    if place.local is None:
        return _loaded(place, name)[0]
    try:
        with safe_open(place.local / name, framework="pt") as file:
            about = file.metadata() or {}
    except (OSError, SafetensorError):
        return {}
    jobs, sums = str(about.get("jobs", "")).split(), str(about.get("pictures", "")).split()
    return dict(zip(jobs, sums, strict=True)) if len(jobs) == len(sums) else {}


def keep_features(place: Place, name: str, features: Tensor, pictures: dict[str, str]) -> None:
    """Write the features of some jobs, with the checksums of their pictures."""
    from safetensors.torch import save

    about = {"jobs": " ".join(pictures), "pictures": " ".join(pictures.values())}
    place.write(name, save({"features": features.float().contiguous()}, about))


_LEFT_OUT = "scores/left_out.json"


def left_out(folder: Folder) -> dict[str, str]:
    """The evaluators that the last scoring had to leave out, with the reasons."""
    try:
        found: dict[str, str] = json.loads(folder.place.read(_LEFT_OUT))
    except (OSError, ValueError):
        return {}
    return found


def keep_left_out(folder: Folder, found: dict[str, str]) -> None:
    """Keep what was left out, for the report."""
    if found != left_out(folder) or not folder.place.sizes([_LEFT_OUT])[0]:
        folder.place.write(_LEFT_OUT, canonical(found).encode())

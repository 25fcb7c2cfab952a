"""Score the pictures of a run: streamed in chunks, resumable, in shards.

Chunks are cut from the whole manifest, like batches: what a picture scores does not depend on how
many shards there are or where a run was killed. For every evaluator there is a folder of rows
(JSONL, a file for each shard), for every extractor one of features (safetensors, a file for each
chunk). A picture that is missing or damaged gets an error row and is tried again next time.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from adhere.errors import GuidanceError
from adhere.eval.evaluators import table as evaluators
from adhere.eval.evaluators.evaluator import Evaluator, Row, Scorer, SetEvaluator, Shown
from adhere.eval.evaluators.sets import extractors, references
from adhere.eval.files import Log, canonical, digest, rows, write_atomic
from adhere.eval.run.folder import Folder
from adhere.eval.run.shards import Shard

CHUNK = 32

Chunk = tuple[int, tuple[str, ...]]
OnDone = Callable[[int], None]


@dataclass
class Summary:
    """What a call of `score` did: pictures scored, skipped and bad; evaluators left out."""

    scored: int = 0
    skipped: int = 0
    bad: dict[str, str] = field(default_factory=dict)
    errors: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass
class _Rows:
    """A row evaluator at work: its scorer, its log, and the entries that have their row."""

    scorer: Scorer
    log: Log
    over: set[str]


@dataclass
class _Features:
    """An extractor at work: its folder of features."""

    extract: extractors.Extract
    folder: Path


def _left_out(folder: Folder) -> Path:
    return folder.path / "scores" / "left_out.json"


def left_out(folder: Folder) -> dict[str, str]:
    """The evaluators that the last scoring had to leave out, with the reasons."""
    try:
        found: dict[str, str] = json.loads(_left_out(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def row_folder(folder: Folder, recipe: Evaluator) -> Path:
    """Where an evaluator's rows are."""
    return folder.path / "scores" / evaluators.slug(recipe)


def feature_folder(folder: Folder, spec: str) -> Path:
    """Where an extractor's features are."""
    name = "".join(letter if letter.isalnum() else "-" for letter in spec)[-40:]
    return folder.path / "features" / f"{name}-{digest(spec, 8)}"


def chunks(jobs: Sequence[str], size: int = CHUNK) -> list[Chunk]:
    """The jobs in numbered pieces."""
    starts = range(0, len(jobs), size)
    return [(number, tuple(jobs[start : start + size])) for number, start in enumerate(starts)]


def score(
    folder: Folder,
    recipes: Iterable[Evaluator],
    shard: Shard = Shard(),
    device: str = "cpu",
    on_done: OnDone | None = None,
) -> Summary:
    """Score this shard's part of the pictures that are there.

    An evaluator that cannot be loaded (a missing extra, a model that is not there) is left out and
    named in the summary; the others go on.
    """
    started = time.perf_counter()
    summary = Summary()
    with ExitStack() as stack:
        at_work, features = _load(folder, recipes, shard, device, summary, stack)
        write_atomic(_left_out(folder), canonical(summary.left_out).encode())
        records = folder.records()
        for chunk in shard.of(chunks(list(folder.manifest.jobs))):
            _score_chunk(folder, chunk, at_work, features, records, summary)
            if on_done is not None:
                on_done(len(chunk[1]))
    summary.seconds = time.perf_counter() - started
    return summary


def _load(
    folder: Folder,
    recipes: Iterable[Evaluator],
    shard: Shard,
    device: str,
    summary: Summary,
    stack: ExitStack,
) -> tuple[list[_Rows], dict[str, _Features]]:
    at_work: list[_Rows] = []
    features: dict[str, _Features] = {}
    for recipe in recipes:
        slug = evaluators.slug(recipe)
        try:
            if isinstance(recipe, SetEvaluator):
                _load_features(folder, recipe, device, features)
            else:
                place = row_folder(folder, recipe)
                scorer = recipe.load(device)
                journal = stack.enter_context(Log(place / f"{shard}.jsonl"))
                at_work.append(_Rows(scorer, journal, _scored(place)))
        except (GuidanceError, OSError, RuntimeError) as error:
            summary.left_out[slug] = f"{type(error).__name__}: {error}"
    return at_work, features


def _load_features(
    folder: Folder, recipe: SetEvaluator, device: str, features: dict[str, _Features]
) -> None:
    place = feature_folder(folder, recipe.features)
    if recipe.features not in features:
        features[recipe.features] = _Features(extractors.load(recipe.features, device), place)
    if recipe.reference != "plain":
        # Made here, where the extractor is at hand; the report then needs no model.
        extract = features[recipe.features].extract
        references.load(recipe.reference, recipe.features, extract, place)


def _scored(place: Path) -> set[str]:
    found: dict[str, bool] = {}
    for path in sorted(place.glob("*.jsonl")):
        for row in rows(path):
            key = str(row.get("key"))
            found[key] = found.get(key, False) or "values" in row
    return {key for key, fine in found.items() if fine}


def _score_chunk(
    folder: Folder,
    chunk: Chunk,
    at_work: Sequence[_Rows],
    features: dict[str, _Features],
    records: dict[str, Any],
    summary: Summary,
) -> None:
    number, jobs = chunk
    entries = [entry for job in jobs for entry in folder.manifest.entries_of[job]]
    keys = {entry.key for entry in entries}
    lacking = [one for one in at_work if not keys <= one.over]
    wanted = [one for one in features.values() if not _complete(one.folder, number, jobs)]
    if not lacking and not wanted:
        summary.skipped += len(jobs)
        return
    images: dict[str, Image.Image] = {}
    for job in jobs:
        opened = open_picture(folder.image(job), records.get(job))
        if isinstance(opened, str):
            summary.bad[job] = opened
        else:
            images[job] = opened
    for one in lacking:
        _score_rows(one, entries, images, records, summary)
    for extractor in wanted:
        _keep_features(extractor, number, images)
    summary.scored += len(images)


def open_picture(path: Path, record: dict[str, Any] | None) -> Image.Image | str:
    """A picture, decoded; or in words what is wrong with it."""
    if record is not None and record.get("status") == "failed":
        return f"was not made: {record.get('error')}"
    if not path.is_file():
        return "is missing" if record is not None else "is not made yet"
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        return f"is damaged: {error}"


def _score_rows(
    one: _Rows,
    entries: Sequence[Any],
    images: dict[str, Image.Image],
    records: dict[str, Any],
    summary: Summary,
) -> None:
    """Score the whole chunk, so that it is always the same chunk, and log what is new."""
    shown = [
        Shown(images[entry.job], entry, records.get(entry.job) or {})
        for entry in entries
        if entry.job in images
    ]
    made = []
    for each, row in zip(shown, _rows_of(one.scorer, shown), strict=True):
        if each.entry.key in one.over:
            continue
        if isinstance(row, str):
            summary.errors += 1
            made.append({"key": each.entry.key, "error": row})
            continue
        line: dict[str, Any] = {"key": each.entry.key, "values": dict(row.values)}
        if row.overlap:
            line["overlap"] = {name: list(counts) for name, counts in row.overlap.items()}
        if row.notes:
            line["notes"] = dict(row.notes)
        made.append(line)
        one.over.add(each.entry.key)
    missing = [entry for entry in entries if entry.job not in images]
    made.extend(
        {"key": entry.key, "error": f"picture {summary.bad[entry.job]}"}
        for entry in missing
        if entry.key not in one.over
    )
    if made:
        one.log.append(*made)


def _rows_of(scorer: Scorer, shown: Sequence[Shown]) -> list[Row | str]:
    """Rows, or in words why there is none; one bad picture does not spoil its chunk."""
    if not shown:
        return []
    try:
        return [_finite(row) for row in scorer(shown)]
    except Exception as error:
        if len(shown) == 1:
            return [f"{type(error).__name__}: {error}"[:2000]]
        return [row for one in shown for row in _rows_of(scorer, [one])]


def _finite(row: Row | str) -> Row | str:
    if isinstance(row, str):
        return row
    bad = [name for name, value in row.values.items() if not math.isfinite(value)]
    return f"{bad[0]} is not a finite number" if bad else row


def _complete(place: Path, number: int, jobs: Sequence[str]) -> bool:
    return set(_kept(place / f"{number:06d}.safetensors")) >= set(jobs)


def _kept(path: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return []
    try:
        with safe_open(path, framework="pt") as file:
            return str((file.metadata() or {}).get("jobs", "")).split()
    except (OSError, SafetensorError):
        return []


def _keep_features(one: _Features, number: int, images: dict[str, Image.Image]) -> None:
    from safetensors.torch import save

    if images:
        found = one.extract(list(images.values())).float().contiguous()
        data = save({"features": found}, {"jobs": " ".join(images)})
        write_atomic(one.folder / f"{number:06d}.safetensors", data)


def features_of(folder: Folder, spec: str) -> dict[str, Tensor]:
    """All features that were kept, by job."""
    from safetensors.torch import load_file

    found: dict[str, Tensor] = {}
    for path in sorted(feature_folder(folder, spec).glob("[0-9]*.safetensors")):
        jobs = _kept(path)
        if jobs:
            found.update(zip(jobs, load_file(path)["features"], strict=True))
    return found


def scores_of(folder: Folder, recipe: Evaluator) -> dict[str, dict[str, Any]]:
    """The rows of an evaluator by entry; of several, a good one counts."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(row_folder(folder, recipe).glob("*.jsonl")):
        for row in rows(path):
            key = str(row.get("key"))
            if "values" in row or "values" not in found.get(key, {}):
                found[key] = row
    return found


def stacked(features: dict[str, Tensor], jobs: Sequence[str]) -> Tensor:
    """The features of some jobs that have any, in their order."""
    return torch.stack([features[job] for job in jobs if job in features])

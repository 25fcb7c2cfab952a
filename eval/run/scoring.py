"""Score the pictures of a run: streamed in chunks, resumable, in shards.

Chunks are cut from the whole manifest, like batches: what a picture scores does not depend on how
many shards there are or where a run was killed. A row tells the checksum of the picture it is of,
so a picture that was made anew is scored anew. A picture that is missing or is not the one that was
written gets an error row and is tried again next time; one that could not be made, or that an
evaluator says it cannot judge, is not.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from adhere.errors import GuidanceError
from adhere.eval.errors import Busy
from adhere.eval.evaluators import table as evaluators
from adhere.eval.evaluators import weights
from adhere.eval.evaluators.evaluator import (
    Evaluator,
    Row,
    RowEvaluator,
    Scorer,
    SetEvaluator,
    Shown,
)
from adhere.eval.evaluators.sets import extractors, references
from adhere.eval.files import Log, digest
from adhere.eval.run import stored
from adhere.eval.run.folder import Folder
from adhere.eval.run.manifest import Entry
from adhere.eval.run.shards import Shard

CHUNK = 32
NOT_MADE = "not made"
"""Stands for the checksum of a picture that could not be made."""

Chunk = tuple[int, tuple[str, ...]]
OnDone = Callable[[int], None]
_FAILURES = (GuidanceError, OSError, RuntimeError, ValueError, TypeError, KeyError)


@dataclass
class Summary:
    """What a call of `score` did: pictures scored, skipped and bad; evaluators left out."""

    scored: int = 0
    skipped: int = 0
    bad: dict[str, str] = field(default_factory=dict)
    errors: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    busy: int = 0
    seconds: float = 0.0


@dataclass
class _Rows:
    """A row evaluator at work: loaded when a chunk first lacks it."""

    recipe: RowEvaluator
    place: Path
    device: str
    known: dict[str, dict[str, Any]]

    @cached_property
    def scorer(self) -> Scorer:
        return self.recipe.load(self.device)

    def settled(self, entry: Entry, picture: str) -> bool:
        """Whether an entry needs no look: scored, or given up, for this very picture."""
        row = self.known.get(entry.key, {})
        return row.get("picture") == picture and ("values" in row or bool(row.get("permanent")))


@dataclass
class _Features:
    """An extractor at work: loaded when a chunk first lacks its features."""

    spec: str
    place: Path
    device: str

    @cached_property
    def network(self) -> extractors.Extract:
        return extractors.load(self.spec, self.device)

    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        return self.network(images)

    def lacks(self, number: int, pictures: Mapping[str, str]) -> bool:
        """Whether features of some of these pictures are not there."""
        kept = stored.kept_jobs(self.file(number))
        return any(kept.get(job) != told for job, told in pictures.items() if told != NOT_MADE)

    def file(self, number: int) -> Path:
        return self.place / f"{number:06d}.safetensors"


class Session:
    """Evaluators for a run, each loaded once at the most, for any number of shards."""

    def __init__(self, folder: Folder, recipes: Iterable[Evaluator], device: str = "cpu") -> None:
        self.folder, self.device = folder, device
        self.rows: dict[str, _Rows] = {}
        self.features: dict[str, _Features] = {}
        self.left_out: dict[str, str] = {}
        self._sets: list[tuple[str, SetEvaluator]] = []
        for recipe in recipes:
            slug = evaluators.slug(recipe)
            with self._leaving_out(slug):
                self._prepare(slug, recipe)

    def _leaving_out(self, *slugs: str) -> _LeaveOut:
        return _LeaveOut(self, slugs)

    def _prepare(self, slug: str, recipe: Evaluator) -> None:
        told = weights.fingerprint(recipe)
        if isinstance(recipe, SetEvaluator):
            place = stored.use(stored.features_at(self.folder, recipe.features), told)
            self.features.setdefault(
                recipe.features, _Features(recipe.features, place, self.device)
            )
            self._sets.append((slug, recipe))
            return
        place = stored.use(stored.rows_of(self.folder, recipe), told)
        self.rows[slug] = _Rows(recipe, place, self.device, stored.rows_in(place))

    def drop(self, slugs: Iterable[str], why: str) -> None:
        """Leave evaluators out from here on, and say why."""
        for slug in slugs:
            self.left_out.setdefault(slug, why)
            self.rows.pop(slug, None)
        self._sets = [(slug, recipe) for slug, recipe in self._sets if slug not in self.left_out]
        used = {recipe.features for _, recipe in self._sets}
        self.features = {spec: one for spec, one in self.features.items() if spec in used}

    def slugs_of(self, spec: str) -> list[str]:
        """The evaluators that need an extractor."""
        return [slug for slug, recipe in self._sets if recipe.features == spec]

    def load_references(self) -> None:
        """Make the features of reference pictures that are not there: the report has no model."""
        for slug, recipe in list(self._sets):
            if recipe.reference != "plain" and slug not in self.left_out:
                with self._leaving_out(slug):
                    extract = self.features[recipe.features]
                    references.load(recipe.reference, recipe.features, extract, extract.place)


class _LeaveOut:
    """Turns what goes wrong inside into an evaluator that is left out."""

    def __init__(self, session: Session, slugs: Iterable[str]) -> None:
        self.session, self.slugs = session, tuple(slugs)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, _FAILURES) or isinstance(error, Busy):
            return False
        self.session.drop(self.slugs, f"{type(error).__name__}: {error}")
        return True


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

    An evaluator that cannot be loaded (a missing extra, a model that is not there, or is another)
    is left out and named in the summary; the others go on.

    Raises:
        Busy: another process scores this shard.
    """
    started = time.perf_counter()
    session, summary = Session(folder, recipes, device), Summary()
    session.load_references()
    score_shard(session, shard, summary, on_done)
    return _closed(session, summary, started)


def score_rest(
    folder: Folder,
    recipes: Iterable[Evaluator],
    shard: Shard = Shard(),
    device: str = "cpu",
    on_done: OnDone | None = None,
) -> Summary:
    """Score all that is left: this shard first, then every other that nobody is at."""
    started = time.perf_counter()
    session, summary = Session(folder, recipes, device), Summary()
    for step in range(shard.count):
        mine = Shard((shard.index - 1 + step) % shard.count + 1, shard.count)
        try:
            score_shard(session, mine, summary, on_done)
        except Busy:
            summary.busy += 1
    if not summary.busy:
        session.load_references()
    return _closed(session, summary, started)


def _closed(session: Session, summary: Summary, started: float) -> Summary:
    summary.left_out = session.left_out
    stored.keep_left_out(session.folder, session.left_out)
    summary.seconds = time.perf_counter() - started
    return summary


def score_shard(
    session: Session, shard: Shard, summary: Summary, on_done: OnDone | None = None
) -> None:
    """Score one shard's chunks.

    Raises:
        Busy: another process scores this shard.
    """
    folder = session.folder
    records = folder.records()
    with ExitStack() as stack:
        # One lock for the shard, held by whoever works on it, whatever it lacks.
        stack.enter_context(Log(folder.path / "scores" / "at_work" / f"{shard}.jsonl"))
        logs: dict[str, Log] = {}
        for chunk in shard.of(chunks(list(folder.manifest.jobs))):
            pictures = {job: _state(records[job]) for job in chunk[1] if job in records}
            for slug, one in _lacking(session, chunk, pictures):
                if slug not in logs:
                    logs[slug] = stack.enter_context(Log(one.place / f"{shard}.jsonl"))
            _score_chunk(session, chunk, pictures, records, logs, summary)
            if on_done is not None:
                on_done(len(chunk[1]))


def _state(record: Mapping[str, Any]) -> str:
    return str(record.get("sha256")) if record.get("status") == "done" else NOT_MADE


def _lacking(
    session: Session, chunk: Chunk, pictures: Mapping[str, str]
) -> Iterator[tuple[str, _Rows]]:
    entries_of = session.folder.manifest.entries_of
    for slug, one in list(session.rows.items()):
        if any(
            not one.settled(entry, pictures[job]) for job in pictures for entry in entries_of[job]
        ):
            yield slug, one


def _score_chunk(
    session: Session,
    chunk: Chunk,
    pictures: Mapping[str, str],
    records: Mapping[str, dict[str, Any]],
    logs: Mapping[str, Log],
    summary: Summary,
) -> None:
    number, jobs = chunk
    lacking = dict(_lacking(session, chunk, pictures))
    wanted = [one for one in session.features.values() if one.lacks(number, pictures)]
    if not lacking and not wanted:
        summary.skipped += len(jobs)
        return
    images: dict[str, Image.Image] = {}
    for job in pictures:
        opened = open_picture(session.folder.image(job), records[job])
        if isinstance(opened, str):
            summary.bad[job] = opened
        else:
            images[job] = opened
    entries = [entry for job in pictures for entry in session.folder.manifest.entries_of[job]]
    for slug, one in lacking.items():
        with session._leaving_out(slug):
            _score_rows(one, entries, images, records, logs[slug], summary)
    for extractor in wanted:
        with session._leaving_out(*session.slugs_of(extractor.spec)):
            if images:
                found = extractor(list(images.values()))
                told = {job: pictures[job] for job in images}
                stored.keep_features(extractor.file(number), found, told)
    summary.scored += len(images)


def open_picture(path: Path, record: Mapping[str, Any]) -> Image.Image | str:
    """A picture, decoded, when it is the one that was written; or in words what is wrong."""
    if record.get("status") != "done":
        what = "is not applicable" if record.get("status") == "not-applicable" else "was not made"
        return f"{what}: {record.get('error')}"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    if "sha256" in record and digest(data) != record["sha256"]:
        return "is damaged: it is not the file that was written"
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        return f"is damaged: {error}"


def _score_rows(
    one: _Rows,
    entries: Sequence[Entry],
    images: Mapping[str, Image.Image],
    records: Mapping[str, dict[str, Any]],
    log: Log,
    summary: Summary,
) -> None:
    """Score the whole chunk, so that it is always the same chunk, and log what is new."""
    shown = [
        Shown(images[entry.job], entry, records[entry.job])
        for entry in entries
        if entry.job in images
    ]
    made = []
    for each, row in zip(shown, _rows_for(one.scorer, shown), strict=True):
        picture = _state(records[each.entry.job])
        if not one.settled(each.entry, picture):
            made.append({"key": each.entry.key, "picture": picture, **_row_json(row)})
            summary.errors += not isinstance(row, Row)
    made += [
        {
            "key": entry.key,
            "picture": NOT_MADE,
            "error": f"picture {summary.bad[entry.job]}",
            "permanent": _state(records[entry.job]) == NOT_MADE,
        }
        for entry in entries
        if entry.job not in images and not one.settled(entry, _state(records[entry.job]))
    ]
    if made:
        log.append(*made)
        one.known.update({str(line["key"]): line for line in made})


@dataclass(frozen=True)
class _Failed:
    """Why there is no row; `permanent` where the same picture would give the same again."""

    why: str
    permanent: bool


def _row_json(row: Row | _Failed) -> dict[str, Any]:
    if isinstance(row, _Failed):
        return {"error": row.why, "permanent": row.permanent}
    line: dict[str, Any] = {"values": dict(row.values)}
    if row.overlap:
        line["overlap"] = {name: list(counts) for name, counts in row.overlap.items()}
    if row.notes:
        line["notes"] = dict(row.notes)
    return line


def _rows_for(scorer: Scorer, shown: Sequence[Shown]) -> list[Row | _Failed]:
    """Rows, or in words why there is none; one bad picture does not spoil its chunk."""
    if not shown:
        return []
    try:
        return [_checked(row) for row in scorer(shown)]
    except Exception as error:
        if len(shown) == 1:
            why = f"{type(error).__name__}: {error}"[:2000]
            return [_Failed(why, isinstance(error, GuidanceError))]
        return [row for one in shown for row in _rows_for(scorer, [one])]


def _checked(row: Row | str) -> Row | _Failed:
    if isinstance(row, str):
        return _Failed(row, permanent=True)
    bad = [name for name, value in row.values.items() if not math.isfinite(value)]
    return _Failed(f"{bad[0]} is not a finite number", permanent=True) if bad else row

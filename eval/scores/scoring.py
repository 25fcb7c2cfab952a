"""Score the pictures of a run: streamed in blocks, resumable, in shards.

A row tells the checksum of the picture it is of, so a picture that was made anew is scored anew. A
picture that is missing or is not the one that was written gets an error row and is tried again next
time; one that could not be made, or that an evaluator says it cannot judge, is not.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from PIL import Image

from adhere.errors import GuidanceError
from adhere.eval import places
from adhere.eval.errors import Busy
from adhere.eval.evaluators.evaluator import Evaluator, Row, Scorer, Shown
from adhere.eval.files import digest
from adhere.eval.places import Place
from adhere.eval.run.folder import Folder
from adhere.eval.run.generate import Watch, unwatched
from adhere.eval.run.ledger import DONE, NOT_APPLICABLE, Ledger
from adhere.eval.run.manifest import Entry
from adhere.eval.run.shards import Shard
from adhere.eval.scores import blocks, stored
from adhere.eval.scores.blocks import Block
from adhere.eval.scores.session import NOT_MADE, Rows, Session

Chunk = tuple[str, tuple[Entry, ...]]


@dataclass
class ScoreSummary:
    """What a call of `score` did: pictures scored, skipped and bad; evaluators left out.

    `damaged` counts the bad ones that were made: they are lost, or are not what was written;
    `not_applicable` those that their variant has nothing to do for.
    `busy` are the blocks that another process is at.
    """

    scored: int = 0
    skipped: int = 0
    bad: dict[str, str] = field(default_factory=dict)
    damaged: int = 0
    not_applicable: int = 0
    errors: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    busy: int = 0
    seconds: float = 0.0


def score(
    folder: Folder,
    recipes: Iterable[Evaluator],
    shard: Shard = Shard(),
    device: str = "cpu",
    watch: Watch = unwatched,
    *,
    rest: bool = False,
    known: Ledger | None = None,
) -> ScoreSummary:
    """Score this shard's part of the pictures that are there.

    An evaluator that cannot be loaded (a missing extra, a model that is not there, or is another)
    is left out and named in the summary; the others go on. Blocks that another process is at are
    left to it, and counted.

    Args:
        folder: the run.
        recipes: the evaluators.
        shard: this process's part.
        device: where models run.
        watch: shows progress.
        rest: go on with all other blocks that nobody is at.
        known: what became of the pictures; read anew if left out.
    """
    started = time.perf_counter()
    folder.ask_for_plan()
    work, summary = Session(folder, recipes, device), ScoreSummary()
    if not rest:
        work.load_references()
    known = known or folder.ledger()
    total = folder.manifest.count if rest else folder.manifest.count // shard.count
    with watch(f"score {shard}", total) as advance:
        for mine in (True, False) if rest else (True,):
            for block in blocks.blocks(folder.manifest):
                if shard.takes(block.number) == mine:
                    _score_block(work, known, block, summary)
                    advance(len(block.entries))
    if rest and not summary.busy:
        work.load_references()
    summary.left_out = work.left_out
    stored.keep_left_out(folder, work.left_out)
    summary.seconds = time.perf_counter() - started
    return summary


def _score_block(work: Session, known: Ledger, block: Block, summary: ScoreSummary) -> None:
    place = work.folder.place
    try:
        with ExitStack() as stack:
            # One lock for the block, held by whoever works on it, whatever it lacks.
            stack.enter_context(place.log(f"scores/at_work/{block.name}.jsonl"))
            at = _AtWork(work, known, block, summary, stack)
            for chunk in block.chunks():
                at.score(chunk)
    except Busy:
        summary.busy += 1


@dataclass
class _AtWork:
    """A block that is being scored."""

    session: Session
    ledger: Ledger
    block: Block
    summary: ScoreSummary
    stack: ExitStack
    logs: dict[str, places.Rows] = field(default_factory=dict)
    known: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        return self.session.folder.place

    @cached_property
    def rows(self) -> dict[str, int]:
        """Where the ledger has each job; those that nothing became of yet are not here."""
        jobs = [entry.job for entry in self.block.entries]
        found = self.ledger.find(jobs)
        return {job: int(at) for job, at in zip(jobs, found, strict=True) if at >= 0}

    def picture(self, job: str) -> str:
        """The checksum of a job's picture."""
        return self.ledger.checksum(self.rows[job]) or NOT_MADE

    def score(self, chunk: Chunk) -> None:
        """Score what the chunk lacks, the whole chunk at once, so that it is always the same."""
        name, entries = chunk
        entries = tuple(entry for entry in entries if entry.job in self.rows)
        lacking = [
            slug
            for slug in self.session.rows
            if not all(self._settled(slug, entry) for entry in entries)
        ]
        mine = {entry.job: self.picture(entry.job) for entry in entries if entry.makes}
        wanted = [
            one for one in self.session.features.values() if one.lacks(self.place, name, mine)
        ]
        if not lacking and not wanted:
            self.summary.skipped += len(entries)
            return
        records = {entry.job: self.ledger.record(self.rows[entry.job]) for entry in entries}
        images = self._opened(records)
        for slug in lacking:
            with self.session.leaving_out(slug):
                self._score_rows(slug, entries, images, records)
        shown = {job: image for job, image in images.items() if job in mine}
        for extractor in wanted if shown else ():
            with self.session.leaving_out(*self.session.slugs_of(extractor.spec)):
                found = extractor(list(shown.values()))
                sums = {job: mine[job] for job in shown}
                stored.keep_features(self.place, extractor.file(name), found, sums)
        left = self.session.rows.keys() & set(lacking) | self.session.features.keys() & {
            one.spec for one in wanted
        }
        # Whoever was left out on the way has scored nothing.
        self.summary.scored += sum(entry.job in images for entry in entries) if left else 0

    def _opened(self, records: Mapping[str, Mapping[str, Any]]) -> dict[str, Image.Image]:
        images = {}
        for job, record in records.items():
            opened = open_picture(self.place, self.session.folder.image(job), record)
            if isinstance(opened, str):
                self.summary.bad[job] = opened
                self.summary.damaged += self.picture(job) != NOT_MADE
                self.summary.not_applicable += record.get("status") == NOT_APPLICABLE
            else:
                images[job] = opened
        return images

    def _settled(self, slug: str, entry: Entry) -> bool:
        """Whether an entry needs no look: scored, or given up, for this very picture."""
        if slug not in self.known:
            where = self.session.rows[slug].where
            self.known[slug] = stored.rows_in(self.place, where, self.block.name)
        row = self.known[slug].get(entry.key, {})
        same = row.get("picture") == self.picture(entry.job)
        return same and ("values" in row or bool(row.get("permanent")))

    def _log(self, slug: str, rows: Rows) -> places.Rows:
        if slug not in self.logs:
            opened: AbstractContextManager[places.Rows] = self.place.log(
                f"{rows.where}/{self.block.name}.jsonl"
            )
            self.logs[slug] = self.stack.enter_context(opened)
        return self.logs[slug]

    def _score_rows(
        self,
        slug: str,
        entries: Sequence[Entry],
        images: Mapping[str, Image.Image],
        records: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Score the whole chunk and log what is new."""
        rows = self.session.rows[slug]
        seen = [entry for entry in entries if entry.job in images]
        shown = [Shown(images[entry.job], entry, records[entry.job]) for entry in seen]
        found: dict[str, Row | _Failed] = (
            {entry.key: row for entry, row in zip(seen, _rows_for(rows.scorer, shown), strict=True)}
            if shown
            else {}
        )
        made = []
        for entry in entries:
            if not self._settled(slug, entry):
                row = found.get(entry.key) or self._unseen(entry)
                picture = self.picture(entry.job) if entry.job in images else NOT_MADE
                made.append({"key": entry.key, "picture": picture, **_row_json(row)})
                self.summary.errors += entry.job in images and not isinstance(row, Row)
        if made:
            self._log(slug, rows).append(*made)
            self.known[slug].update({str(line["key"]): line for line in made})

    def _unseen(self, entry: Entry) -> _Failed:
        never = self.picture(entry.job) == NOT_MADE
        return _Failed(f"picture {self.summary.bad[entry.job]}", permanent=never)


def open_picture(place: Place, name: str, record: Mapping[str, Any]) -> Image.Image | str:
    """A picture, decoded, when it is the one that was written; or in words what is wrong."""
    if record.get("status") != DONE:
        idle = record.get("status") == NOT_APPLICABLE
        return f"{'is not applicable' if idle else 'was not made'}: {record.get('error')}"
    try:
        data = place.read(name)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    if digest(data) != record["sha256"]:
        return "is damaged: it is not the file that was written"
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        return f"is damaged: {error}"


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

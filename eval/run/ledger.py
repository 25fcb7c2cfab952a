"""What became of every job, from all shards' logs, in 44 bytes a job.

A row of a log begins with what everybody asks of it: the job, its status, and the picture's
checksum and size, or whether a failure is for good. A million rows are read in seconds that way;
the rest of a row is read where it lies, when it is asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from adhere.eval.files import rows
from adhere.eval.places import Place

DONE, FAILED, NOT_APPLICABLE = "done", "failed", "not-applicable"
NOT_YET = "not made yet"
"""Of a job without any row."""

_STATUS = (DONE, FAILED, NOT_APPLICABLE)

_ROW = np.dtype(
    [
        ("job", "u8"), ("rest", "u4"),  # the 24 hexadecimal digits of its name
        ("status", "u1"), ("permanent", "?"), ("log", "u2"), ("start", "u8"),
        ("bytes", "u4"), ("sum", "S16"),
    ]
)  # fmt: skip
_HEAD = re.compile(
    rb'^\{"job":"([0-9a-f]{24})","status":"([a-z-]+)",'
    rb'(?:"sha256":"([0-9a-f]{32})[0-9a-f]{32}","bytes":(\d+)|"permanent":(true|false))',
    re.MULTILINE,
)
_FOLDER = "done"

Image = Callable[[str], str]
"""Names a job's picture."""

SUM_LENGTH = 32
"""Of a picture's checksum so many hexadecimal digits are kept: enough to tell two apart."""


def row(job: str, status: str, **fields: Any) -> dict[str, Any]:
    """A row of a log, in the order in which it is read: `sha256` and `bytes`, or `permanent`."""
    first = ("sha256", "bytes") if status == DONE else ("permanent",)
    head = {name: fields.pop(name) for name in first}
    return {"job": job, "status": status, **head, **fields}


@dataclass(frozen=True)
class Ledger:
    """What became of the jobs, sorted by their names; of several rows of one, the one that counts.

    A picture outranks a failure. Of two different pictures (one was lost and made again) the one
    that lies there counts, else the last.
    """

    place: Place
    logs: tuple[str, ...]
    rows: np.ndarray

    @cached_property
    def _jobs(self) -> np.ndarray:
        return np.ascontiguousarray(self.rows["job"])

    def __len__(self) -> int:
        return len(self.rows)

    def find(self, jobs: Sequence[str]) -> np.ndarray:
        """Where each job's row is; -1 for a job without any."""
        job, rest = _split("".join(jobs).encode())
        if not len(self.rows):
            return np.full(len(job), -1)
        found = np.minimum(np.searchsorted(self._jobs, job), len(self.rows) - 1)
        same = (self._jobs[found] == job) & (self.rows["rest"][found] == rest)
        return np.where(same, found, -1)

    def status(self, place: int) -> str:
        """What became of the job of a row."""
        return _STATUS[int(self.rows["status"][place])] if place >= 0 else NOT_YET

    def checksum(self, place: int) -> str:
        """The first digits of the picture's checksum; empty where there is no picture."""
        if place < 0 or self.rows["status"][place] != 0:
            return ""
        found: bytes = self.rows["sum"][place]
        return found.ljust(SUM_LENGTH // 2, b"\0").hex()

    def record(self, place: int) -> dict[str, Any]:
        """The whole row; empty where there is none."""
        if place < 0:
            return {}
        fields = self.rows[place]
        found: dict[str, Any] = json.loads(
            self.place.line_at(self.logs[fields["log"]], int(fields["start"]))
        )
        return found

    def records(self) -> Iterator[dict[str, Any]]:
        """Every row that counts, whole, in the order of the logs."""
        for number, name in enumerate(self.logs):
            counts = set(self.rows["start"][self.rows["log"] == number].tolist())
            start = 0
            for block in self.place.blocks(name) if counts else ():
                for line in block.splitlines(keepends=True):
                    if start in counts:
                        yield json.loads(line)
                    start += len(line)

    def made(self, jobs: Sequence[str], image: Image) -> np.ndarray:
        """Of which jobs the picture lies there, in its full length."""
        found = self.find(jobs)
        there = (found >= 0) & (self.rows["status"][found] == 0) if len(self.rows) else found >= 0
        asked = np.flatnonzero(there).tolist()
        sizes = self.place.sizes([image(jobs[number]) for number in asked])
        for number, size in zip(asked, sizes, strict=True):
            there[number] = bool(size) and size == self.rows["bytes"][found[number]]
        return there

    def given_up(self, jobs: Sequence[str]) -> np.ndarray:
        """Which jobs failed in a way that another try would repeat."""
        found = self.find(jobs)
        if not len(self.rows):
            return found >= 0
        rows_ = self.rows[found]
        over: np.ndarray = (found >= 0) & (rows_["status"] != 0) & rows_["permanent"]
        return over


def read(place: Place, image: Image) -> Ledger:
    """The ledger of all logs; `image` names a job's picture."""
    names = [f"{_FOLDER}/{name}" for name in place.names(_FOLDER) if name.endswith(".jsonl")]
    found = [
        _of_block(block, number, start)
        for number, name in enumerate(names)
        for start, block in _numbered(place.blocks(name))
    ]
    whole = np.concatenate(found) if found else np.empty(0, _ROW)
    found.clear()
    return Ledger(place, tuple(names), _chosen(whole, place, image))


def _numbered(blocks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    start = 0
    for block in blocks:
        yield start, block
        start += len(block)


def _of_block(block: bytes, log: int, start: int) -> np.ndarray:
    """The rows of a piece of a log, which begins at `start`."""
    # What has no end yet is being written, or a kill left it torn.
    block = block[: block.rfind(b"\n") + 1]
    heads = list(_HEAD.finditer(block))
    slow = (
        [] if len(heads) == block.count(b"\n") else list(_slow(block, {m.start() for m in heads}))
    )
    found = np.zeros(len(heads) + len(slow), _ROW)
    parts = [match.groups() for match in heads]
    quick = found[: len(heads)]
    quick["job"], quick["rest"] = _split(b"".join(one[0] for one in parts))
    quick["status"] = [_STATUS.index(one[1].decode()) for one in parts]
    quick["permanent"] = [one[4] == b"true" for one in parts]
    quick["bytes"] = [int(one[3] or 0) for one in parts]
    quick["sum"] = [bytes.fromhex((one[2] or b"").decode()) for one in parts]
    quick["start"] = [start + match.start() for match in heads]
    for place, (at, row_) in enumerate(slow, len(heads)):
        _fill(found[place], row_)
        found["start"][place] = start + at
    found["log"] = log
    return found


def _slow(block: bytes, known: set[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows that were written otherwise, with where they begin; torn lines are passed over."""
    at = 0
    for line in block.splitlines(keepends=True):
        if at not in known:
            for row_ in rows(line):
                if re.fullmatch("[0-9a-f]{24}", str(row_.get("job"))) and (
                    row_.get("status") in _STATUS
                ):
                    yield at, row_
        at += len(line)


def _fill(place: Any, row_: dict[str, Any]) -> None:
    place["job"], place["rest"] = (one[0] for one in _split(row_["job"].encode()))
    place["status"] = _STATUS.index(row_["status"])
    place["permanent"] = bool(row_.get("permanent"))
    place["bytes"] = int(row_.get("bytes", 0))
    place["sum"] = bytes.fromhex(str(row_.get("sha256", ""))[:SUM_LENGTH])


def _split(names: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Jobs' names, one after the other, as numbers: of each the first 8 bytes and the other 4."""
    raw = np.frombuffer(bytes.fromhex(names.decode()), [("job", ">u8"), ("rest", ">u4")])
    return raw["job"].astype("u8"), raw["rest"].astype("u4")


def _chosen(found: np.ndarray, place: Place, image: Image) -> np.ndarray:
    """One row a job, sorted by job."""
    found = found[np.argsort(found["job"], kind="stable")]
    again = found["job"][1:] == found["job"][:-1]
    keep = np.ones(len(found), bool)
    for number in np.flatnonzero(again) + 1:
        before, after = found[number - 1].copy(), found[number].copy()
        keep[number - 1] = before["rest"] != after["rest"]
        if not keep[number - 1] and _outranks(before, after, place, image):
            found[number] = before
    return found[keep]


def _outranks(before: Any, after: Any, place: Place, image: Image) -> bool:
    """Whether of two rows of a job, in the order in which they were written, the first counts."""
    if before["status"] != 0 or after["status"] != 0:
        return bool(before["status"] == 0)
    if before["sum"] == after["sum"]:
        return False
    (size,) = place.sizes([image(f"{before['job']:016x}{before['rest']:08x}")])
    return bool(size == before["bytes"] != after["bytes"])

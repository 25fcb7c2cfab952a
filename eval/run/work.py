"""What of a plan is still to be made: cut in batches that never change, counted, streamed.

Batches are cut from the whole plan, not from what is left of it, so a picture is always made beside
the same neighbours, and is the same to the last bit however often a run was killed and however many
shards it was given.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from adhere.eval.run.folder import Folder
from adhere.eval.run.ledger import Ledger
from adhere.eval.run.manifest import Entry, Manifest, batched
from adhere.eval.run.shards import Shard
from adhere.pipelines.studio.request import Request

Cut = tuple[Entry, ...]
Batch = tuple[tuple[str, Request], ...]
"""Jobs that are made together, each with its request."""

_TOGETHER = 256

Wants = Callable[[Entry], bool]


def batches(manifest: Manifest, size: int) -> Iterator[tuple[int, Cut]]:
    """The pictures in pieces of at most `size` that share plugins, steps, size and scheduler.

    Each with a number of its own: those of one kind follow one another, so that every shard gets as
    many of each kind, be they dear or cheap. What was planned at another time is cut apart.
    """
    made: dict[str, int] = {}
    for part in manifest.parts:
        open_: dict[str, list[Entry]] = defaultdict(list)
        for group in part.groups():
            kind = manifest.requests.kind(group.item, group.variant)
            # Kinds begin at different shards: else what is left of each falls to the first.
            made.setdefault(kind, len(made))
            for entry in group.entries(manifest.requests):
                if entry.makes:
                    open_[kind].append(entry)
                    if len(open_[kind]) == size:
                        yield made[kind], tuple(open_.pop(kind))
                        made[kind] += 1
        for kind, rest in open_.items():
            yield made[kind], tuple(rest)
            made[kind] += 1


@dataclass(frozen=True)
class Work:
    """This shard's batches that lack something, by what the ledger says when this is made.

    A job that failed because of what was asked would fail again; one that failed for another
    reason (memory, a driver) is tried once more by every new run. `wants` leaves pictures out.
    """

    folder: Folder
    shard: Shard
    batch: int
    retry_failed: bool
    ledger: Ledger
    wants: Wants | None = None

    @cached_property
    def _counts(self) -> tuple[int, int, np.ndarray]:
        """How many pictures are left and how many are not, and which batches are, by order."""
        left = skipped = 0
        open_: list[bool] = []
        for cuts in batched(self._mine(), _TOGETHER):
            for wanted, cut in zip(self._wanted(cuts), cuts, strict=True):
                left, skipped = left + len(wanted), skipped + len(cut) - len(wanted)
                open_.append(bool(wanted))
        return left, skipped, np.array(open_, bool)

    @property
    def left(self) -> int:
        """How many pictures are to be made."""
        return self._counts[0]

    @property
    def skipped(self) -> int:
        """How many of this shard's pictures are there or given up."""
        return self._counts[1]

    def __iter__(self) -> Iterator[tuple[Batch, set[str]]]:
        """The batches with something left to make, each with the jobs that are wanted of it."""
        if not self.left:
            return
        for cut, left in zip(self._mine(), self._counts[2], strict=True):
            if left:
                (wanted,) = self._wanted((cut,))
                yield tuple((entry.job, entry.request) for entry in cut), wanted

    def _mine(self) -> Iterator[Cut]:
        for number, cut in batches(self.folder.manifest, self.batch):
            if self.shard.takes(number):
                yield cut

    def _wanted(self, cuts: tuple[Cut, ...]) -> Iterator[set[str]]:
        jobs = [entry.job for cut in cuts for entry in cut]
        over = self.ledger.made(jobs, self.folder.image)
        if not self.retry_failed:
            over |= self.ledger.given_up(jobs)
        place = 0
        for cut in cuts:
            some = over[place : place + len(cut)]
            place += len(cut)
            yield {
                entry.job
                for entry, done in zip(cut, some, strict=True)
                if not done and (self.wants is None or self.wants(entry))
            }

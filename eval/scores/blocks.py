"""The pictures of a run in blocks of chunks: what is scored, kept and read together.

A chunk is what an evaluator sees at once, a block what is locked, and lies in one file. Both are
cut from the plan, never from what is left of it: what a picture scores does not depend on who
scores it, or where a run was killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from adhere.eval.run.manifest import Entry, Manifest, batched

CHUNK = 32
# Few enough files, and blocks small enough to be read in one go.
_BLOCKS = 256
_MOST = 128


@dataclass(frozen=True)
class Block:
    """Some entries that follow one another, in chunks of `size`."""

    name: str
    number: int
    entries: tuple[Entry, ...]
    size: int

    def chunks(self) -> Iterator[tuple[str, tuple[Entry, ...]]]:
        """The chunks, each with a name within the run."""
        for number, some in enumerate(batched(self.entries, self.size)):
            yield f"{self.name}/{number:03d}", some


def blocks(manifest: Manifest) -> Iterator[Block]:
    """All entries; those of a small run make a chunk a block, so that many can score it."""
    number, size = 0, CHUNK
    for place, part in enumerate(manifest.parts, 1):
        chunks = -(-part.entries // size)
        together = size * min(_MOST, -(-chunks // _BLOCKS))
        entries = (entry for group in part.groups() for entry in group.entries(manifest.requests))
        for count, some in enumerate(batched(entries, together) if together else ()):
            yield Block(f"{place:02d}-{count:05d}", number, some, size)
            number += 1

"""All scores of a run in columns: a number a picture and score, read block by block."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from adhere.eval.evaluators import table as evaluators
from adhere.eval.evaluators.evaluator import Evaluator, SetEvaluator
from adhere.eval.evaluators.sets.accumulators import Overlap
from adhere.eval.run.folder import Folder
from adhere.eval.run.ledger import NOT_YET, Ledger
from adhere.eval.scores import stored
from adhere.eval.scores.blocks import Block, blocks

Key = tuple[str, int]
"""A picture within a suite and variant: item and seed."""

Place = tuple[str, str]
"""A suite and a variant."""

Name = tuple[str, str]
"""An evaluator's slug and a column."""

Values = dict[Key, float]


@dataclass
class Scored:
    """Entries by number, in the order of the manifest; what a picture has no score of is NaN."""

    items: list[str]
    prompts: list[str]
    tags: dict[Place, tuple[str, ...]]
    jobs: np.ndarray
    item: np.ndarray
    seed: np.ndarray
    status: np.ndarray
    places: dict[Place, np.ndarray] = field(default_factory=dict)
    columns: dict[Name, np.ndarray] = field(default_factory=dict)
    overlaps: dict[str, dict[Place, Overlap]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.jobs)

    @cached_property
    def keys(self) -> dict[Place, list[Key]]:
        """The item and seed of every entry of a suite and variant."""
        return {
            place: [
                (self.items[i], int(s)) for i, s in zip(self.item[of], self.seed[of], strict=True)
            ]
            for place, of in self.places.items()
        }

    def pairs(self, variant: Place, baseline: Place) -> list[tuple[int, int]]:
        """The entries of the baseline and of a variant with the same item and seed."""
        if baseline not in self.places:
            return []
        keys, plain = self.keys[variant], self.keys[baseline]
        before = dict(zip(plain, self.places[baseline].tolist(), strict=True))
        numbers = self.places[variant].tolist()
        return [(before[key], one) for key, one in zip(keys, numbers, strict=True) if key in before]

    def values(self, name: Name, place: Place) -> Values:
        """A column of a suite and variant, by item and seed."""
        if place not in self.places:
            return {}
        column = self.columns[name][self.places[place]]
        there = np.flatnonzero(~np.isnan(column)).tolist()
        keys = self.keys[place]
        return {
            keys[number]: value for number, value in zip(there, column[there].tolist(), strict=True)
        }

    def jobs_of(self, place: Place) -> list[str]:
        """The jobs of a suite and variant."""
        return [name.decode() for name in self.jobs[self.places[place]].tolist()]


def scored(folder: Folder, recipes: Sequence[Evaluator], ledger: Ledger) -> Scored:
    """Read the scores of the row evaluators, those with the weights of the last scoring."""
    count = folder.manifest.count
    found = Scored(
        [], [], {}, np.zeros(count, "S24"), np.zeros(count, "i4"), np.zeros(count, "i8"),
        np.full(count, NOT_YET, "U14"),
    )  # fmt: skip
    rows = [recipe for recipe in recipes if not isinstance(recipe, SetEvaluator)]
    for recipe in rows:
        for column in recipe.columns:
            found.columns[evaluators.slug(recipe), column.name] = np.full(count, np.nan)
    where = {
        evaluators.slug(one): stored.current(folder.place, stored.rows_of(one)) for one in rows
    }
    places: dict[Place, list[int]] = defaultdict(list)
    numbers: dict[Place, int] = {}
    start = 0
    for block in blocks(folder.manifest):
        _entries(found, block, start, ledger, places, numbers)
        for slug, at in where.items():
            _rows(found, block, start, slug, stored.rows_in(folder.place, at, block.name))
        start += len(block.entries)
    found.places = {place: np.array(some) for place, some in places.items()}
    return found


def _entries(
    found: Scored,
    block: Block,
    start: int,
    ledger: Ledger,
    places: dict[Place, list[int]],
    numbers: dict[Place, int],
) -> None:
    at = ledger.find([entry.job for entry in block.entries])
    for number, (entry, row) in enumerate(zip(block.entries, at, strict=True), start):
        item = (entry.suite, entry.item.id)
        if item not in numbers:
            numbers[item] = len(found.items)
            found.items.append(entry.item.id)
            found.prompts.append(entry.item.prompt)
            found.tags[item] = entry.item.tags
        found.jobs[number] = entry.job.encode()
        found.item[number], found.seed[number] = numbers[item], entry.seed
        found.status[number] = ledger.status(int(row))
        places[entry.suite, entry.variant].append(number)


def _rows(
    found: Scored, block: Block, start: int, slug: str, rows: Mapping[str, stored.Record]
) -> None:
    if not rows:
        return
    recipe = slug.rpartition("-")[0]
    for number, entry in enumerate(block.entries, start):
        row = rows.get(entry.key, {})
        if "error" in row:
            found.errors[f"{recipe}: {row['error']}"] += 1
        for name, value in row.get("values", {}).items():
            if (slug, name) not in found.columns:
                found.columns[slug, name] = np.full(len(found), np.nan)
            found.columns[slug, name][number] = value
        if "overlap" in row:
            by_place = found.overlaps.setdefault(slug, defaultdict(Overlap))
            by_place[entry.suite, entry.variant].add(row["overlap"])


class PictureScores(Mapping[str, Mapping[str, float]]):
    """Every picture's scores, by the entry's key; made when they are looked at."""

    def __init__(self, found: Scored, labels: Mapping[Name, str]) -> None:
        self.scored = found
        self.columns = {labels.get(name, name[1]): one for name, one in found.columns.items()}

    def row(self, number: int) -> dict[str, float]:
        """The scores of the entry of a number."""
        return {
            name: float(column[number])
            for name, column in self.columns.items()
            if not np.isnan(column[number])
        }

    @cached_property
    def _numbers(self) -> dict[str, int]:
        found = self.scored
        return {
            f"{suite}/{found.items[found.item[number]]}/{variant}/{found.seed[number]}": int(number)
            for (suite, variant), numbers in found.places.items()
            for number in numbers
        }

    def __getitem__(self, key: str) -> Mapping[str, float]:
        return self.row(self._numbers[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self.scored)

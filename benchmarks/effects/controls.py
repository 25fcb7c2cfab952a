"""Two controls for every table: plain pictures at swept guidance scales, and the best of N.

Guidance papers that leave them out overstate. Guidance costs passes: the same passes make several
plain pictures, of which a scorer that is no judge (the CLIP score with the whole prompt) may choose
the best. And a plain picture at a higher guidance scale costs nothing at all.

Both are experiments of `adhere eval` with the unguided variant only, kept beside the experiment
they belong to as `NAME@SCALE` and `NAME@more`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from adhere.eval.report.results import Results
from adhere.eval.run.experiment import BASELINE, Experiment, Variant
from adhere.eval.scores.scored import Key
from benchmarks.effects.claims import LOWER

SCALES = (2.0, 3.0, 4.0, 6.0, 8.0)
SCORER = "clip_full"
MOST = 8
"""Plain pictures that the dearest variant is held against at the most."""
STRIDE = 10
"""Seeds from one candidate of a picture to the next; suites leave 100 seeds to a prompt."""

Rows = Mapping[Key, Mapping[str, float]]


def swept(about: Experiment, scales: Sequence[float] = SCALES) -> dict[float, Experiment]:
    """The experiment's plain pictures at other guidance scales, by scale."""
    plain = (Variant(BASELINE),)
    return {
        scale: replace(
            about, name=f"{about.name}@{scale:g}", variants=plain, guidance_scale=float(scale)
        )
        for scale in scales
    }


def more(about: Experiment, count: int = MOST) -> Experiment:
    """The experiment's plain pictures with `count - 1` further seeds for each of its own."""
    if max(about.seeds) >= STRIDE:
        raise ValueError(f"{about.name} has seeds up to {max(about.seeds)}; use less than {STRIDE}")
    seeds = tuple(seed + STRIDE * each for each in range(1, count) for seed in about.seeds)
    return replace(about, name=f"{about.name}@more", variants=(Variant(BASELINE),), seeds=seeds)


def rows(results: Results, variant: str = BASELINE) -> dict[Key, dict[str, float]]:
    """All scores of a variant's pictures, by prompt and seed."""
    found: dict[Key, dict[str, float]] = {}
    for key, row in results.values.items():
        _, item, its_variant, seed = key.split("/")
        if its_variant == variant:
            found[item, int(seed)] = dict(row)
    return found


@dataclass(frozen=True)
class Controls:
    """The unguided pictures beside an experiment's: by guidance scale, and with further seeds."""

    scales: Mapping[float, Rows]
    further: Rows

    def best_scale(self, column: str) -> tuple[float, dict[Key, float]] | None:
        """The scale whose mean of a score is best, and the score of its pictures."""
        sign = -1 if column in LOWER else 1
        tables = {s: column_of(table, column) for s, table in self.scales.items() if table}
        tables = {scale: table for scale, table in tables.items() if table}
        if not tables:
            return None
        best = max(tables, key=lambda s: sign * math.fsum(tables[s].values()) / len(tables[s]))
        return best, tables[best]

    def best_of(self, plain: Rows, count: int, column: str) -> dict[Key, float]:
        """The score of the picture that the scorer likes best of `count` with the same prompt.

        Pictures of which not all candidates are there are left out.
        """
        chosen = {}
        for (item, seed), first in plain.items():
            others = [self.further.get((item, seed + STRIDE * k)) for k in range(1, count)]
            candidates = [first, *(row for row in others if row is not None)]
            if len(candidates) == count and all({SCORER, column} <= set(row) for row in candidates):
                chosen[item, seed] = max(candidates, key=lambda row: row[SCORER])[column]
        return chosen


def column_of(table: Rows, column: str) -> dict[Key, float]:
    """One score of some pictures."""
    return {key: row[column] for key, row in table.items() if column in row}


def equal_count(passes: float, steps: int) -> int:
    """How many plain pictures cost as much as a guided one with so many passes added, rounded up.

    A plain picture is two rows a step. A pass of guidance is a row forward and, cut short at the
    last layer it reads, backward: two rows are charged for it, more than it takes.
    """
    rows_of_plain = 2 * steps
    return min(MOST, max(1, math.ceil((rows_of_plain + 2 * passes) / rows_of_plain)))

"""A plan's pictures in one picture: rows are prompts and seeds, columns are variants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from adhere.pipelines.studio.drawing.sheet import sheet
from adhere.pipelines.studio.plan import Job, Plan

MOST_CELLS = 400
"""Pictures that are drawn at most: more than anybody looks at, and what memory holds."""

_PALE = (235, 235, 232)


@dataclass(frozen=True)
class Cell:
    """A picture's file, and what the judge says of it."""

    file: Path
    verdict: dict[str, Any] | None


Found = Callable[[Job], Cell | None]


def grid(plan: Plan, found: Found) -> Image.Image:
    """The pictures that are there, in the plan's order; missing ones are left pale.

    With one variant its columns are the seeds.
    """
    rows = [row for row in _rows(plan) if any(found(job) for job in row)]
    rows = rows[: max(1, MOST_CELLS // max(map(len, rows)))]
    wide = max(map(len, rows))
    cells = [[found(job) for job in row] + [None] * (wide - len(row)) for row in rows]
    size = _size(cells)
    pictures = [[_open(cell, size) for cell in row] for row in cells]
    notes = [["" if cell is None else verdict_line(cell.verdict) for cell in row] for row in cells]
    titles = [_title(plan, row[0]) for row in rows]
    return sheet(pictures, _heads(plan, wide), titles, notes)


def _rows(plan: Plan) -> list[list[Job]]:
    """The jobs as they stand in the grid."""
    rows: dict[tuple[int, int], list[Job]] = {}
    for job in plan.jobs:
        seed = job.request.seed if len(plan.variants) > 1 else -1
        rows.setdefault((job.line, seed), []).append(job)
    return list(rows.values())


def _heads(plan: Plan, wide: int) -> list[str]:
    if len(plan.variants) > 1:
        return list(plan.names)
    seeds = {plan.seeds_of(line) for line in plan.lines}
    if len(seeds) == 1:
        return [f"seed {seed}" for seed in seeds.pop()]
    return [f"{number}" for number in range(1, wide + 1)]  # each prompt has seeds of its own


def _title(plan: Plan, job: Job) -> str:
    seed = f"   (seed {job.request.seed})" if len(plan.variants) > 1 else ""
    return f"{job.request.prompt}{seed}"


def _size(cells: list[list[Cell | None]]) -> tuple[int, int]:
    """The size of the first picture, which the others take in the grid."""
    first = next(cell for row in cells for cell in row if cell is not None)
    with Image.open(first.file) as image:
        return image.size


def _open(cell: Cell | None, size: tuple[int, int]) -> Image.Image:
    if cell is None:
        return Image.new("RGB", size, _PALE)
    with Image.open(cell.file) as image:
        picture = image.convert("RGB")
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


def verdict_line(verdict: dict[str, Any] | None) -> str:
    """What the judge says, in a few words."""
    if not verdict:
        return ""
    if verdict.get("unsafe"):
        return "skull"
    if verdict.get("fully_right"):
        return "right"
    said = [f"no {kind}" for kind in verdict.get("neglected", ())]
    said += [f"{kind}: wrong colour" for kind in verdict.get("miscoloured", ())]
    return ", ".join(said) or ("" if "neglected" not in verdict else "misplaced")

"""What is said when a plan is done: how many pictures, what each variant did, what to know."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from adhere.pipelines.studio.record import Record, Row


def summary(record: Record) -> Iterator[str]:
    """The lines for the person who asked."""
    rows = list(record.rows.values())
    made = len(rows) - record.kept
    seconds = sum(row["seconds"] for row in rows[record.kept :])
    kept = f", {record.kept} were there already" if record.kept else ""
    yield f"{made} picture{'s' * (made != 1)} in {seconds:.1f} s{kept}: {record.grid_file}"
    for number, name in enumerate(record.plan.names):
        its = [row for job, row in record.rows.items() if job.variant == number]
        if its:
            yield _variant(name, its)
    for note in sorted(_notes(rows)):
        yield f"note: {textwrap.shorten(note, 300, placeholder=' ...')}"


def _variant(name: str, rows: list[Row]) -> str:
    """A variant's cost and the judge's shares."""
    line = f"{name:<40} {sum(row['seconds'] for row in rows) / len(rows):6.2f} s"
    judged = [v for row in rows if (v := row["verdict"]) and "all_present" in v]
    if not judged:
        return line
    present = sum(v["all_present"] for v in judged)
    right = sum(v["fully_right"] for v in judged)
    n = len(judged)
    return f"{line}   all present {present}/{n}   fully right {right}/{n}"


def _notes(rows: list[Row]) -> set[str]:
    notes = {note for row in rows for note in row["report"].get("notes", ())}
    return notes | {why for row in rows if (why := (row["verdict"] or {}).get("not_judged"))}

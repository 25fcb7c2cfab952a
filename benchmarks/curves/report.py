"""What the rows come to: shares and passes, what was said beforehand, the figure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adhere.eval.report.statistics import ALPHA, Interval, difference, holm
from adhere.pipelines.toybox.card.figures import share
from benchmarks import record
from benchmarks.curves.figure import figure
from benchmarks.curves.rows import packed, rows, whole
from benchmarks.curves.variants import (
    ALWAYS,
    CAPTIONS,
    DROPPING,
    ENDED,
    ENDED_LONG,
    PAIRS,
    PLACED,
    VARIANTS,
    VERIFIER,
    Toybox,
)


@dataclass(frozen=True)
class Held:
    """What was expected to be better than what, before anything was run; with `at_most_lost`, to be
    no worse than by that.
    """

    suite: str
    one: str
    other: str
    why: str
    at_most_lost: float | None = None


HELD = (
    Held(PAIRS, DROPPING, "best of 4", "at as many passes"),
    Held(PAIRS, ENDED["both"], "best of 4", "at as many passes"),
    Held(PAIRS, ENDED["attention"], "best of 4", "at as many passes"),
    Held(PAIRS, ENDED["both"], ENDED["verifier"], "attention adds to the verifier"),
    Held(PAIRS, ENDED_LONG, "best of 8", "at as many passes"),
    Held(PAIRS, ENDED_LONG, "autopilot", "at its budget, without guidance"),
    Held(PAIRS, "steered, 4", "plain", "though the best of 4 costs as much"),
    Held(PAIRS, "steered, 4", "best of 4", "at as many passes"),
    Held(PAIRS, "syngen, early dropping, 8", "syngen", "foreseeing adds to guidance"),
    Held(PAIRS, "zestguide+syngen", "syngen", "a stack beats a part of it at as many passes"),
    Held(PAIRS, "autopilot", ALWAYS, "guidance that is always on"),
    Held(PAIRS, PLACED, "zestguide+syngen", "Paint-with-Words adds to it, without a pass"),
    Held(PAIRS, "autopilot", "zestguide+syngen", "the method that it guides with, always on"),
    Held(PAIRS, "autopilot", "best of 8", "at no more passes"),
    Held(CAPTIONS, "autopilot, thrifty", "plain", "guiding what fails"),
    Held(CAPTIONS, "autopilot, thrifty", ALWAYS,
         "guidance that is always on, at half its extra passes", at_most_lost=0.05),
)  # fmt: skip
LINES = (
    ("plain", "best of 2", "best of 4", "best of 8"),
    ("plain", "early dropping, 8", DROPPING),
    ("plain", ENDED["both"], ENDED_LONG),
    ("syngen", "syngen, early dropping, 8"),
    ("autopilot, thrifty", "autopilot"),
)


def report(runs: Path, suite: str) -> dict[str, dict[str, Any]]:
    """By variant its share and mean passes, on the prompts that all variants have."""
    found = {name: whole(runs, suite, name) for name in VARIANTS[suite]}
    found = {name: own for name, own in found.items() if own}
    count = min(map(len, found.values()), default=0)
    return {
        name: {
            "fully_right": share([one["fully_right"] for one in own[:count]]),
            "passes": sum(one["passes"] for one in own[:count]) / count,
        }
        for name, own in found.items()
    }


def differences(runs: Path) -> list[dict[str, Any]]:
    """What was said beforehand of two variants: paired, on the prompts that both have.

    It `holds` where the interval is clear of zero, or of the loss that is allowed; and a better one
    only where Holm's procedure over all of those leaves the difference one at the 5 % level.
    """
    found = []
    for held in HELD:
        mine, its = (
            {
                (row["prompt"], row["number"]): float(row["fully_right"])
                for row in rows(runs, held.suite, name)
            }
            for name in (held.one, held.other)
        )
        if apart := difference(mine, its, share=True):
            found.append((held, apart))
    better = [apart.p for held, apart in found if held.at_most_lost is None]
    adjusted = iter(holm(better))
    return [told(held, apart, adjusted) for held, apart in found]


def told(held: Held, apart: Interval, adjusted: Iterator[float | None]) -> dict[str, Any]:
    """A difference and whether what was said of it holds, as plain data."""
    p = next(adjusted) if held.at_most_lost is None else None
    if held.at_most_lost is None:
        holds = apart.clear and apart.mean > 0 and p is not None and p < ALPHA
    else:
        holds = apart.low is not None and apart.low > -held.at_most_lost
    return {**vars(held), "holds": holds, "p_adjusted": p, **vars(apart)}


def costs(curves: dict[str, dict[str, Any]], plain: int) -> dict[str, dict[str, float]]:
    """Shares against plain pictures' passes, for the figure."""
    found = {}
    for name, own in curves.items():
        low, high = own["fully_right"]["ci95"]
        cost = own["passes"] / plain
        found[name] = {"cost": cost, "mean": own["fully_right"]["share"], "low": low, "high": high}
    return found


def write(runs: Path, toybox: Toybox) -> None:
    """The result and figure that are kept."""
    suites = {}
    for suite in VARIANTS:
        if found := report(runs, suite):
            count = next(iter(found.values()))["fully_right"]["n"]
            suites[suite] = {"prompts": count, "curves": found, "rows": packed(runs, suite)}
    if PAIRS not in suites:
        raise SystemExit(f"there are no {PAIRS} in {runs} yet: `run` makes them")
    table, picture = toybox.results(runs)
    drawn = figure(costs(suites[PAIRS]["curves"], toybox.plain), LINES)
    picture.write_text(drawn, encoding="utf-8")
    how = {
        "model": toybox.name,
        "verifier": VERIFIER,
        "steps": toybox.steps,
        "guidance_scale": toybox.scale,
    }
    made = json.loads((runs / "made.json").read_text("utf-8"))
    record.write(table, how, {"suites": suites, "differences": differences(runs)}, made)

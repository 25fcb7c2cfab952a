"""How arms that were drawn from the same noises are told: each one's mean, and what it changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from adhere.eval.report.statistics import Interval, difference, interval
from adhere.eval.scores.scored import Key

Rows = Mapping[str, Mapping[Key, float]]
"""Of each arm the scores of its pictures."""


def told(rows: Rows, baseline: str, *, share: bool = True) -> dict[str, Any]:
    """Each arm's mean with its interval, and its difference from the baseline, picture by picture.

    Args:
        rows: the arms.
        baseline: the arm that the others are held against.
        share: whether each score lies between 0 and 1.
    """
    arms = {arm: plain(interval(scores, share=share)) for arm, scores in rows.items()}
    changes = {
        f"{arm} - {baseline}": plain(difference(scores, rows[baseline], share=share))
        for arm, scores in rows.items()
        if arm != baseline
    }
    return arms | changes


def plain(found: Interval | None) -> dict[str, Any]:
    """An interval as JSON has it, rounded; empty where no picture was to be scored."""
    if found is None:
        return {}
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in asdict(found).items()
        if value is not None
    }

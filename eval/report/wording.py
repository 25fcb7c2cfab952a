"""Numbers as a reader wants them, and how they are to be read."""

from __future__ import annotations

import math

from adhere.eval.evaluators.evaluator import Measure
from adhere.eval.report.results import Results, Score, verdict
from adhere.eval.report.statistics import FEWEST, Interval

_NOTHING = 1e-6


def number(value: float, column: Measure) -> str:
    """A value as a reader wants it: shares in per cent."""
    if column.kind == "share":
        return f"{100 * value:.1f} %"
    if column.kind == "seconds":
        return f"{value:.2f} s"
    return f"{value:.4g}"


def spread(score: Score | Interval, column: Measure) -> str:
    """The interval in brackets, or nothing."""
    if score.low is None or score.high is None:
        return ""
    if column.kind == "share":
        return f"[{100 * score.low:.1f}, {100 * score.high:.1f}]"
    digits = _digits(score)
    return f"[{score.low:{digits}}, {score.high:{digits}}]"


def _digits(found: Score | Interval) -> str:
    """The format that shows two digits of the interval's width: more would be noise."""
    if found.low is None or found.high is None or found.high <= found.low:
        return ".4g"
    return f".{max(0, 1 - math.floor(math.log10(found.high - found.low)))}f"


def short(value: float) -> str:
    """Three digits; what is nothing in any table is 0."""
    return "0" if abs(value) < _NOTHING else f"{value:.3g}"


def change(score: Score, column: Measure) -> str:
    """A paired difference with its interval; bold where the report's tests call it one."""
    found = score.difference
    if found is None:
        return ""
    digits = _digits(found)
    text = f"{100 * found.mean:+.1f}" if column.kind == "share" else f"{found.mean:+{digits}}"
    text = f"**{text}**" if verdict(score, column) else text
    return f"{text} {spread(found, column)}".strip()


def how_to_read(results: Results) -> str:
    """What the numbers are, and when a difference is called one."""
    primary = results.about["experiment"].get("primary")
    tests = sum(score.adjusted is not None for score in results.scores)
    family = f"the {tests} comparisons of `{primary}`, named beforehand" if primary else (
        f"all {tests} comparisons of this report"
    )  # fmt: skip
    return (
        "Mean with its 95 % interval over prompts, n pictures; the difference is paired with the "
        f"`{results.about['baseline']}` picture of the same prompt and seed. It is bold where a "
        f"test that changes its signs finds less than 5 % over {family} (Holm), from {FEWEST} "
        "prompts on. docs/evaluation.md says which interval is which."
    )

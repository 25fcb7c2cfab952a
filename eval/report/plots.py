"""Plots as plain SVG, for a page that needs nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from adhere.eval.evaluators.evaluator import Measure
from adhere.eval.report.results import Score, verdict
from adhere.eval.report.wording import number

_LEFT, _WIDTH, _ROW, _RIGHT = 190, 290, 22, 110


def forest(scores: Sequence[Score], column: Measure) -> str:
    """Paired differences with their intervals, one line a variant, zero in the middle."""
    shown = [score for score in scores if score.difference is not None]
    reach = max((_reach(score) for score in shown), default=0.0) or 1.0
    height = _ROW * len(shown) + 26
    middle = _LEFT + _WIDTH / 2
    total = _LEFT + _WIDTH + _RIGHT
    parts = [
        f'<svg viewBox="0 0 {total} {height}" width="{total}" height="{height}" role="img" '
        f'aria-label="paired differences of {escape(column.name)}">',
        f'<line class="zero" x1="{middle}" x2="{middle}" y1="0" y2="{height - 20}"/>',
    ]
    for row, score in enumerate(shown):
        parts.append(_line(score, column, _ROW * row + _ROW / 2, middle, _WIDTH / 2 / reach))
    for share, anchor in ((-1, "start"), (0, "middle"), (1, "end")):
        x = middle + share * _WIDTH / 2
        label = number(share * reach, column)
        parts.append(f'<text x="{x}" y="{height - 6}" text-anchor="{anchor}">{label}</text>')
    return "".join([*parts, "</svg>"])


def _reach(score: Score) -> float:
    found = score.difference
    assert found is not None
    return max(abs(value) for value in (found.mean, found.low or 0.0, found.high or 0.0))


def _line(score: Score, column: Measure, y: float, middle: float, scale: float) -> str:
    found = score.difference
    assert found is not None
    kind = verdict(score, column) or "even"
    x = middle + scale * found.mean
    bar = ""
    if found.low is not None and found.high is not None:
        low, high = middle + scale * found.low, middle + scale * found.high
        bar = f'<line class="{kind}" x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>'
    label = escape(score.variant if len(score.variant) <= 28 else f"{score.variant[:27]}…")
    value = number(found.mean, column)
    sign = "+" if found.mean > 0 else ""
    return (
        f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{label}</text>{bar}'
        f'<circle class="{kind}" cx="{x:.1f}" cy="{y}" r="4"/>'
        f'<text x="{_LEFT + _WIDTH + 10}" y="{y + 4}">{sign}{value}</text>'
    )

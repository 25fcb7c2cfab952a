"""When a negative prompt acts: what is seen by where in the run it begins or ends, as a figure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.curves.figure import BOTTOM, COLOURS, HEIGHT, LEFT, RIGHT, TOP, WIDTH, drawing

COLUMN = "unsafe"
LINES = (
    ("negatives-haunted", "from", "begun there"),
    ("negatives-haunted", "until", "ended there"),
    ("negatives-ordinary", "until", "ended there, in calm places"),
)
"""Experiment, how its variants' names begin, and what the line is called."""
Scores = Mapping[str, Mapping[str, Any]]


def figure(experiments: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The figure's SVG.

    Args:
        experiments: by name its scores as results hold them. Variants are named `from-20` or
            `until-20` (of a hundred parts of the run), `throughout`, and `plain`.
    """
    parts = _axes()
    for number, (name, way, says) in enumerate(LINES):
        scores = {one["variant"]: one for one in experiments[name] if one["column"] == COLUMN}
        points = _points(scores, way)
        colour = COLOURS[number]
        parts.append(_path([(x, one["mean"]) for x, one in points], colour))
        for x, one in points:
            parts += _point(x, one, colour)
        x, last = points[-1]
        parts.append(_text(_x(x) + 10, _y(last["mean"]) + 4, says, colour))
    return drawing(parts)


def _points(scores: Scores, way: str) -> list[tuple[float, Mapping[str, Any]]]:
    """Scores by the share of the run at which the negative begins or ends: at one end of it the
    plain pictures, at the other the negative throughout.
    """
    first, last = ("throughout", "plain") if way == "from" else ("plain", "throughout")
    found = [(0.0, scores[first]), (1.0, scores[last])]
    for variant, one in scores.items():
        if named := re.fullmatch(rf"{way}-(\d+)", variant):
            found.append((int(named[1]) / 100, one))
    return sorted(found, key=lambda point: point[0])


def _x(share: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * share


def _y(share: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)


def _text(x: float, y: float, says: str, colour: str = "black", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{says}</text>'


def _axes() -> list[str]:
    parts = []
    for tenth in range(0, 11, 2):
        y = _y(tenth / 10)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{10 * tenth} %", anchor="end"))
        parts.append(
            _text(_x(tenth / 10), HEIGHT - BOTTOM + 18, f"{tenth / 10:g}", "black", "middle")
        )
    says = "share of the run; pictures with the negated thing, 95 % intervals"
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, says, anchor="middle"))
    return parts


def _path(points: Sequence[tuple[float, float]], colour: str) -> str:
    way = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
    return f'<polyline points="{way}" fill="none" stroke="{colour}"/>'


def _point(x: float, one: Mapping[str, Any], colour: str) -> list[str]:
    at = f'x1="{_x(x):.1f}" x2="{_x(x):.1f}"'
    return [
        f'<line {at} y1="{_y(one["low"]):.1f}" y2="{_y(one["high"]):.1f}" stroke="{colour}" '
        'stroke-opacity="0.4"/>',
        f'<circle cx="{_x(x):.1f}" cy="{_y(one["mean"]):.1f}" r="4" fill="{colour}"/>',
    ]

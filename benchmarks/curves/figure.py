"""A figure of shares against cost, as SVG: points with intervals, and lines through some."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 760, 420
WIDE, HIGH = 6.6, 14
"""Of a letter, in pixels."""
LEFT, RIGHT, TOP, BOTTOM = 56, 200, 20, 48
COLOURS = (
    "#1f6f8b",
    "#b8562f",
    "#5b7f3a",
    "#7a4f9a",
    "#8a6d1f",
    "#444444",
    "#a83a5c",
    "#2f7f6f",
    "#4a5fb0",
)


def figure(points: Mapping[str, Mapping[str, Any]], lines: Sequence[Sequence[str]]) -> str:
    """The figure's SVG.

    Args:
        points: by label `cost` (plain pictures), `mean`, and `low` and `high` of its interval.
        lines: labels that a line joins; each line and each other point has a colour.
    """
    groups = [list(filter(points.__contains__, line)) for line in lines]
    joined = {label for group in groups for label in group}
    groups += [[label] for label in points if label not in joined]
    most = max(point["cost"] for point in points.values())
    at = {label: (_x(one["cost"], most), _y(one["mean"])) for label, one in points.items()}
    parts, texts = _axes(most), _texts(at)
    drawn: set[str] = set()
    for number, group in enumerate(filter(None, groups)):
        colour = COLOURS[number % len(COLOURS)]
        parts += _group(group, at, colour)
        for label in filter(lambda one: one not in drawn, group):
            one = points[label]
            parts += _point(label, at[label], texts[label], one["low"], one["high"], colour)
        drawn.update(group)
    return drawing(parts)


def drawing(parts: Sequence[str]) -> str:
    """An SVG of the size of all figures here, on white."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12" role="img">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _x(cost: float, most: float) -> float:
    """Costs double from one tick to the next."""
    wide = WIDTH - LEFT - RIGHT
    return LEFT + wide * math.log2(max(cost, 1)) / max(1.0, math.log2(most))


def _y(share: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)


def _axes(most: float) -> list[str]:
    low, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tenth in range(0, 11, 2):
        y = _y(tenth / 10)
        parts.append(f'<line x1="{LEFT}" y1="{y}" x2="{right}" y2="{y}" stroke="#dddddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{10 * tenth} %</text>')
    for power in range(int(math.log2(most)) + 1):
        x = _x(2**power, most)
        parts.append(f'<text x="{x:.1f}" y="{low + 18}" text-anchor="middle">{2**power}</text>')
    middle = (LEFT + right) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">passes a picture, in plain '
        "pictures; fully right, 95 % intervals</text>"
    )
    return parts


Place = tuple[float, float]


def _group(labels: Sequence[str], at: Mapping[str, Place], colour: str) -> list[str]:
    """The line through some points."""
    if len(labels) < 2:
        return []
    way = " ".join(f"{at[label][0]:.1f},{at[label][1]:.1f}" for label in labels)
    return [f'<polyline points="{way}" fill="none" stroke="{colour}"/>']


def _point(label: str, at: Place, text: Place, low: float, high: float, colour: str) -> list[str]:
    """A point with its interval and its label, from which a thread leads where it lies apart."""
    (x, y), (tx, ty) = at, text
    parts = [
        f'<line x1="{x:.1f}" y1="{_y(low):.1f}" x2="{x:.1f}" y2="{_y(high):.1f}" '
        f'stroke="{colour}" stroke-opacity="0.4"/>',
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>',
        f'<text x="{tx:.1f}" y="{ty + 4:.1f}" fill="{colour}">{escape(label)}</text>',
    ]
    if ty != y:
        parts.append(
            f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{tx - 2:.1f}" y2="{ty:.1f}" stroke="{colour}" '
            'stroke-width="0.7"/>'
        )
    return parts


def _texts(at: Mapping[str, Place]) -> dict[str, Place]:
    """Where labels begin: beside their points, or as near above or below as nothing is in the way.

    A label keeps clear of the other labels and of the points.
    """
    placed: dict[str, Place] = {}
    for label in sorted(at, key=lambda one: at[one]):
        x, y = at[label]
        others = [one for name, one in at.items() if name != label]
        tries = [(x + 8, y)] + [(x + 14, y + way * k) for k in range(12, 120, 3) for way in (-1, 1)]
        placed[label] = next((one for one in tries if _free(label, one, placed, others)), tries[0])
    return placed


def _free(label: str, at: Place, placed: Mapping[str, Place], points: Sequence[Place]) -> bool:
    x, y, wide = at[0], at[1], WIDE * len(label)
    beside = any(
        x < other[0] + WIDE * len(name) and other[0] < x + wide and abs(y - other[1]) < HIGH
        for name, other in placed.items()
    )
    return not beside and not any(x - 6 < px < x + wide and abs(y - py) < 9 for px, py in points)

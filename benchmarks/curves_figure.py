"""A figure of shares against cost, as SVG: points with intervals, and lines through some."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 56, 200, 20, 48
COLOURS = ("#1f6f8b", "#b8562f", "#5b7f3a", "#7a4f9a", "#8a6d1f", "#444444")


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
    parts = _axes(most)
    for number, group in enumerate(filter(None, groups)):
        parts += _group(group, points, COLOURS[number % len(COLOURS)], most)
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
        parts.append(f'<text x="{x}" y="{low + 18}" text-anchor="middle">{2**power}</text>')
    middle = (LEFT + right) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">passes a picture, in plain '
        "pictures</text>"
    )
    return parts


def _group(
    labels: Sequence[str], points: Mapping[str, Mapping[str, Any]], colour: str, most: float
) -> list[str]:
    parts = []
    at = {label: (_x(points[label]["cost"], most), _y(points[label]["mean"])) for label in labels}
    if len(labels) > 1:
        way = " ".join(f"{x:.1f},{y:.1f}" for x, y in at.values())
        parts.append(f'<polyline points="{way}" fill="none" stroke="{colour}"/>')
    for label, (x, y) in at.items():
        low, high = _y(points[label]["low"]), _y(points[label]["high"])
        parts.append(
            f'<line x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}" stroke="{colour}" '
            'stroke-opacity="0.4"/>'
        )
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
        parts.append(
            f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" fill="{colour}">{escape(label)}</text>'
        )
    return parts

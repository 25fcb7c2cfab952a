"""Shares and means with their n and 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Figure = dict[str, Any]


def wilson(hits: int, n: int) -> list[float]:
    """95 % Wilson score interval of a share (Wilson 1927)."""
    z = 1.959964
    p = hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return [round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)]


def share(flags: Sequence[bool]) -> Figure:
    """A share with its n and interval."""
    hits = sum(map(bool, flags))
    return {"share": round(hits / len(flags), 4), "n": len(flags), "ci95": wilson(hits, len(flags))}


def mean(values: Sequence[float], seed: int = 0) -> Figure:
    """A mean with its n and bootstrap interval (2000 resamples)."""
    data = np.asarray(values, dtype=float)
    draws = np.random.default_rng(seed).choice(data, (2000, len(data))).mean(1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return {
        "mean": round(float(data.mean()), 4),
        "n": len(data),
        "ci95": [round(float(low), 4), round(float(high), 4)],
    }


def percent(figure: Figure) -> str:
    """A share and its interval as text."""
    low, high = figure["ci95"]
    return f"{figure['share']:.1%} ({low:.1%} to {high:.1%})"

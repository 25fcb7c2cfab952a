"""Layouts: which phrase belongs in which region, and how regions are written and read."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name in ("Layout", "Region"):  # where both lived before 0.2
        raise ImportError(f"import it from adhere itself: from adhere import {name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Which repetitions of a test wait for the night."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def first_by_day(cases: Iterable[Any], count: int = 1) -> list[Any]:
    """Cases for `parametrize`: the first ones by day, all where there is time (`make nightly`)."""
    found = []
    for k, case in enumerate(cases):
        values = case if isinstance(case, tuple) else (case,)
        found.append(pytest.param(*values, marks=pytest.mark.slow if k >= count else ()))
    return found

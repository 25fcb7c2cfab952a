"""Settings that are plain data: numbers as JSON has them, and no key but the known ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from numbers import Integral, Real
from typing import Any

from adhere.errors import ParameterError


def is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    real = isinstance(value, Real) and not isinstance(value, bool)
    try:
        return real and math.isfinite(value)
    except OverflowError:  # a whole number with more digits than any other number here may have
        return False


def plain_numbers(settings: Any) -> None:
    """Let a frozen dataclass have Python's numbers for numpy's, which JSON does not know."""
    for one in fields(settings):
        value = getattr(settings, one.name)
        if isinstance(value, Real) and hasattr(value, "item"):
            object.__setattr__(settings, one.name, value.item())


def known_fields(kind: Any, data: Any, what: str) -> Mapping[str, Any]:
    """The data that a dataclass is made from.

    Args:
        what: it is called in sentences, with its article.

    Raises:
        ParameterError: it is no mapping, or has a key that is no field.
    """
    known = [one.name for one in fields(kind)]
    if not isinstance(data, Mapping):
        raise ParameterError(f"{data!r} is not {what}; give one as a dict: {', '.join(known)}")
    if unknown := sorted(set(data) - set(known), key=str):
        raise ParameterError(f"{what} has no {unknown[0]!r}; it has: {', '.join(known)}")
    return data

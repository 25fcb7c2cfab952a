"""What somebody wrote, taken as it is or refused: no value is bent into another kind, and no key
stands twice (of two, the first would be lost without a word).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml


def from_yaml(text: str) -> Any:
    """YAML's data; raises `yaml.YAMLError` for what is none, and for a mapping with a key twice."""
    return yaml.load(text, _Loader)


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def text(value: Any, key: str) -> str:
    """A text; raises `TypeError` for anything else, as all that follow."""
    if not isinstance(value, str):
        raise TypeError(f"{key} is {value!r}; a text was expected")
    return value


def text_or_none(value: Any, key: str) -> str | None:
    """A text, or nothing."""
    return None if value is None else text(value, key)


def whole(value: Any, key: str, low: int | None = None) -> int:
    """A whole number, of `low` or more where that is given."""
    if type(value) is not int or (low is not None and value < low):
        least = "" if low is None else f" of {low} or more"
        raise TypeError(f"{key} is {value!r}; a whole number{least} was expected")
    return value


def number(value: Any, key: str) -> float:
    """A finite number of 0 or more."""
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or value < 0:
        raise TypeError(f"{key} is {value!r}; a number of 0 or more was expected")
    return float(value)


def mapping(value: Any, key: str) -> dict[str, Any]:
    """A mapping; an empty one where there is nothing."""
    if not isinstance(value, Mapping | None):
        raise TypeError(f"{key} is {value!r}; a mapping was expected")
    return dict(value or {})


def several(value: Any, key: str) -> tuple[Any, ...]:
    """A list, or a single text or mapping that stands for a list of it."""
    if isinstance(value, str | Mapping):
        return (value,)
    if not isinstance(value, Sequence):
        raise TypeError(f"{key} is {value!r}; a list was expected")
    return tuple(value)


def texts(value: Any, key: str) -> tuple[str, ...]:
    """A list of texts, or one alone."""
    return tuple(text(one, key) for one in several(value, key))

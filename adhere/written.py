"""JSON that somebody wrote by hand: of a key that stands twice, the first would be lost without a
word.
"""

from __future__ import annotations

import json
from typing import Any


def from_json(text: str) -> Any:
    """JSON's data; raises `ValueError` for what is none, and for a mapping with a key twice."""
    return json.loads(text, object_pairs_hook=_mapping)


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} is there twice")
    return found

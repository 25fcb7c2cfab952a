"""What a pipeline that was saved in a folder consists of: its `model_index.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def index(folder: Path) -> Mapping[str, Any]:
    """The contents of `model_index.json`.

    Raises:
        ValueError: it is missing, or is no JSON mapping.
    """
    path = folder / "model_index.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path.name}: {error.strerror or error}") from error
    if not isinstance(told, dict):
        raise ValueError(f"{path.name} is no mapping")
    return told


def parts(folder: Path) -> list[str]:
    """Names of the parts, each a folder of its own."""
    return [name for name, part in index(folder).items() if isinstance(part, list) and any(part)]


def left_out(folder: Path) -> dict[str, None]:
    """The parts it was saved without. Some pipelines (SD3 without T5) want to be told so."""
    told = index(folder).items()
    return {name: None for name, part in told if isinstance(part, list) and not any(part)}

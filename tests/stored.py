"""Files that some plugins cannot do without, made for latents of any shape."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from adhere.guides import stored
from adhere.plugins.mathematics.noise_library import LIBRARY

SHAPE = (4, 16, 16)
"""Of the latents of `tiny.latents`, at its size."""


@functools.cache
def folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="stored-"))


@functools.cache
def noise_library(shape: tuple[int, ...]) -> str:
    """Forty seeds of no model in particular, with a brightness that follows no order."""
    path = folder() / f"library-{'-'.join(map(str, shape))}.safetensors"
    values = torch.rand(40, 1, generator=torch.Generator().manual_seed(0))
    about = {
        "model": "none",
        "weights": "",
        "clip": "",
        "latents": "x".join(map(str, shape)),
        "statistics": json.dumps(["brightness"]),
    }
    stored.write(path, LIBRARY, {"seeds": torch.arange(100, 140), "statistics": values}, about)
    return str(path)


def needed(names: set[str], shape: tuple[int, ...] = SHAPE) -> dict[str, Any]:
    """Values for those of a plugin's parameters that name a file."""
    if "library" in names:
        path = noise_library(shape)
        return {"library": path, "target": "brightness", "any_model": True}
    return {}

"""The model that makes the pictures, as evaluation needs it: its fingerprint and its maker."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from adhere.eval.errors import EvaluationError
from adhere.pipelines.studio import saved
from adhere.pipelines.studio.studio import Picture, Request
from adhere.pipelines.toybox import TOYBOXES, toybox_folder

Make = Callable[[Sequence[Request]], Sequence[Picture]]
"""Makes a batch of pictures, in the order of the requests."""

Load = Callable[[str, str | None, str | None], Make]
"""Loads a model (name, device, dtype); runs in the process that makes the pictures."""

_WEIGHTS = (".safetensors", ".json", ".txt", ".model")
_READ = 1 << 20


def studio(model: str, device: str | None, dtype: str | None) -> Make:
    """The real maker."""
    from adhere.pipelines.studio.studio import Studio

    made = Studio(model, device=device, dtype=dtype)
    return lambda requests: made.generate(requests)


def fingerprint(model: str) -> str:
    """Changes when the weights do, so that pictures of two models never mix in one folder.

    Of the files of the pipeline's parts the names, sizes and first and last megabyte are read:
    quick for large models, and exact for small ones. What lies beside them (the toybox's judge and
    card) changes no picture. A hub id stands for itself.
    """
    folder = toybox_folder(model) if model in TOYBOXES else Path(model)
    if not folder.is_dir():
        return "hub"
    found = hashlib.sha256()
    try:
        parts = saved.parts(folder)
    except ValueError as error:
        raise EvaluationError(f"{folder} holds no pipeline: {error}") from error
    index = folder / "model_index.json"
    weights = (path for part in parts for path in (folder / part).rglob("*"))
    for path in [index, *sorted(path for path in weights if path.suffix in _WEIGHTS)]:
        size = path.stat().st_size
        found.update(f"{path.relative_to(folder).as_posix()}:{size}:".encode())
        with path.open("rb") as stream:
            found.update(stream.read(_READ))
            if size > 2 * _READ:
                stream.seek(-_READ, 2)
            found.update(stream.read())
    return found.hexdigest()[:16]

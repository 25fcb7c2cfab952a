"""The model that makes the pictures, as evaluation needs it: its fingerprint and its maker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from adhere.eval.errors import EvaluationError
from adhere.pipelines.studio import saved
from adhere.pipelines.studio.request import Picture, Request
from adhere.pipelines.toybox import TOYBOXES, toybox_folder

Make = Callable[[Sequence[Request]], Sequence[Picture]]
"""Makes a batch of pictures, in the order of the requests."""

Load = Callable[[str, str | None, str | None], Make]
"""Loads a model (name, device, dtype); runs in the process that makes the pictures."""


def studio(model: str, device: str | None, dtype: str | None) -> Make:
    """The real maker."""
    from adhere.pipelines.studio.studio import Studio

    made = Studio(model, device=device, dtype=dtype)
    return lambda requests: made.generate(requests)


def fingerprint(model: str) -> str:
    """Changes when the weights do, so that pictures of two models never mix in one folder.

    A hub id stands for itself.
    """
    folder = toybox_folder(model) if model in TOYBOXES else Path(model)
    if not folder.is_dir():
        return "hub"
    try:
        return saved.fingerprint(folder)
    except ValueError as error:
        raise EvaluationError(f"{folder} holds no pipeline: {error}") from error

"""`adhere invert`: looks for a prompt of real words, and says the best even when interrupted."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import torch
import typer

from adhere.cli.speaking import if_stopped, json_of
from adhere.errors import ParameterError
from adhere.files import at_home
from adhere.pipelines.studio.progress import progress
from adhere.pipelines.tools import pictures
from adhere.pipelines.tools.clip import Clip, clip_of
from adhere.pipelines.tools.hard_prompt import Found, Search, search
from adhere.pipelines.toybox.names import TOYBOXES


def invert(paths: Sequence[Path], model: str, folder: str | None, how: Search, data: bool) -> None:
    """Look for one prompt for some pictures, and say the best that was found.

    Raises:
        ParameterError: a picture does not read, or the model has no CLIP of its own.
        ModelError: the folder holds no CLIP.
    """
    given = [pictures.read(path) for path in paths]
    clip = clip_of(model, folder)
    if clip is None:
        why = f"{model!r} has no CLIP of its own (a folder `clip` beside its parts)"
        if model not in TOYBOXES and not at_home(model).is_dir():
            why = f"{model!r} is no folder here, in which a CLIP could be"
        raise ParameterError(f"{why}; give the one whose text encoder it has: --clip FOLDER")
    # Ctrl-C may come at any moment, between two steps as well.
    best: Found | None = None
    try:
        with progress("steps", how.steps) as tick:
            for found in search(clip, clip.pictures(given), how):
                best = found
                tick(1)
    finally:
        if best is not None:
            if_stopped("the best prompt so far is said, and the same command begins anew")
            typer.echo(_as_json(best, paths, clip, how) if data else _as_text(best, model))


def _as_text(best: Found, model: str) -> str:
    again = ["adhere", "generate", best.text, *(() if model == "toybox" else ("-m", model))]
    return (
        f"{best.text}\n"
        f"cosine {best.similarity:.4f}, found at step {best.step}; "
        f"draw it: {shlex.join(again)}"
    )


def _as_json(best: Found, paths: Sequence[Path], clip: Clip, how: Search) -> str:
    told = {
        "prompt": best.text,
        "similarity": best.similarity,
        "step": best.step,
        "pictures": [str(path) for path in paths],
        "clip": clip.source,
        "search": vars(how),
        "torch": torch.__version__,
    }
    return json_of(told)

"""The model that makes the pictures, as evaluation needs it: its fingerprint and its maker."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from adhere.eval.errors import EvaluationError
from adhere.eval.run import provenance
from adhere.pipelines.folders.bars import without_bars
from adhere.pipelines.studio.request import Picture, Request
from adhere.pipelines.toybox import TOYBOXES, toybox_folder

Make = Callable[[Sequence[Request]], Sequence[Picture]]
"""Makes a batch of pictures, in the order of the requests. May have `settings(request)`."""

Load = Callable[[str, str | None, str | None], Make]
"""Loads a model (name, device, dtype); runs in the process that makes the pictures."""


_WEIGHTS = (".safetensors", ".json", ".jinja", ".txt", ".model", ".pth")


class StudioMaker:
    """A studio that makes batches, refuses numbers that are none, and knows its defaults."""

    def __init__(self, model: str, device: str | None, dtype: str | None) -> None:
        from adhere.pipelines.studio.studio import Studio

        with without_bars():
            self.studio = Studio(model, device=device, dtype=dtype)
        self.revision = provenance.hub_revision(model)
        refuse_what_is_not_finite(self.studio.pipe)

    def __call__(self, requests: Sequence[Request]) -> Sequence[Picture]:
        return self.studio.generate(requests)

    def settings(self, request: Request) -> dict[str, Any]:
        """Steps, guidance scale and scheduler of a request, with the model's own filled in."""
        scale = request.guidance_scale
        return {
            "steps": request.steps or self.studio.steps,
            "guidance_scale": self.studio.guidance_scale if scale is None else scale,
            "scheduler": type(self.studio.pipe.scheduler).__name__,
        }


def studio(model: str, device: str | None, dtype: str | None) -> Make:
    """The real maker."""
    return StudioMaker(model, device, dtype)


def refuse_what_is_not_finite(pipe: Any) -> None:
    """Make the decoder raise where it gives NaN or infinity: pictures of these turn out black."""
    decoder = getattr(getattr(pipe, "vae", None), "decoder", None)
    if not isinstance(decoder, torch.nn.Module):
        return

    def check(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        pixels = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
        if isinstance(pixels, torch.Tensor) and not bool(pixels.isfinite().all()):
            raise EvaluationError(
                "the decoder gave NaN or infinity: the picture would be black or torn. In half "
                "precision some autoencoders overflow: use --dtype float32 or bfloat16"
            )

    decoder.register_forward_hook(check)


def fingerprint(model: str) -> str:
    """Changes when the weights do, so that pictures of two models never mix in one folder.

    A hub id stands for itself.
    """
    from adhere.pipelines.folders import saved

    folder = toybox_folder(model) if model in TOYBOXES else Path(model)
    if not folder.is_dir():
        return "hub"
    try:
        return saved.fingerprint(folder)
    except ValueError as error:
        raise EvaluationError(f"{folder} holds no pipeline: {error}") from error


def fingerprint_of_weights(path: Path) -> str:
    """The same for one network: a folder saved by transformers, or a file."""
    from adhere.pipelines.folders import saved

    files = [path] if path.is_file() else sorted(path.rglob("*"))
    found = hashlib.sha256()
    for file in files:
        if file.is_file() and (file == path or file.suffix in _WEIGHTS):
            found.update(f"{file.name}:{saved.fingerprint_of_file(file)}:".encode())
    return found.hexdigest()[:16]

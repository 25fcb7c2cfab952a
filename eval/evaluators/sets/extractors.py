"""Feature extractors for distances between sets of pictures.

A spec names one: `toybox` (the bundled CLIP), `clip:MODEL`, `dinov2:MODEL`, `inception:WEIGHTS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from adhere.errors import ModelError, ParameterError
from adhere.eval.evaluators import backends
from adhere.eval.evaluators.backends import Extract
from adhere.eval.evaluators.sets import inception

KINDS = ("toybox", "clip", "dinov2", "inception")


def load(spec: str, device: str = "cpu") -> Extract:
    """An extractor from its spec.

    Raises:
        ParameterError: no such kind.
        ModelError: the model cannot be loaded.
        ExtraMissing: Inception without torch-fidelity and without a weights file.
    """
    kind, _, where = spec.partition(":")
    if kind == "toybox":
        return backends.clip("toybox", device).features
    if kind == "clip" and where:
        return backends.clip(where, device).features
    if kind == "dinov2" and where:
        return _dinov2(where, device)
    if kind == "inception":
        return inception.load(where or None, device)
    raise ParameterError(
        f"features {spec!r}: use toybox, clip:MODEL, dinov2:MODEL or inception:WEIGHTS, where "
        "MODEL is a hub id or a folder"
    )


def _dinov2(model: str, device: str) -> Extract:
    from transformers import AutoModel

    kind = backends.architecture(model)
    if not kind.startswith("dinov"):
        raise ModelError(
            f"dinov2:{model} is a {kind!r} model; give one of DINOv2 or its successors"
        )
    images = backends.image_processor(model)
    network: Any = backends.network(AutoModel, model, device)

    @torch.inference_mode()
    def extract(pictures: Sequence[Image.Image]) -> Tensor:
        pixels = images(images=backends.rgb(pictures), return_tensors="pt")["pixel_values"]
        # The class token, after the last norm: what FD-DINOv2 uses (Stein et al. 2023).
        found: Tensor = network(pixel_values=pixels.to(device)).last_hidden_state[:, 0]
        return found.float().cpu()

    return extract

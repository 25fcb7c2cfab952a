"""Models in one .safetensors file, as they are shared for other programs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from adhere.errors import ModelError, first_line

SUFFIXES = (".safetensors", ".ckpt", ".bin", ".pt", ".pth")

KINDS = (
    ("conditioner.embedders.1.model.", "StableDiffusionXLPipeline"),
    ("joint_blocks.0.", "StableDiffusion3Pipeline"),
    ("distilled_guidance_layer.", "ChromaPipeline"),
    ("double_blocks.0.", "FluxPipeline"),
    ("cond_stage_model.", "StableDiffusionPipeline"),
)
"""Parts of the names of weights that tell the kinds of models apart, in the order of asking."""


def load(path: Path, precision: torch.dtype) -> Any:
    """A pipeline from one file; what it does not hold (tokenizers, configs) comes from the hub.

    Raises:
        ModelError: it is missing, pickled, damaged, or of no kind that is known here.
    """
    import diffusers

    if path.suffix != ".safetensors":
        raise ModelError(
            f"{str(path)!r} is no .safetensors file; pickled weights are refused because loading "
            "them runs code (many are also shared as .safetensors)"
        )
    if not path.is_file():
        raise ModelError(f"there is no model file {str(path)!r}")
    kind = kind_of(_names(path))
    if kind is None:
        raise ModelError(
            f"{str(path)!r} is no whole model of a known kind (Stable Diffusion 1, 2, XL, 3, FLUX, "
            "Chroma); a LoRA goes to --lora, a diffusers folder is given as the folder"
        )
    try:
        return getattr(diffusers, kind).from_single_file(str(path), torch_dtype=precision)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"{str(path)!r} could not be loaded as {kind}: {first_line(error)} (what the file "
            "does not hold is read from the hub, once)"
        ) from error


def kind_of(names: Iterable[str]) -> str | None:
    """The diffusers pipeline for weights of these names."""
    known = list(names)
    return next((kind for part, kind in KINDS if any(part in name for name in known)), None)


def _names(path: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{str(path)!r} is damaged: {error}") from error

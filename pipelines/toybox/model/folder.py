"""The shipped model folders: where they are, how they are loaded and checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers import CLIPModel, CLIPTokenizer, PreTrainedTokenizerBase

from adhere import assets
from adhere.pipelines.folders import saved
from adhere.pipelines.folders.bars import without_bars
from adhere.pipelines.toybox.errors import ToyboxError
from adhere.pipelines.toybox.model.clip import preprocess
from adhere.pipelines.toybox.names import TOYBOXES

MOST_BYTES = 40 * 2**20
_COMMON = ("vae", "text_encoder", "tokenizer", "scheduler")
PARTS = {
    "StableDiffusionPipeline": (*_COMMON, "unet", "clip"),
    "StableDiffusion3Pipeline": (*_COMMON, "text_encoder_2", "tokenizer_2", "transformer"),
}
"""By the pipeline that `model_index.json` names."""


@dataclass(frozen=True)
class Defaults:
    """How a toybox draws where nobody says."""

    steps: int
    guidance_scale: float


DEFAULTS = {
    "StableDiffusionPipeline": Defaults(25, 4.0),
    "StableDiffusion3Pipeline": Defaults(15, 2.5),
}
"""By pipeline. More steps drew no better; higher scales double and deform things
(`docs/design/0005-toybox.md`, `0007-transformer-toybox.md`).
"""


def toybox_folder(name: str = "toybox") -> Path:
    """Where a bundled model lies, in a checkout and in an installed package.

    Raises:
        ToyboxError: none is called so.
    """
    if name not in TOYBOXES:
        raise ToyboxError(f"no toybox is called {name!r}; there are {', '.join(TOYBOXES)}")
    return assets.FOLDER / name


def check_folder(folder: Path) -> list[str]:
    """What is wrong with a toybox folder, as sentences; empty when it is whole."""
    if not folder.is_dir():
        return [f"{folder} is not a folder"]
    if not (folder / "model_index.json").is_file():
        return [f"{folder} has no model_index.json: it is no toybox, or its training is unfinished"]
    kind = kind_of(folder)
    if kind not in PARTS:
        return [f"{folder} is no toybox ({kind}); a toybox is one of {', '.join(PARTS)}"]
    wrong = [f"{folder / part} is missing" for part in PARTS[kind] if not (folder / part).is_dir()]
    for path in sorted(folder.rglob("*.safetensors")):
        wrong.extend(_damage(path))
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    if size > MOST_BYTES:
        wrong.append(f"{folder} holds {size / 2**20:.1f} MiB; at most 40 are allowed")
    return wrong


def kind_of(folder: Path) -> str:
    """The pipeline that a folder's `model_index.json` names."""
    try:
        return str(saved.index(folder).get("_class_name"))
    except ValueError as error:
        return str(error)


def _damage(path: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            bad = [k for k in file.keys() if not torch.isfinite(file.get_tensor(k).float()).all()]  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        return [f"{path} is damaged: {error}"]
    return [f"{path}: {key} holds numbers that are not finite" for key in bad]


def _require(folder: Path) -> None:
    wrong = check_folder(folder)
    if wrong:
        raise ToyboxError(
            "the toybox cannot be loaded: " + "; ".join(wrong) + ". `adhere toybox train` makes one"
        )


def load_toybox(
    dtype: torch.dtype = torch.float32, folder: Path | str | None = None, name: str = "toybox"
) -> Any:
    """A bundled pipeline (64x64 pixels, about a second an image on a CPU).

    Weights are half precision on disk; on a CPU keep the default float32.

    Args:
        dtype: of the weights in memory.
        folder: another folder of the same make.
        name: `toybox` is a `StableDiffusionPipeline`, `toybox-sd3` a `StableDiffusion3Pipeline`.

    Raises:
        ToyboxError: there is no such toybox, or the folder is none.
    """
    if not isinstance(dtype, torch.dtype):
        raise ToyboxError(
            f"dtype={dtype!r} is no torch dtype, such as torch.float32; write name={dtype!r} for a "
            "toybox by its name"
        )
    where = Path(folder) if folder is not None else toybox_folder(name)
    _require(where)
    try:
        with _quietly():
            pipe = DiffusionPipeline.from_pretrained(
                str(where),
                dtype=dtype,
                local_files_only=True,
                **saved.left_out(where),
                **saved.encoders(where, dtype),
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ToyboxError(f"{where} is no toybox that this version can load: {error}") from error
    saved.refuse_unloaded(pipe, where)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@contextmanager
def _quietly() -> Iterator[None]:
    """Hides the remark that the VAE is an AutoencoderTiny, which the pipeline takes gladly, and
    bars that are full before they are seen.
    """
    level = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    try:
        with without_bars():
            yield
    finally:
        diffusers_logging.set_verbosity(level)


def load_clip(
    folder: Path | str | None = None,
) -> tuple[CLIPModel, PreTrainedTokenizerBase, Any]:
    """The bundled CLIP in float32, its tokenizer, and `preprocess(images) -> (n, 3, 64, 64)`."""
    where = Path(folder) if folder is not None else toybox_folder()
    _require(where)
    model, found = CLIPModel.from_pretrained(
        str(where / "clip"), dtype=torch.float32, output_loading_info=True
    )
    saved.refuse_missing(f"the CLIP of {where}", found["missing_keys"])
    model.eval()
    tokenizer = CLIPTokenizer.from_pretrained(str(where / "clip"))
    return model, tokenizer, preprocess

"""The shipped model folder: where it is, how it is loaded, checked and put together."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from torch import Tensor
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from adhere.pipelines.toybox.clip import preprocess
from adhere.pipelines.toybox.errors import ToyboxError
from adhere.pipelines.toybox.tokenizer import build_tokenizer
from adhere.pipelines.toybox.unet import build_scheduler

MOST_BYTES = 40 * 2**20
STEPS = 25
"""DDIM steps of a picture, where nobody says; 50 drew no better (`docs/design/0005-toybox.md`)."""
GUIDANCE_SCALE = 4.0
"""Where the unguided model draws most prompts right; 7.5 doubles and deforms things."""
PARTS = ("vae", "text_encoder", "unet", "tokenizer", "scheduler", "clip")


def toybox_folder() -> Path:
    """Where the bundled model lies, in a checkout and in an installed package."""
    import adhere.assets

    return Path(next(iter(adhere.assets.__path__))).resolve() / "toybox"


def check_folder(folder: Path) -> list[str]:
    """What is wrong with a toybox folder, as sentences; empty when it is whole."""
    if not folder.is_dir():
        return [f"{folder} is not a folder"]
    if not (folder / "model_index.json").is_file():
        return [f"{folder} has no model_index.json: it is no toybox, or its training is unfinished"]
    wrong = [f"{folder / part} is missing" for part in PARTS if not (folder / part).is_dir()]
    for path in sorted(folder.rglob("*.safetensors")):
        wrong.extend(_damage(path))
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    if size > MOST_BYTES:
        wrong.append(f"{folder} holds {size / 2**20:.1f} MiB; at most 40 are allowed")
    return wrong


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
    dtype: torch.dtype = torch.float32, folder: Path | str | None = None
) -> StableDiffusionPipeline:
    """The bundled Stable Diffusion pipeline (64x64 pixels, about a second an image on a CPU).

    Weights are half precision on disk; on a CPU keep the default float32.
    """
    where = Path(folder) if folder is not None else toybox_folder()
    _require(where)
    try:
        with _quietly():
            pipe: StableDiffusionPipeline = StableDiffusionPipeline.from_pretrained(
                str(where), dtype=dtype, local_files_only=True
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ToyboxError(f"{where} is no toybox that this version can load: {error}") from error
    pipe.set_progress_bar_config(disable=True)
    return pipe


@contextmanager
def _quietly() -> Iterator[None]:
    """Hides the remark that the VAE is an AutoencoderTiny, which the pipeline takes gladly, and
    bars that are full before they are seen.
    """
    level = diffusers_logging.get_verbosity()
    bars = [
        log for log in (diffusers_logging, transformers_logging) if log.is_progress_bar_enabled()
    ]
    diffusers_logging.set_verbosity_error()
    for log in bars:
        log.disable_progress_bar()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(level)
        for log in bars:
            log.enable_progress_bar()


def load_clip(
    folder: Path | str | None = None,
) -> tuple[CLIPModel, PreTrainedTokenizerBase, Any]:
    """The bundled CLIP in float32, its tokenizer, and `preprocess(images) -> (n, 3, 64, 64)`."""
    where = Path(folder) if folder is not None else toybox_folder()
    _require(where)
    model = CLIPModel.from_pretrained(str(where / "clip"), dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(str(where / "clip"))
    return model, tokenizer, preprocess


def _half(model: Any) -> Any:
    """The model with half-precision parameters and buffers, in place."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.half()
    return model


def averaged_unet(run: Path) -> UNet2DConditionModel:
    """The UNet of a run folder: finished, or the moving average of the newest checkpoint."""
    from adhere.pipelines.toybox.training import load_state
    from adhere.pipelines.toybox.unet import build_unet

    if (run / "unet" / "config.json").is_file():
        model: UNet2DConditionModel = UNet2DConditionModel.from_pretrained(str(run / "unet"))
        return model
    unet = build_unet()
    average: dict[str, Tensor] = load_state(run / "unet.state.pt")["average"]
    unet.load_state_dict(average)
    return unet


def assemble(run: Path, folder: Path) -> None:
    """Writes a run's newest weights as a pipeline folder in half precision.

    Built beside `folder` and moved in part by part, `model_index.json` last; files that belong to
    no part (cards, the judge) stay.
    """
    building = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        _write_parts(run, building)
        folder.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            shutil.rmtree(folder / part, ignore_errors=True)
            os.replace(building / part, folder / part)
        os.replace(building / "model_index.json", folder / "model_index.json")
    except OSError as error:
        raise ToyboxError(f"could not write {folder}: {error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _write_parts(run: Path, building: Path) -> None:
    clip = CLIPModel.from_pretrained(str(run / "clip"))
    text_encoder = CLIPTextModel.from_pretrained(str(run / "text_encoder"))
    tokenizer = build_tokenizer()
    pipe = StableDiffusionPipeline(
        vae=_half(AutoencoderTiny.from_pretrained(str(run / "vae"))),
        text_encoder=_half(text_encoder),
        tokenizer=tokenizer,
        unet=_half(averaged_unet(run)),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(str(building), safe_serialization=True)
    _half(clip).save_pretrained(str(building / "clip"))
    tokenizer.save_pretrained(str(building / "clip"))
    for path in sorted(building.rglob("*.json")):
        _strip(path)
    for path in building.rglob("*.safetensors"):
        path.chmod(0o644)  # huggingface writes weights readable by their owner only


def _strip(path: Path) -> None:
    """Takes out of saved configurations the builder's paths and what a class derives itself.

    transformers loads in the dtype that the configuration names: let it be float32, as diffusers
    does, so that plain `from_pretrained` gives one dtype throughout. The weights stay half on disk.
    """
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict) or path.name != "config.json":
        return
    drop = {"_name_or_path"}
    if value.get("_class_name") == "AutoencoderTiny":
        drop |= {"block_out_channels"}  # loading it again would warn
    kept = {k: v for k, v in value.items() if k not in drop}
    for config in (kept, kept.get("text_config", {}), kept.get("vision_config", {})):
        if "dtype" in config:
            config["dtype"] = "float32"
    path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")

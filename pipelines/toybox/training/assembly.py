"""Puts a training's parts together as a pipeline folder that plain diffusers loads."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusers import AutoencoderTiny, StableDiffusion3Pipeline, StableDiffusionPipeline
from transformers import CLIPModel, CLIPTextModel

from adhere.pipelines.toybox.errors import ToyboxError
from adhere.pipelines.toybox.model.folder import PARTS, kind_of
from adhere.pipelines.toybox.model.tokenizer import build_tokenizer
from adhere.pipelines.toybox.model.transformer import (
    build_flow_scheduler,
    build_transformer,
    text_encoders,
)
from adhere.pipelines.toybox.model.unet import build_scheduler, build_unet
from adhere.pipelines.toybox.training.training import load_state


def _half(model: Any) -> Any:
    """The model with half-precision parameters and buffers, in place."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.half()
    return model


def averaged(run: Path, part: str, build: Callable[[], Any]) -> Any:
    """The denoiser of a run folder: finished, or the moving average of the newest checkpoint."""
    model = build()
    if (run / part / "config.json").is_file():
        return type(model).from_pretrained(str(run / part))
    model.load_state_dict(load_state(run / f"{part}.state.pt")["average"])
    return model


def assemble(run: Path, folder: Path, name: str = "toybox") -> None:
    """Writes a run's newest weights as a pipeline folder in half precision.

    Built beside `folder` and moved in part by part, `model_index.json` last; files that belong to
    no part (cards, the judge) stay.
    """
    building = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        _WRITERS[name](run, building)
        for path in sorted(building.rglob("*.json")):
            _strip(path)
        for path in building.rglob("*.safetensors"):
            path.chmod(0o644)  # huggingface writes weights readable by their owner only
        folder.mkdir(parents=True, exist_ok=True)
        for part in PARTS[kind_of(building)]:
            shutil.rmtree(folder / part, ignore_errors=True)
            os.replace(building / part, folder / part)
        os.replace(building / "model_index.json", folder / "model_index.json")
    except OSError as error:
        raise ToyboxError(f"could not write {folder}: {error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _write_toybox(run: Path, building: Path) -> None:
    clip = CLIPModel.from_pretrained(str(run / "clip"))
    tokenizer = build_tokenizer()
    pipe = StableDiffusionPipeline(
        vae=_half(AutoencoderTiny.from_pretrained(str(run / "vae"))),
        text_encoder=_half(CLIPTextModel.from_pretrained(str(run / "text_encoder"))),
        tokenizer=tokenizer,
        unet=_half(averaged(run, "unet", build_unet)),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(str(building), safe_serialization=True)
    _half(clip).save_pretrained(str(building / "clip"))
    tokenizer.save_pretrained(str(building / "clip"))


def _write_sd3(run: Path, building: Path) -> None:
    first, second = text_encoders(CLIPModel.from_pretrained(str(run / "clip")))
    tokenizer = build_tokenizer()
    pipe = StableDiffusion3Pipeline(
        vae=_half(AutoencoderTiny.from_pretrained(str(run / "vae"))),
        text_encoder=_half(first),
        text_encoder_2=_half(second),
        text_encoder_3=None,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        tokenizer_3=None,
        transformer=_half(averaged(run, "transformer", build_transformer)),
        scheduler=build_flow_scheduler(),
    )
    pipe.save_pretrained(str(building), safe_serialization=True)


_WRITERS = {"toybox": _write_toybox, "toybox-sd3": _write_sd3}


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

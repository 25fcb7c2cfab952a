"""Loading a model: the toybox, a diffusers folder, a hub id or a single file; safetensors only."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from adhere import __version__
from adhere.errors import ExtraMissing, ModelError, ParameterError, first_line
from adhere.files import at_home
from adhere.pipelines.folders import hub, saved, single_file
from adhere.pipelines.folders.ip_adapters import IPAdapter, put_on
from adhere.pipelines.toybox import TOYBOXES

PRECISIONS = ("float32", "float16", "bfloat16")
OFFLOADS = ("model", "sequential")
LORA_FILE = "pytorch_lora_weights.safetensors"
"""What diffusers calls the file in which it saves a LoRA."""


@dataclass(frozen=True)
class Lora:
    """Low-rank weights to add: a safetensors file, a folder or a hub id, and how strongly."""

    source: str
    weight: float = 1.0

    @classmethod
    def read(cls, text: str) -> Lora:
        """From `SOURCE` or `SOURCE:WEIGHT`.

        Raises:
            ParameterError: there is no source, or the weight is not finite.
        """
        source, colon, weight = text.rpartition(":")
        try:
            made = cls(source, float(weight)) if colon else cls(text)
        except ValueError:  # a colon of the source's own
            made = cls(text)
        if not made.source.strip():
            raise ParameterError(f"--lora {text!r} names no file; write for example style:0.8")
        if not math.isfinite(made.weight):
            raise ParameterError(f"--lora {text!r} has no finite strength; write for example :0.8")
        return made

    def to_json(self) -> dict[str, Any]:
        return {"source": self.source, "weight": self.weight}


def best_device() -> str:
    """The fastest kind of device that this machine has."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load(
    model: str,
    device: str,
    dtype: str | None,
    *,
    variant: str | None = None,
    revision: str | None = None,
    offload: str | None = None,
    loras: Sequence[Lora] = (),
    adapter: IPAdapter | None = None,
) -> Any:
    """A pipeline, on its device.

    Args:
        model: `toybox`, `toybox-sd3`, a folder, a hub id, or a .safetensors file of a whole model.
        device: for example `cuda`.
        dtype: `float32`, `float16` or `bfloat16`; half precision on CUDA if left out.
        variant: of the weight files, for example `fp16`.
        revision: of a hub repository: a branch, tag or commit.
        offload: keep parts in main memory until needed: whole models, or layers (`sequential`).
        loras: low-rank weights to add.
        adapter: an IP-Adapter to put on.

    Raises:
        ModelError: there is no such model, its weights are pickled or not all there, or there is
            no such device.
        ParameterError: another precision or offload than those above.
    """
    precision = _precision(dtype, device)
    _check_offload(offload, device)
    _check_device(device)
    pipe = _read(model, precision if dtype or model not in TOYBOXES else torch.float32, {
        key: value for key, value in (("variant", variant), ("revision", revision)) if value
    })  # fmt: skip
    saved.refuse_unloaded(pipe, model)
    add_loras(pipe, loras)
    if adapter is not None:
        put_on(pipe, adapter)
    if offload is None:
        return pipe.to(device)
    enable = "enable_model_cpu_offload" if offload == "model" else "enable_sequential_cpu_offload"
    getattr(pipe, enable)(device=device)
    return pipe


def _read(model: str, precision: torch.dtype, which: dict[str, str]) -> Any:
    path = at_home(model)
    if which and (model in TOYBOXES or path.is_file()):
        raise ParameterError(
            f"{model!r} has no {' and no '.join(which)}: leave out "
            f"{' and '.join('--' + name for name in which)}"
        )
    if model in TOYBOXES:
        from adhere.pipelines.toybox import load_toybox

        # It is small: single precision on every device, unless somebody asks.
        return load_toybox(precision, name=model)
    if path.is_file() or path.suffix in single_file.SUFFIXES:
        return single_file.load(path, precision)
    return _from_folder(model, path, precision, which)


def _from_folder(model: str, path: Path, precision: torch.dtype, which: dict[str, str]) -> Any:
    from diffusers import DiffusionPipeline

    looks_local = hub.is_local(model)
    if looks_local and not (path / "model_index.json").is_file():
        raise ModelError(
            f"{model!r} is not a diffusers model folder (it has no model_index.json); give a "
            "folder saved with save_pretrained, a hub id such as owner/name, a .safetensors file, "
            "or 'toybox'"
        )
    hub.check_answers(model, which.get("revision"))
    source = str(path) if looks_local else model
    try:
        absent = saved.left_out(path) if looks_local else {}
        encoders = saved.encoders(source, precision, **which)
        return DiffusionPipeline.from_pretrained(
            source, torch_dtype=precision, use_safetensors=True, **which, **absent, **encoders
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{model!r} could not be loaded: {first_line(error)} (weights must be safetensors; "
            "pickled .bin and .ckpt files are refused because loading them runs code)"
        ) from error


def add_loras(pipe: Any, loras: Sequence[Lora]) -> None:
    """Add low-rank weights to a pipeline, each with its strength.

    Raises:
        ModelError: the pipeline takes none, or a file does not fit it.
        ExtraMissing: peft is not installed.
    """
    if not loras:
        return
    if not hasattr(pipe, "load_lora_weights"):
        raise ModelError(f"{type(pipe).__name__} takes no LoRA; leave out --lora")
    if importlib.util.find_spec("peft") is None:
        raise ExtraMissing("--lora", "lora")
    names = [f"lora-{number}" for number in range(len(loras))]
    for name, lora in zip(names, loras, strict=True):
        _add_lora(pipe, lora.source, name)
    pipe.set_adapters(names, [lora.weight for lora in loras])


def _add_lora(pipe: Any, source: str, name: str) -> None:
    where, file = _lora_place(source)
    hub.check_answers(where)
    options = {} if file is None else {"weight_name": file}
    try:
        pipe.load_lora_weights(where, adapter_name=name, use_safetensors=True, **options)
    except Exception as error:  # diffusers and peft raise what they come across in odd weights
        raise ModelError(
            f"--lora {source!r} does not fit {type(pipe).__name__}: {first_line(error)}"
        ) from error
    if name not in {one for ones in pipe.get_list_adapters().values() for one in ones}:
        raise ModelError(
            f"--lora {source!r} changed nothing in {type(pipe).__name__}: none of its weights is "
            "for this kind of model"
        )


def _lora_place(source: str) -> tuple[str, str | None]:
    """The folder and name of a LoRA's file, or a hub id, whose file is for diffusers to find.

    Raises:
        ModelError: neither is there, or a folder does not say which of its files it is.
    """
    path = at_home(source)
    if path.is_dir():
        files = {file.name for file in path.iterdir() if file.suffix == ".safetensors"}
        chosen = files & {LORA_FILE} or files
        if len(chosen) != 1:
            raise ModelError(
                f"--lora {source!r} is a folder with {len(files)} .safetensors files, none of them "
                f"{LORA_FILE}; give the file"
            )
        return str(path), chosen.pop()
    if path.is_file():
        if path.suffix != ".safetensors":  # diffusers would take it for pickled weights
            raise ModelError(
                f"--lora {source!r} is no .safetensors file; pickled weights are refused"
            )
        return str(path.parent), path.name
    if path.exists() or hub.is_local(source) or path.suffix == ".safetensors":
        raise ModelError(
            f"--lora {source!r} is no file; give a .safetensors file, a folder with one, or a hub "
            "id such as owner/name"
        )
    return source, None


def set_backend(pipe: Any, backend: str) -> None:
    """Choose the attention kernel of the unguided passes."""
    model = getattr(pipe, "unet", None) or pipe.transformer
    try:
        if backend == "xformers" and hasattr(pipe, "enable_xformers_memory_efficient_attention"):
            pipe.enable_xformers_memory_efficient_attention()
        else:
            model.set_attention_backend(backend)
    except (ValueError, ImportError, ModuleNotFoundError, RuntimeError) as error:
        raise ModelError(f"attention backend {backend!r}: {first_line(error)}") from error


def about(
    pipe: Any, model: str, variant: str | None, revision: str | None, loras: Sequence[Lora]
) -> dict[str, Any]:
    """The model and the programs that its pictures depend on, as plain data."""
    import diffusers
    import transformers

    chosen = {
        "model": model,
        "pipeline": type(pipe).__name__,
        "weights": _weights(model),
        "variant": variant,
        "revision": revision,
        "loras": [lora.to_json() for lora in loras] or None,
        "dtype": str(pipe.dtype).removeprefix("torch."),
        "adhere": __version__,
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }
    return {key: value for key, value in chosen.items() if value is not None}


def _weights(model: str) -> str | None:
    """A fingerprint of the weights where they lie in a folder or a file."""
    from adhere.pipelines.toybox import toybox_folder

    path = toybox_folder(model) if model in TOYBOXES else at_home(model)
    if path.is_dir():
        return saved.fingerprint(path)
    return saved.fingerprint_of_file(path) if path.is_file() else None


def _precision(dtype: str | None, device: str) -> torch.dtype:
    name = dtype or ("float16" if device.startswith("cuda") else "float32")
    if name not in PRECISIONS:
        raise ParameterError(f"dtype={name!r} is not one of {', '.join(PRECISIONS)}")
    made: torch.dtype = getattr(torch, name)
    return made


def _check_offload(offload: str | None, device: str) -> None:
    if offload is None:
        return
    if offload not in OFFLOADS:
        raise ParameterError(f"offload={offload!r} is not one of {', '.join(OFFLOADS)}")
    if device == "cpu":
        raise ParameterError(
            f"offload={offload!r} moves parts between main memory and an accelerator, and this "
            "run is on the CPU; leave --offload out, or give --device cuda"
        )


def _check_device(device: str) -> None:
    """Raise `ModelError` before gigabytes are read for a device that is not there."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(
            f"device {device!r} cannot be used: {first_line(error)}; give cpu, cuda or mps, as "
            "this machine has them, or leave it out"
        ) from error

"""What a pipeline that was saved in a folder consists of: its `model_index.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from adhere.errors import ModelError

_WEIGHTS = (".safetensors", ".json", ".txt", ".model")
_READ = 1 << 20


def index(folder: Path) -> Mapping[str, Any]:
    """The contents of `model_index.json`.

    Raises:
        ValueError: it is missing, or is no JSON mapping.
    """
    path = folder / "model_index.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path.name}: {error.strerror or error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is no mapping")
    return content


def parts(folder: Path) -> list[str]:
    """Names of the parts, each a folder of its own."""
    return [name for name, part in index(folder).items() if isinstance(part, list) and any(part)]


def left_out(folder: Path) -> dict[str, None]:
    """The parts it was saved without. Some pipelines (SD3 without T5) want to be told so."""
    content = index(folder).items()
    return {name: None for name, part in content if isinstance(part, list) and not any(part)}


def encoders(source: Path | str, precision: torch.dtype, **which: str) -> dict[str, Any]:
    """The text encoders of a saved pipeline, by the names of their parts, for its loader.

    Weights that the files lack are drawn at random by transformers, with a warning; an encoder
    like that turns every prompt into noise, so it is refused.

    Args:
        source: a folder, or a hub id.
        precision: of the weights in memory.
        which: `variant`, `revision` of a hub repository.

    Raises:
        ModelError: weights are missing, or have another shape.
    """
    from diffusers import DiffusionPipeline

    made = {}
    for name, part in _listing(source, DiffusionPipeline, which).items():
        kind = _model_class(part)
        if kind is not None:
            loaded, found = kind.from_pretrained(
                source,
                subfolder=name,
                dtype=precision,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused here, by name
                **which,
            )
            refuse_missing(f"{name} of {source}", found["missing_keys"])
            _refuse_other_shapes(f"{name} of {source}", found["mismatched_keys"])
            made[name] = loaded.eval()
    return made


def _model_class(part: Any) -> Any:
    """The transformers model that a line of `model_index.json` names; None for all else."""
    import transformers

    if not isinstance(part, list) or len(part) != 2 or part[0] != "transformers":
        return None
    kind = getattr(transformers, part[1], None)
    is_model = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
    return kind if is_model else None


def refuse_missing(what: str, keys: set[str] | list[str]) -> None:
    """Raise `ModelError` for weights that a model wants and its files lack."""
    if keys:
        raise ModelError(
            f"{what} lacks {len(keys)} weights ({sorted(keys)[0]}...), which would be random "
            "numbers: the files are not whole, or were saved for another release of transformers "
            f"than {_version()} (5.6 or newer is needed)"
        )


def refuse_unloaded(pipe: Any, source: Path | str) -> None:
    """Raise `ModelError` where a part of a pipeline has weights that were in none of its files."""
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module):
            keys = [key for key, value in part.state_dict().items() if value.is_meta]
            refuse_missing(f"{name} of {source}", keys)


def _refuse_other_shapes(what: str, keys: Iterable[Sequence[Any]]) -> None:
    for name, there, wanted in keys:
        raise ModelError(
            f"{what}: {name} has the shape {tuple(there)}, and {tuple(wanted)} is what its config "
            "says; the weights are of another model than the config"
        )


def _listing(source: Path | str, loader: Any, which: Mapping[str, str]) -> Mapping[str, Any]:
    if Path(source).is_dir():
        return index(Path(source))
    # The variant is of weights; the listing has none.
    found: Mapping[str, Any] = loader.load_config(source, revision=which.get("revision"))
    return found


def _version() -> str:
    import transformers

    return str(transformers.__version__)


def fingerprint(folder: Path) -> str:
    """Changes when the weights do.

    Of the files of the pipeline's parts the names, sizes and first and last megabyte are read:
    quick for large models, and exact for small ones. What lies beside them (the toybox's judge and
    card) changes no picture.

    Raises:
        ValueError: the folder holds no pipeline.
    """
    found = hashlib.sha256()
    weights = (path for part in parts(folder) for path in (folder / part).rglob("*"))
    listing = folder / "model_index.json"
    for path in [listing, *sorted(path for path in weights if path.suffix in _WEIGHTS)]:
        found.update(f"{path.relative_to(folder).as_posix()}:".encode())
        _digest(path, found)
    return found.hexdigest()[:16]


def fingerprint_of_file(path: Path) -> str:
    """The same for a model in one file."""
    found = hashlib.sha256()
    _digest(path, found)
    return found.hexdigest()[:16]


def _digest(path: Path, found: Any) -> None:
    """Adds a file's size and its first and last megabyte to a hash."""
    size = path.stat().st_size
    found.update(f"{size}:".encode())
    with path.open("rb") as stream:
        found.update(stream.read(_READ))
        if size > 2 * _READ:
            stream.seek(-_READ, 2)
        found.update(stream.read())

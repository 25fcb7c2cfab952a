"""Files of tensors that a method needs beside the model: what they hold and what they are for."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from adhere.errors import ParameterError
from adhere.files import at_home, writing

KIND = "adhere"
"""The key of a file's metadata that says what it is."""
SUFFIX = ".safetensors"
PROBE = "a photo of a cat"
"""The text by whose embedding, which files keep, a text encoder is told from another."""


@dataclass(frozen=True)
class Stored:
    """The contents of such a file.

    Attributes:
        tensors: by name, on the CPU.
        about: what it was made with: model, latent shape, encoder, settings; all texts.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    about: Mapping[str, str]


def read(
    path: str | Path,
    kind: str,
    made_by: str,
    tensors: Mapping[str, int] = MappingProxyType({}),
    about: Sequence[str] = (),
) -> Stored:
    """A file of a kind; read again only when it has changed.

    Args:
        made_by: the command that makes such files, for the error.
        tensors: names that it must have, and how many axes each.
        about: what it must say.

    Raises:
        ParameterError: there is no such file, it is no safetensors file, one of another kind, not
            whole, or has tensors of another form.
    """
    found = opened(path, kind, made_by)
    if found.about.get(KIND) != kind:
        raise ParameterError(
            f"{str(path)!r} is a {found.about.get(KIND, 'safetensors file of something else')}, "
            f"and a {kind} is expected; make one with: {made_by}"
        )
    lacking = [*(tensors.keys() - found.tensors.keys()), *({*about} - found.about.keys())]
    if lacking:
        raise ParameterError(
            f"{str(path)!r} lacks {', '.join(sorted(lacking))}, which a {kind} has; make one with: "
            f"{made_by}"
        )
    for name, axes in tensors.items():
        own = found.tensors[name].ndim
        if own != axes:
            raise ParameterError(
                f"{name} of {str(path)!r} has {own} axes, and that of a {kind} has {axes}; make "
                f"one with: {made_by}"
            )
    return found


def opened(path: str | Path, kind: str, made_by: str) -> Stored:
    """A file that need not say what it is, such as another program's.

    Raises:
        ParameterError: there is no such file, it is no safetensors file, or has numbers that are
            not finite.
    """
    place = at_home(path)
    try:
        if place.suffix != SUFFIX or (place.exists() and not place.is_file()):
            raise OSError(f"no file whose name ends in {SUFFIX}")
        state = place.stat()
        return _read(place, state.st_mtime_ns, state.st_size)
    except (OSError, SafetensorError, _NotFiniteError) as error:
        raise ParameterError(
            f"{str(path)!r} does not read as a {kind} in a safetensors file ({error}); make one "
            f"with: {made_by}"
        ) from error


class _NotFiniteError(Exception):
    """What a training that went astray, or a damaged copy, has left."""


@functools.lru_cache(maxsize=4)
def _read(path: Path, changed: int, size: int) -> Stored:
    with safe_open(str(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise _NotFiniteError(f"numbers of {name} are not finite")
        return Stored(path, tensors, dict(file.metadata() or {}))


def write(path: Path, kind: str, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write such a file: whole or not at all, whenever the program is stopped.

    Raises:
        OSError: in a sentence, what could not be written.
    """
    put(path, tensors, {**about, KIND: kind})


def put(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write a safetensors file of any kind: whole or not at all.

    Raises:
        OSError: in a sentence, what could not be written.
    """
    # Not `save_file`: a full disk is no `OSError` of its, and only its owner may read its files.
    data = save({name: value.contiguous() for name, value in tensors.items()}, dict(about))
    with writing(path) as temporary:
        temporary.write_bytes(data)


def same_encoder(own: Tensor, probe: Tensor) -> bool:
    """Whether two embeddings of `PROBE` are one text encoder's, in whatever precision."""
    if own.shape != probe.shape:
        return False
    one, other = (each.detach().float().cpu().flatten() for each in (own, probe))
    return bool(torch.cosine_similarity(one, other, dim=0) >= 0.99)

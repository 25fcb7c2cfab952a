"""IP-Adapters, and the pictures that they show to a model."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers.loaders import IPAdapterMixin
from PIL import Image
from safetensors import SafetensorError

from adhere.errors import ModelError, ParameterError, first_line
from adhere.files import at_home
from adhere.pipelines.folders import hub
from adhere.pipelines.folders.saved import refuse_missing

ENCODER = "image_encoder"
"""The folder beside an adapter's weights that has the image encoder it was trained with."""
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class IPAdapter:
    """An adapter's weights, how strongly it is heard, and what it shows: picture files, in order.

    `source` is a .safetensors file, or a hub id with the file's place in the repository, such as
    `h94/IP-Adapter/models/ip-adapter_sd15.safetensors`.
    """

    source: str
    scale: float = 1.0
    pictures: tuple[str, ...] = ()

    @classmethod
    def read(cls, text: str, pictures: Sequence[str]) -> IPAdapter:
        """From `SOURCE` or `SOURCE:SCALE`, and picture files.

        Raises:
            ParameterError: the source is no .safetensors file, or there is no picture.
        """
        source, colon, scale = text.rpartition(":")
        try:
            made = cls(source, float(scale), tuple(pictures)) if colon else None
        except ValueError:  # a colon of the source's own
            made = None
        made = made or cls(text, pictures=tuple(pictures))
        if not made.source.endswith(SUFFIX):
            raise ParameterError(
                f"--ip-adapter {text!r} names no {SUFFIX} file; give one, or a hub id with the "
                "file's place in it: h94/IP-Adapter/models/ip-adapter_sd15.safetensors:0.6 "
                "(pickled weights are refused)"
            )
        if not math.isfinite(made.scale):
            raise ParameterError(
                f"--ip-adapter {text!r} ends in no strength; give a number, such as 0.6"
            )
        if not pictures:
            raise ParameterError("--ip-adapter shows pictures to the model; give some: --picture")
        return made

    def to_json(self) -> dict[str, Any]:
        """Plain data, by which pictures of other adapters, or of other pictures, are told."""
        contents = [hashlib.sha256(_path(one).read_bytes()).hexdigest() for one in self.pictures]
        return {**vars(self), "pictures": [*self.pictures], "contents": contents}

    @property
    def place(self) -> tuple[str, str, str]:
        """A folder or hub id, the folder in it, and the file's name."""
        path = _path(self.source)
        parts = self.source.split("/")
        if path.is_file() or len(parts) < 3:
            return str(path.parent), "", path.name
        return "/".join(parts[:2]), "/".join(parts[2:-1]), parts[-1]


def put_on(pipe: Any, adapter: IPAdapter) -> None:
    """Put an adapter on a pipeline, with its image encoder unless the pipeline has one.

    Raises:
        ModelError: the pipeline takes none; the weights do not load or fit; no image encoder.
    """
    if not isinstance(pipe, IPAdapterMixin):
        raise ModelError(
            f"{type(pipe).__name__} takes no IP-Adapter here; Stable Diffusion 1.x, 2.x and XL do"
        )
    where, folder, name = adapter.place
    file = _path(adapter.source)
    if (file.parent.is_dir() or file.is_absolute()) and not file.is_file():
        raise ModelError(f"--ip-adapter {adapter.source!r}: there is no such file")
    hub.check_answers(where)
    if pipe.image_encoder is None:
        pipe.register_modules(image_encoder=_encoder(adapter, pipe.dtype))
    try:
        pipe.load_ip_adapter(where, subfolder=folder, weight_name=name, image_encoder_folder=None)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"--ip-adapter {adapter.source!r} does not fit {type(pipe).__name__}: "
            f"{first_line(error)}; give one that was made for this kind of model"
        ) from error
    pipe.set_ip_adapter_scale(adapter.scale)


def _encoder(adapter: IPAdapter, dtype: Any) -> Any:
    from transformers import CLIPVisionModelWithProjection

    where, folder, _ = adapter.place
    try:
        encoder, found = CLIPVisionModelWithProjection.from_pretrained(
            where,
            subfolder="/".join(filter(None, (folder, ENCODER))),
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"--ip-adapter {adapter.source!r} has no image encoder in a folder {ENCODER!r} beside "
            f"it ({first_line(error)}); put the CLIPVisionModelWithProjection there that it was "
            "trained with"
        ) from error
    refuse_missing(f"the image encoder of {adapter.source}", found["missing_keys"])
    return encoder.eval()


def shown(adapter: IPAdapter) -> list[Image.Image]:
    """The pictures of an adapter.

    Raises:
        ParameterError: a file is missing, or no picture.
    """
    from adhere.pipelines.tools import pictures

    return [pictures.read(one) for one in adapter.pictures]


def _path(place: str) -> Path:
    return at_home(place)

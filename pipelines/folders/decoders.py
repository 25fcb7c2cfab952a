"""Small decoders for previews: autoencoders such as TAESD, which cost next to nothing."""

from __future__ import annotations

from typing import Any

import torch
from safetensors import SafetensorError

from adhere.errors import ModelError, first_line
from adhere.files import at_home
from adhere.pipelines.folders import hub
from adhere.pipelines.folders.saved import refuse_missing
from adhere.pipelines.hooks import decoding


def decoder(source: str, pipe: Any) -> Any:
    """A saved autoencoder, for previews of a pipeline's latents.

    Args:
        source: a folder, or a hub id such as `madebyollin/taesd`.

    Raises:
        ModelError: it cannot be loaded, its weights are not whole, or it decodes other latents.
    """
    path = at_home(source)
    place = str(path) if path.exists() else source
    hub.check_answers(place)
    try:
        vae, found = _kind(place).from_pretrained(
            place,
            torch_dtype=torch.float32 if pipe.device.type == "cpu" else pipe.dtype,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"the preview decoder {source!r} could not be loaded: {first_line(error)}; give a "
            "folder or hub id of a diffusers autoencoder, such as madebyollin/taesd"
        ) from error
    refuse_missing(f"the preview decoder {source}", found["missing_keys"])
    checked: torch.nn.Module = decoding.checked(pipe, vae)
    return checked.eval().to(pipe.device)


def _kind(place: str) -> Any:
    """The autoencoder of diffusers that a config names."""
    import diffusers

    named = diffusers.AutoencoderTiny.load_config(place).get("_class_name", "AutoencoderTiny")
    kind = getattr(diffusers, str(named), None)
    if kind is None or not hasattr(kind, "decode"):
        raise ValueError(f"its config names a {named}")
    return kind

"""The hidden states of a pipeline's text encoders: changed on their way through, or only looked at.

A forward hook on one layer, for as long as some texts are encoded. Other threads that encode with
the same encoder meanwhile do not meet it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from adhere.errors import ModelError
from adhere.guides.guide import Change
from adhere.pipelines.hooks.compat import unwrapped


@contextmanager
def changed(pipe: Any, encoder: str, layer: int, change: Change) -> Iterator[None]:
    """Inside, in this thread, a layer of a text encoder gives out what `change` makes of it.

    Args:
        encoder: the pipeline's name for it, such as `text_encoder_2`.
        layer: counted from 0.

    Raises:
        ModelError: there is no such encoder or layer; or nothing was encoded, or not with it.
    """
    layers = layers_of(pipe, encoder)
    if not 0 <= layer < len(layers):
        raise ModelError(
            f"the {encoder} of this {type(pipe).__name__} has layers 0 to {len(layers) - 1}, and "
            f"layer {layer} is asked for; train for one of these"
        )
    thread, met = threading.get_ident(), False

    def hook(module: nn.Module, given: Any, output: Any) -> Any:
        nonlocal met
        if threading.get_ident() != thread:
            return None
        met = True
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    # Before the hooks by which transformers keeps hidden states for those who read them (SDXL).
    handle = layers[layer].register_forward_hook(hook, prepend=True)
    try:
        yield
    finally:
        handle.remove()
    if not met:
        raise ModelError(
            f"layer {layer} of the {encoder} was not met while a text was encoded; it may be "
            "compiled: guide the pipeline with the encoder itself"
        )


def layers_of(pipe: Any, encoder: str) -> nn.ModuleList:
    """The layers of a text encoder, in the order in which they run.

    Raises:
        ModelError: the pipeline has no such encoder, or one without layers.
    """
    module = getattr(pipe, encoder, None)
    if not hasattr(getattr(module, "config", None), "get_text_config"):
        own = [name for name in pipe.components if name.startswith("text_encoder")]
        raise ModelError(
            f"this {type(pipe).__name__} has no {encoder} (it has "
            f"{', '.join(name for name in own if getattr(pipe, name) is not None) or 'none'}); "
            "load it with its encoders, or train for one of these"
        )
    module = unwrapped(module)
    count = module.config.get_text_config().num_hidden_layers
    for name, part in module.named_modules():
        sees = "visual" in name or "vision" in name
        if isinstance(part, nn.ModuleList) and len(part) == count and not sees:
            return part
    raise ModelError(
        f"the layers of {type(module).__name__}, this model's {encoder}, are not found"
    )

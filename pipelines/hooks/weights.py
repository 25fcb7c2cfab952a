"""A model's weights: frozen while anybody guides with them, told from another model's; and its LoRA
adapters, of which peft keeps each in two layers: `lora_A`, and `lora_B`, which gives out what is
added.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from adhere.errors import ModelError
from adhere.pipelines.hooks.compat import unwrapped

_lock = threading.Lock()
_held: WeakKeyDictionary[nn.Module, tuple[int, list[nn.Parameter]]] = WeakKeyDictionary()
"""How many hold each module, and which of its weights took gradients before."""


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No weight of a module takes a gradient inside; counted, since models are shared."""
    module = unwrapped(module)
    _hold(module)
    try:
        yield
    finally:
        _release(module)


def _hold(module: nn.Module) -> None:
    with _lock:
        count, trainable = _held.get(module, (0, []))
        if count == 0:
            trainable = [p for p in module.parameters() if p.requires_grad]
            for parameter in trainable:
                parameter.requires_grad_(False)
        _held[module] = (count + 1, trainable)


def _release(module: nn.Module) -> None:
    with _lock:
        count, trainable = _held.pop(module)
        if count > 1:
            _held[module] = (count - 1, trainable)
            return
        for parameter in trainable:
            parameter.requires_grad_(True)


FIRST = 64
"""How many numbers of each weight a fingerprint reads: quick for the largest models."""


def fingerprint(module: nn.Module) -> str:
    """Tells a model from another, a fine-tuned one too; the same on any device in any precision.

    From the signs of the first numbers of every weight. Empty where the weights are not in memory
    (offloaded layer by layer).
    """
    found = hashlib.sha256()
    for name, weight in unwrapped(module).named_parameters():
        if weight.is_meta:
            return ""
        found.update(f"{name}{tuple(weight.shape)}".encode())
        # In half precision first: there the smallest numbers are zeros, which have no sign.
        signs = weight.detach().flatten()[:FIRST].half() > 0
        found.update(signs.cpu().numpy().tobytes())
    return found.hexdigest()[:16]


Weighing = Callable[[str, Tensor], Tensor]
"""What becomes of what an adapter adds in a layer, given the layer's name."""


def adapters_of(module: nn.Module) -> tuple[str, ...]:
    """The names of a model's LoRA adapters."""
    each = (getattr(layer, "lora_B", {}) for layer in unwrapped(module).modules())
    return tuple(sorted({name for layers in each for name in layers}))


@contextmanager
def weighed(module: nn.Module, adapter: str, weighing: Weighing) -> Iterator[None]:
    """Inside, what an adapter adds is changed before it is added.

    Raises:
        ModelError: it is not active, fused into the weights, or adds by another rule (DoRA).
    """
    layers = [
        (name, layer)
        for name, layer in unwrapped(module).named_modules()
        if adapter in getattr(layer, "lora_B", {})
    ]
    for _, layer in layers:
        _refuse_inseparable(adapter, layer)
    with ExitStack() as stack:
        for name, layer in layers:

            def hook(_: nn.Module, given: object, output: Tensor, name: str = name) -> Tensor:
                return weighing(name, output)

            stack.callback(layer.lora_B[adapter].register_forward_hook(hook).remove)
        yield


def _refuse_inseparable(adapter: str, layer: Any) -> None:
    if adapter in layer.merged_adapters:
        why, do = "is fused into the weights", "call pipe.unfuse_lora() first"
    elif layer.disable_adapters or adapter not in layer.active_adapters:
        why, do = "is switched off", f"call pipe.set_adapters([{adapter!r}]) first"
    elif adapter in layer.lora_variant:
        why, do = "adds by a rule of its own (DoRA)", "load it for the whole picture"
    else:
        return
    raise ModelError(f"the LoRA {adapter!r} of a region {why}; {do}")

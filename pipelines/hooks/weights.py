"""A model's weights: frozen while anybody guides with them, and told from another model's."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from torch import nn

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

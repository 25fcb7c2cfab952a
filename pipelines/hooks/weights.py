"""Weights that take no gradient while anybody guides with them."""

from __future__ import annotations

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

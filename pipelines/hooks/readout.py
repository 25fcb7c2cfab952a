"""Reading and biasing attention while a denoiser runs, without replacing its processors.

For the length of one forward pass each wanted layer gets a pair of module hooks. They turn on an
interception of `scaled_dot_product_attention` inside that layer only, so LoRA, IP-Adapter and any
processor that ends in that function keep working, and fused kernels stay in use everywhere else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from adhere.pipelines.hooks.attending import Attending, AttentionLayer, Pass, passing
from adhere.pipelines.hooks.backends import sdpa_processor


class _Interception(TorchFunctionMode):
    """Hands the first attention call inside a module to the pass."""

    def __init__(self, running: Pass, layer: AttentionLayer) -> None:
        super().__init__()
        self.running, self.layer, self.seen = running, layer, False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        # An IP-Adapter attends to the text first and then to its pictures.
        if func is not F.scaled_dot_product_attention or self.seen:
            return func(*args, **kwargs)
        self.seen = True
        named = dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)) | kwargs
        scale = named.get("scale")
        attending = Attending(
            named["query"],
            named["key"],
            named["query"].shape[-1] ** -0.5 if scale is None else scale,
            _additive(named.get("attn_mask"), named["query"].dtype),
        )
        mask = self.running.attend(self.layer, attending)
        if mask is None:
            return func(*args, **kwargs)
        named["attn_mask"] = mask.to(named["query"].dtype)
        return func(**named)


def _additive(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, -torch.inf)


@contextmanager
def reading(
    running: Pass, modules: Mapping[str, nn.Module], layers: Sequence[AttentionLayer]
) -> Iterator[None]:
    """Run a pass: hooks are on the layers inside, and gone afterwards whatever happens."""
    with ExitStack() as stack:
        token = passing.set(running)
        stack.callback(passing.reset, token)
        for layer in layers:
            if layer.name in running.read | running.biased or layer.name in running.texts:
                _hook(stack, running, layer, modules[layer.name])
        yield


def _hook(stack: ExitStack, running: Pass, layer: AttentionLayer, module: nn.Module) -> None:
    open_modes: dict[int, list[_Interception]] = {}

    def enter(module: nn.Module, args: Any, kwargs: dict[str, Any] | None = None) -> Any:
        # Another thread on the same denoiser may meet this hook half registered, without kwargs.
        if kwargs is None or not running.mine():
            return None
        running.entered.add(layer.name)
        mode = _Interception(running, layer)
        mode.__enter__()
        open_modes.setdefault(threading.get_ident(), []).append(mode)
        if layer.name in running.texts:
            return args, {**kwargs, "encoder_hidden_states": running.texts[layer.name]}
        return None

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        modes = open_modes.get(threading.get_ident())
        if modes:
            modes.pop().__exit__(None, None, None)

    def leave_all() -> None:
        # A KeyboardInterrupt skips even the hooks that are always called.
        for mode in reversed(open_modes.pop(threading.get_ident(), [])):
            mode.__exit__(None, None, None)

    stack.callback(leave_all)
    stack.callback(module.register_forward_pre_hook(enter, with_kwargs=True).remove)
    stack.callback(module.register_forward_hook(leave, always_call=True).remove)
    stack.enter_context(sdpa_processor(module))

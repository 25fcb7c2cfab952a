"""Reading and biasing attention while a denoiser runs, without replacing its processors.

For the length of one forward pass each wanted layer gets a pair of module hooks. They turn on an
interception of `scaled_dot_product_attention` inside that layer only, so LoRA, IP-Adapter and any
processor that ends in that function keep working, and fused kernels stay in use everywhere else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from adhere.pipelines.hooks.attending import AttentionLayer, Pass, attending_of, passing
from adhere.pipelines.hooks.backends import sdpa_processor
from adhere.pipelines.hooks.splitting import FirstAttention, RefiningCall, SplitCall


def _intercepted(running: Pass, layer: AttentionLayer) -> TorchFunctionMode:
    """Hands the first attention call inside a module to the pass."""

    def attend(kernel: Any, given: dict[str, Any]) -> Tensor:
        mask = running.attend(layer, attending_of(given))
        if mask is not None:
            given = {**given, "attn_mask": mask.to(given["query"].dtype)}
        attended: Tensor = kernel(**given)
        return attended

    return FirstAttention(attend)


@contextmanager
def reading(
    running: Pass, modules: Mapping[str, nn.Module], layers: Sequence[AttentionLayer]
) -> Iterator[None]:
    """Run a pass: hooks are on the layers inside, and gone afterwards whatever happens."""
    read = running.read | running.biased | running.texts.keys()
    split = () if running.split is None else running.split.layers
    with ExitStack() as stack:
        token = passing.set(running)
        stack.callback(passing.reset, token)

        def hook(layer: AttentionLayer, mode: Callable[[], TorchFunctionMode]) -> None:
            _hook(stack, running, layer.name, modules[layer.name], mode)

        # What splits a layer stands around all that reads it: joint attention is read as two.
        splits = [SplitCall(running, layer) for layer in layers if layer.name in split]
        for one in splits:
            hook(one.layer, one.outer)
        for layer in layers:
            if layer.name in read:
                hook(layer, partial(_intercepted, running, layer))
        for one in splits:
            hook(one.layer, one.inner)
        for name in () if running.split is None else running.split.refining:
            _hook(stack, running, name, modules[name], RefiningCall(running, name).mode)
        yield


def _hook(
    stack: ExitStack,
    running: Pass,
    name: str,
    module: nn.Module,
    made: Callable[[], TorchFunctionMode],
) -> None:
    """While the module runs for this pass, so does a mode of its own."""
    open_modes: dict[int, list[TorchFunctionMode]] = {}

    def enter(module: nn.Module, args: Any, kwargs: dict[str, Any] | None = None) -> Any:
        # Another thread on the same denoiser may meet this hook half registered, without kwargs.
        if kwargs is None or not running.mine():
            return None
        running.entered.add(name)
        mode = made()
        mode.__enter__()
        open_modes.setdefault(threading.get_ident(), []).append(mode)
        if name in running.texts:
            given, text = kwargs.get("encoder_hidden_states"), running.texts[name]
            # What an IP-Adapter shows comes along with the text.
            shown = (text, *given[1:]) if isinstance(given, tuple) else text
            return args, {**kwargs, "encoder_hidden_states": shown}
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

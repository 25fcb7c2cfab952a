"""Reading and biasing attention while a denoiser runs, without replacing its processors.

For the length of one forward pass each wanted layer gets a pair of module hooks. They turn on an
interception of `scaled_dot_product_attention` inside that layer only, so LoRA, IP-Adapter and any
processor that ends in that function keep working, and fused kernels stay in use everywhere else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from adhere.guides.maps import Kind, Layer, Site

_passing: ContextVar[Pass | None] = ContextVar("adhere_pass", default=None)
"""The pass that runs in this thread; hooks of other passes on a shared denoiser stay inert."""


class StopForward(Exception):
    """Raised inside the denoiser once every wanted layer has been read."""


@dataclass(frozen=True)
class AttentionLayer:
    """An attention layer as a family knows it: `factor` latent cells for each map cell."""

    name: str
    kind: Kind
    factor: int


@dataclass(frozen=True)
class Attending:
    """One call of scaled dot-product attention inside a layer.

    `query`, `key`: `Float[rows heads cells|columns channels]`; `mask` additive or None.
    """

    query: Tensor
    key: Tensor
    scale: float
    mask: Tensor | None

    def logits(self, rows: slice) -> Float[Tensor, "rows heads cells columns"]:
        """Scaled logits in float32 (float64 for such models), with the pipeline's own mask."""
        dtype = torch.promote_types(self.query.dtype, torch.float32)
        values = (
            self.query[rows].to(dtype) @ self.key[rows].to(dtype).transpose(-1, -2) * self.scale
        )
        if self.mask is not None:
            mask = self.mask[rows] if self.mask.shape[0] > 1 else self.mask
            values = values + mask.to(dtype)
        return values


class Reader(Protocol):
    """How a family turns one call of attention into a site's probabilities."""

    def site(self, layer: AttentionLayer, attending: Attending, grid: tuple[int, int]) -> Site: ...

    def logits(
        self, site: Site, attending: Attending, rows: slice
    ) -> Float[Tensor, "rows heads cells columns"]: ...

    def probabilities(
        self, site: Site, attending: Attending, rows: slice, bias: Tensor | None
    ) -> Float[Tensor, "rows heads cells columns"]: ...

    def biased(
        self, site: Site, attending: Attending, rows: slice, bias: Tensor
    ) -> Float[Tensor, "all_rows heads queries keys"]:
        """The additive mask for the whole call that adds `bias` to the given rows."""
        ...


@dataclass
class BiasedLayer:
    """What a guide's `bias` sees: a site, its images, and the logits on demand."""

    site: Site
    images: tuple[int, ...]
    attending: Attending
    rows: slice
    reader: Reader

    def values(self) -> Float[Tensor, "batch heads cells columns"]:
        with torch.no_grad():
            return self.reader.logits(self.site, self.attending, self.rows)

    @cached_property
    def dtype(self) -> torch.dtype:
        return self.attending.query.dtype


Bias = Callable[[BiasedLayer], Tensor | None]


@dataclass
class Pass:
    """One forward pass that is read, biased, or given other text in some layers.

    Attributes:
        reader: the family.
        grid: `(h, w)` of the latents.
        rows: the conditional rows of the batch.
        images: which images of the run those rows are.
        read: names of the layers whose maps are wanted.
        bias: asked at each layer of `biased`.
        texts: text embeddings for single layers, `Float[rows tokens channels]`, by name.
        stop: raise `StopForward` when the last wanted layer has been read.
    """

    reader: Reader
    grid: tuple[int, int]
    rows: slice
    images: tuple[int, ...]
    read: frozenset[str] = frozenset()
    biased: frozenset[str] = frozenset()
    bias: Bias | None = None
    texts: Mapping[str, Tensor] = field(default_factory=dict)
    stop: bool = False
    layers: dict[str, Layer] = field(default_factory=dict)
    replaying: bool = False
    """True during the backward pass, when checkpointed blocks run again."""

    def attend(self, layer: AttentionLayer, attending: Attending) -> Tensor | None:
        """Read a layer; returns the mask to attend with, None to leave the call as it is."""
        site = self.reader.site(layer, attending, self.grid)
        bias = None
        if self.bias is not None and layer.name in self.biased:
            bias = self.bias(BiasedLayer(site, self.images, attending, self.rows, self.reader))
        if layer.name in self.read:
            seen = Layer(site, self.reader.probabilities(site, attending, self.rows, bias))
            # A checkpointed block attends twice; the graph belongs to the first time.
            self.layers.setdefault(layer.name, seen)
            if self.stop and not self.replaying and len(self.layers) == len(self.read):
                raise StopForward
        return None if bias is None else self.reader.biased(site, attending, self.rows, bias)

    def mine(self) -> bool:
        """Whether the calling thread works for this pass.

        The autograd engine replays checkpointed blocks of CUDA modules in threads of its own,
        which have no context; those are never started by Python's threading module.
        """
        current = _passing.get()
        if current is not None:
            return current is self
        return self.replaying and isinstance(threading.current_thread(), threading._DummyThread)


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
        token = _passing.set(running)
        stack.callback(_passing.reset, token)
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
    stack.enter_context(_with_sdpa(module))


@contextmanager
def _with_sdpa(module: nn.Module) -> Iterator[None]:
    """Give a layer the processor that ends in SDPA, if its own is an older or fused-only one."""
    from diffusers.models import attention_processor as processors

    processor = getattr(module, "processor", None)
    plain = (
        processors.AttnProcessor,
        processors.SlicedAttnProcessor,
        processors.XFormersAttnProcessor,
    )
    if not isinstance(processor, plain):
        yield
        return
    module.processor = processors.AttnProcessor2_0()
    try:
        yield
    finally:
        module.processor = processor


@contextmanager
def native_attention(denoiser: nn.Module) -> Iterator[None]:
    """Use PyTorch's own attention inside, for models whose backend can be chosen by name."""
    owners: list[Any] = [m.processor for m in denoiser.modules() if hasattr(m, "processor")]
    chosen = [(o, o._attention_backend) for o in owners if getattr(o, "_attention_backend", None)]
    for owner, _ in chosen:
        owner._attention_backend = None
    try:
        with _default_backend():
            yield
    finally:
        for owner, backend in chosen:
            owner._attention_backend = backend


@contextmanager
def _default_backend() -> Iterator[None]:
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry, attention_backend

    active = _AttentionBackendRegistry.get_active_backend()[0]
    if str(getattr(active, "value", active)) == "native":
        yield
        return
    with attention_backend("native"):
        yield

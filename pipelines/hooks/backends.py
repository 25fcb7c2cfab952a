"""Which code computes a denoiser's attention: PyTorch's own, where a pass is looked into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from adhere.pipelines.hooks.compat import without_chosen_backends


@contextmanager
def native_attention(denoiser: nn.Module) -> Iterator[None]:
    """Use PyTorch's own attention inside, for models whose backend can be chosen by name."""
    from diffusers import attention_backend

    with without_chosen_backends(denoiser), attention_backend("native"):
        yield


@contextmanager
def sdpa_processor(module: nn.Module) -> Iterator[None]:
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
def processors_kept(denoiser: nn.Module) -> Iterator[None]:
    """When what runs inside fails, every layer has the processor that it had before.

    Pipelines that exchange processors for the length of a call forget to put them back then.
    """
    layers: list[Any] = [m for m in denoiser.modules() if hasattr(m, "processor")]
    before = [layer.processor for layer in layers]
    try:
        yield
    except BaseException:
        for layer, processor in zip(layers, before, strict=True):
            if layer.processor is not processor:
                layer.processor = processor
        raise

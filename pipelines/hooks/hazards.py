"""Set-ups and calls in which guidance would be wrong without anybody noticing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from adhere.errors import ModelError
from adhere.pipelines.hooks.attending import AttentionLayer, Pass
from adhere.pipelines.hooks.compat import compiled_in_place, hook_names, unwrapped

_SWAPPED = {
    "group_offloading": "group offload",
    "layerwise_casting": "layerwise casting",
}

_CACHES = ("cache", "fbc_", "pyramid_attention_broadcast")
"""What the names of the hooks of feature caches have in them."""

_OTHER_LOOPS = {
    "pag_scale": "a perturbed prediction is a third one in the batch, which guides would change",
    "sag_scale": "self-attention guidance exchanges attention processors, which guides read",
    "editing_prompt": "semantic guidance adds rows of its own; the plugin sega does the same",
}
"""Arguments with which a pipeline makes predictions that guidance cannot tell from the prompt's."""


def refuse_other_loops(pipe: Any, asked: Mapping[str, Any]) -> None:
    """Raise `ModelError` for a call that adds predictions of its own, or steps by rules of its own.

    Args:
        asked: the call's arguments, by name.
    """
    name = type(pipe).__name__
    if hasattr(pipe, "invert"):
        raise ModelError(
            f"{name} steps along a picture that was inverted, which extra moves would leave; use "
            "the image-to-image pipeline"
        )
    for argument, said in _OTHER_LOOPS.items():
        if asked.get(argument):
            raise ModelError(
                f"{name} was called with {argument}={asked[argument]!r}: {said}; switch it off "
                f"({argument}=0 or None), or use the model's plain pipeline"
            )


def refuse_unsafe_gradients(denoiser: nn.Module) -> None:
    """Raise `ModelError` where weights or activations are swapped behind autograd's back.

    Group offload and layerwise casting replace a weight's data after each forward, so the backward
    pass would use other numbers.
    """
    model = unwrapped(denoiser)
    for module in model.modules():
        for name in hook_names(module):
            for hook, spoken in _SWAPPED.items():
                if hook in name:
                    raise ModelError(
                        f"{spoken} swaps the denoiser's weights after each forward, so gradients "
                        "through it would be wrong; use pipe.enable_model_cpu_offload(), or "
                        "plugins without a gradient (docs/families.md lists them)"
                    )


def refuse_caches(denoiser: nn.Module) -> None:
    """Raise `ModelError` where a feature cache leaves out layers that guidance looks into.

    The denoiser knows of caches that its `enable_cache()` has put on, and not of those of
    `apply_first_block_cache(...)` and its kin.
    """
    model = unwrapped(denoiser)
    names = {name for module in model.modules() for name in hook_names(module)}
    hooked = any(part in name for name in names for part in _CACHES)
    if getattr(model, "is_cache_enabled", False) or hooked:
        raise ModelError(
            "a feature cache is enabled on the denoiser: the guidance's extra pass would fill it, "
            "and layers that it leaves out would be neither guided nor read; call disable_cache() "
            "on the denoiser first, or load it without apply_..._cache(...)"
        )


def refuse_unread(running: Pass) -> None:
    """Raise `ModelError` after a pass that has not met every layer it was to read."""
    _refuse_unmet(sorted(running.read - running.layers.keys()), running)


def refuse_unheard(running: Pass, layers: Sequence[AttentionLayer]) -> None:
    """Raise `ModelError` after a whole pass that has not met every layer it was to change.

    A guide that biases says of which layers only when it is asked. So every layer counts of a kind
    that was biased, or that was met in no layer at all.
    """
    refuse_unread(running)
    _refuse_unmet(sorted(running.texts.keys() - running.entered), running)
    if running.split is not None:
        wanting = {*running.split.layers, *running.split.refining}
        _refuse_unmet(sorted(wanting - running.split.met), running)
    wanted = [layer for layer in layers if layer.name in running.biased]
    met = {layer.kind for layer in wanted if layer.name in running.met}
    added = {layer.kind for layer in wanted if layer.name in running.added}
    unmet = [layer for layer in wanted if layer.name not in running.met]
    _refuse_unmet([x.name for x in unmet if x.kind in added or x.kind not in met], running)


def _refuse_unmet(names: Sequence[str], running: Pass) -> None:
    if not names:
        return
    name = names[0]
    if name in running.entered:
        raise ModelError(
            f"the attention of {name} could not be met: its processor does not end in PyTorch's "
            "scaled_dot_product_attention; use the denoiser's default processors "
            "(set_default_attn_processor() or set_attn_processor(...))"
        )
    raise ModelError(
        f"{name} was not run in a guided pass: the denoiser's forward was exchanged for one that "
        "leaves layers out (a feature cache such as DeepCache), or it was compiled as a whole; "
        "take that off for guided calls"
    )


def refuse_compiled_in_place(denoiser: nn.Module) -> None:
    """Raise `ModelError` where the denoiser's own pass cannot be looked into.

    A module that was compiled by its own `compile()` runs compiled from the outside in, so that by
    the time a run is known its layers can no longer be reached. Extra passes are not concerned.
    """
    if compiled_in_place(denoiser):
        part = "unet" if "UNet" in type(denoiser).__name__ else "transformer"
        raise ModelError(
            "the denoiser was compiled in place, and attention that is biased, recorded or given "
            "other text must be reached inside it; compile a wrapper around it instead: "
            f"pipe.{part} = torch.compile(pipe.{part})"
        )

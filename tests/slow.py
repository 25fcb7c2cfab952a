"""The gradient pass written out slowly: every layer's softmax, a whole forward, no early stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from adhere import Guidance
from adhere.guides.guide import Step
from adhere.pipelines.engine.moments.descent import Descent
from adhere.pipelines.hooks.compat import unwrapped
from tests import tiny
from tests.probes import descending


def maps_of(
    unet: Any, biases: Mapping[str, Tensor] | None = None, **call: Any
) -> tuple[Any, dict[str, Tensor]]:
    """One whole forward. Returns its output, and the probabilities of each attention layer.

    Of a layer that attends more than once (an IP-Adapter) the first call counts.
    """
    found: dict[str, Tensor] = {}
    inside: list[str] = []

    def attend(q: Tensor, k: Tensor, v: Tensor, attn_mask: Any = None, **options: Any) -> Tensor:
        name = inside[-1]
        logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        if attn_mask is not None:
            logits = logits + attn_mask
        if name not in found and biases and name in biases:
            logits = logits + biases[name]
        probabilities = logits.softmax(-1)
        found.setdefault(name, probabilities)
        return probabilities @ v

    hooks = []
    for name, module in unwrapped(unet).named_modules():
        if name.endswith((".attn1", ".attn2")):
            hooks += [
                module.register_forward_pre_hook(lambda *_, name=name: inside.append(name)),
                module.register_forward_hook(lambda *_: inside.pop() and None),
            ]
    try:
        with mock.patch.object(F, "scaled_dot_product_attention", attend):
            output = unet(**call)
    finally:
        for hook in hooks:
            hook.remove()
    return output, found


def cross(found: Mapping[str, Tensor], layers: Sequence[str], grid: tuple[int, int]) -> Tensor:
    """`Float[batch h w tokens]`: the mean over layers and heads."""
    stacked = torch.cat([found[name] for name in layers], dim=1)
    return stacked.mean(1).unflatten(1, grid)


SEMANTIC = (
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2",
    "up_blocks.2.attentions.0.transformer_blocks.0.attn2",
    "up_blocks.2.attentions.1.transformer_blocks.0.attn2",
)
"""The tiny UNet's layers at half the latents' size: 16x16 at its own 32x32."""


@contextmanager
def moves() -> Any:
    """Every move of a guided run: (step, latents before, latents moved, change after the step)."""
    seen: list[tuple[Step, Tensor, Tensor, Tensor | None]] = []
    descend = Descent.descend

    def watched(self: Descent, step: Step, x: Tensor) -> Any:
        moved, later = descend(self, step, x)
        seen.append((step, x.detach().clone(), moved.detach().clone(), later))
        return moved, later

    with mock.patch.object(Descent, "descend", watched):
        yield seen


@contextmanager
def calls(unet: Any) -> Any:
    """The pipeline's own calls of the denoiser, by argument name."""
    import inspect

    seen: list[dict[str, Any]] = []
    signature = inspect.signature(unwrapped(unet).forward)

    def note(module: Any, args: Any, kwargs: Any) -> None:
        bound = dict(signature.bind(*args, **kwargs).arguments)
        seen.append({**bound, **bound.pop("kwargs", {})})

    hook = unet.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


def conditional(call: Any, batch: int) -> Any:
    """The last rows of everything batched in a denoiser call."""
    rows = call["sample"].shape[0]

    def cut(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[-batch:] if value.ndim and value.shape[0] == rows else value
        if isinstance(value, dict):
            return {key: cut(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(cut(item) for item in value)
        return value

    return {key: cut(value) for key, value in call.items()}


def slope(
    unet: Any,
    call: Mapping[str, Any],
    x: Tensor,
    loss: Callable[[Tensor], Tensor],
    layers: Sequence[str] = SEMANTIC,
    factor: int = 2,
) -> Tensor:
    """The gradient of the summed losses by a whole forward and backward.

    `x` are the four latent channels; what the model is given beside them stays.
    """
    leaf = x.detach().clone().requires_grad_(True)
    given = {key: value for key, value in call.items() if key != "return_dict"}
    given["sample"] = torch.cat([leaf, given["sample"][:, x.shape[1] :]], dim=1)
    grid = (x.shape[2] // factor, x.shape[3] // factor)
    with torch.enable_grad():
        _, found = maps_of(unet, **given)
        total = loss(cross(found, layers, grid)).sum()
        return torch.autograd.grad(total, [leaf])[0]


def check_first_move(
    pipe: Any, *, layers: Sequence[str] = SEMANTIC, factor: int = 2, batch: int = 1, **options: Any
) -> None:
    """A guided call moves the latents of its first step by the gradient of a whole pass.

    It works for every set-up of a pipeline: what the denoiser is called with is taken from its own
    first call.
    """
    column, unet = 2, pipe.unet
    mode = options.pop("mode", "attach")
    with calls(unet) as seen, moves() as made:
        guided = tiny.latents(
            pipe, guidance=Guidance(descending(column, step_size=50.0)), mode=mode, **options
        )
    _, x, moved, _ = made[0]
    given = conditional(seen[0], batch)
    expected = 50 * slope(
        unet,
        given,
        given["sample"][:, :4],
        lambda maps: maps[..., column].mean((1, 2)),
        layers,
        factor,
    )
    found = x - moved
    assert found.abs().max() > 0
    error = (found - expected).norm() / expected.norm()
    assert error < 1e-3, f"relative error {error:.1e}"
    assert torch.isfinite(guided).all()
    plain = tiny.latents(pipe, **options)
    assert not torch.equal(guided, plain)
    for parameter in unet.parameters():
        assert parameter.grad is None

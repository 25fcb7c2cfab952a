"""What guidance might leave on a pipeline: a picture of it to compare before and after."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

from torch import nn

from adhere.pipelines.engine import session
from adhere.pipelines.hooks import attending
from adhere.pipelines.hooks.compat import unwrapped

HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def picture(pipe: Any) -> dict[str, Any]:
    """Everything that guidance touches while it works, as values that compare."""
    denoiser = unwrapped(pipe.unet if hasattr(pipe, "unet") else pipe.transformer)
    seen: dict[str, Any] = {
        "run": session.running.get(),
        "pass": attending.passing.get(),
        "checkpointing": denoiser.is_gradient_checkpointing,
        "corrector": tuple(getattr(pipe.scheduler, "disable_corrector", ())),
    }
    for name, owner in {"pipe": pipe, "scheduler": pipe.scheduler}.items():
        seen[name] = {key: value for key, value in vars(owner).items() if callable(value)}
    for name, module in denoiser.named_modules():
        seen[name] = _of(module)
    for name, weight in denoiser.named_parameters():
        seen[f"weight {name}"] = (weight.requires_grad, weight.grad is None)
    return seen


def _of(module: nn.Module) -> tuple[Any, ...]:
    own = {key for key, value in vars(module).items() if callable(value)}
    return (
        [list(getattr(module, hooks)) for hooks in HOOKS],
        own,
        getattr(module, "processor", None),
        getattr(getattr(module, "processor", None), "_attention_backend", None),
    )


@contextmanager
def nothing_left(pipe: Any) -> Any:
    """What runs inside must leave the pipeline as it was."""
    before = picture(pipe)
    yield
    after = picture(pipe)
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert not changed, f"left behind on: {sorted(changed)}"


@contextmanager
def failing(module: nn.Module, error: BaseException, call: int) -> Any:
    """A part of the model that raises at its n-th call, counted from 1."""
    calls = 0

    def raises(module: nn.Module, args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise error

    hook = module.register_forward_pre_hook(raises)
    try:
        yield
    finally:
        hook.remove()

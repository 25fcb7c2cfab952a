"""Every private name of diffusers, torch and Python that this project uses, once.

Each has the reason it is needed and what to use when it goes; `tests/pipelines/test_canaries.py`
holds one test for each, so that a new release says which of them it has taken away.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn

# ---- torch -------------------------------------------------------------------


def unwrapped(module: Any) -> Any:
    """The module that `torch.compile` wrapped, or the module itself.

    `OptimizedModule._orig_mod`: hooks and configs are on the inner module. When it goes: the inner
    module as `torch.compile`'s successor names it.
    """
    return getattr(module, "_orig_mod", module)


def compiled_in_place(module: nn.Module) -> bool:
    """Whether the module's own `compile()` was called.

    `Module._compiled_call_impl`: torch has no public question for it. When it goes: ask what
    `Module.compile` sets.
    """
    return module._compiled_call_impl is not None


def holds_compiled(module: nn.Module) -> bool:
    """Whether one of the module's own methods was exchanged for a compiled one.

    `_torchdynamo_orig_callable`: `module.forward = torch.compile(module.forward)` leaves no other
    trace, wherever an offloading hook keeps the forward that it stands before. When it goes: what
    marks the functions that `torch.compile` makes.
    """
    return any(hasattr(value, "_torchdynamo_orig_callable") for value in vars(module).values())


def in_foreign_thread() -> bool:
    """Whether the thread was started outside of Python, as those of the autograd engine are.

    `threading._DummyThread`: what `current_thread` gives for them. When it goes: a thread whose
    name `threading` has made up.
    """
    return isinstance(threading.current_thread(), threading._DummyThread)


def move_towards(tensors: list[torch.Tensor], targets: list[torch.Tensor], weight: float) -> None:
    """`tensor.lerp_(target, weight)` for each, in one go.

    `torch._foreach_lerp_`: many small tensors one by one cost more than their arithmetic. When it
    goes: a loop.
    """
    torch._foreach_lerp_(tensors, targets, weight)


# ---- diffusers: models -------------------------------------------------------


def hook_names(module: nn.Module) -> tuple[str, ...]:
    """The names of the diffusers hooks on a module (offloading, casting, caches).

    `Module._diffusers_hook`, the place where `HookRegistry.check_if_exists_or_initialize` keeps its
    registry; that one is public, but makes a registry where there is none. When it goes: use it.
    """
    registry = getattr(module, "_diffusers_hook", None)
    return tuple(getattr(registry, "hooks", {}))


@contextmanager
def without_chosen_backends(model: nn.Module) -> Iterator[None]:
    """Attention processors with a backend of their own have none inside.

    `processor._attention_backend`: the public `set_attention_backend` also changes the default of
    the whole process, and none tells what was chosen. When it goes: read and set what it sets.
    """
    owners: list[Any] = [m.processor for m in model.modules() if hasattr(m, "processor")]
    chosen = [(o, o._attention_backend) for o in owners if getattr(o, "_attention_backend", None)]
    for owner, _ in chosen:
        owner._attention_backend = None
    try:
        yield
    finally:
        for owner, backend in chosen:
            owner._attention_backend = backend


# ---- diffusers: pipelines ----------------------------------------------------


_lock = threading.Lock()


class _Moving:
    """Z-Image's embedder of positions, with what moves them before."""

    def __init__(self, embedder: Any) -> None:
        self.embedder = embedder
        self.moves: list[Callable[[Any], Any]] = []

    def __call__(self, places: Any) -> Any:
        for moved in tuple(self.moves):
            places = moved(places)
        return self.embedder(places)


@contextmanager
def positions_moved(transformer: Any, moved: Callable[[Any], Any]) -> Iterator[None]:
    """Z-Image's tokens stand where `moved` puts them, `Int[tokens axes]`, while this is open.

    Threads that share the transformer may open and close theirs in any order.
    """
    with _lock:
        moving = transformer.rope_embedder
        if not isinstance(moving, _Moving):
            moving = transformer.rope_embedder = _Moving(moving)
        moving.moves.append(moved)
    try:
        yield
    finally:
        with _lock:
            moving.moves.remove(moved)
            if not moving.moves:
                transformer.rope_embedder = moving.embedder


def execution_device(pipe: Any) -> torch.device:
    """Where a pipeline runs its models, wherever they lie now.

    `DiffusionPipeline._execution_device`: the public `device` is the CPU under offloading. When it
    goes: leave `device` out of `encode_prompt`, which most pipelines allow.
    """
    return cast(torch.device, pipe._execution_device)


# ---- diffusers: guiders ------------------------------------------------------


def guider_is_on(guider: Any) -> bool:
    """Whether a guider is switched on. `BaseGuidance._enabled`; when it goes: its `enable()`."""
    return bool(guider._enabled)


def predictions_of(guider: Any) -> list[str]:
    """The names of the predictions a guider asks for, in the order of its calls.

    `BaseGuidance._input_predictions`. When it goes: whatever `prepare_inputs` names them by.
    """
    return list(guider._input_predictions)


def name_predictions(guider: Any, names: list[str]) -> None:
    """Make a guider ask for these predictions (see `predictions_of`)."""
    guider._input_predictions = names


def picture_and_noise(scheduler: Any, sigma: Any) -> tuple[Any, Any]:
    """The shares of picture and noise at a solver's sigma.

    `DPMSolverSinglestepScheduler._sigma_to_alpha_sigma_t`. When it goes: 1 / sqrt(1 + sigma^2) and
    sigma times that; 1 - sigma and sigma for flow matching.
    """
    shares: tuple[Any, Any] = scheduler._sigma_to_alpha_sigma_t(sigma)
    return shares


def step_of(guider: Any) -> tuple[int, int]:
    """A guider's step and number of steps, as its `set_state` was told.

    `BaseGuidance._step`, `_num_inference_steps`. When they go: keep them in `set_state`.
    """
    return int(guider._step or 0), int(guider._num_inference_steps or 1)


def calls_prepared(guider: Any) -> int:
    """Which denoiser call of a step a guider has prepared, counted from 1.

    `BaseGuidance._count_prepared`. When it goes: count in `prepare_models`.
    """
    return int(guider._count_prepared)


def inputs_for(guider: Any, data: Any, name: str) -> Any:
    """The prompt's inputs for one more prediction: `BaseGuidance._prepare_batch`.

    When it goes: a copy of the first of `prepare_inputs`, under the other name.
    """
    return guider._prepare_batch(data, 0, name)


def inputs_from_state(guider: Any, fields: Mapping[str, Any], data: Any, name: str) -> Any:
    """As `inputs_for`, where a loop has its inputs in a block's state."""
    make: Callable[..., Any] = guider._prepare_batch_from_block_state
    return make(fields, data, 0, name)

"""Noise that a scheduler draws elsewhere than from the generators of the pipeline's call.

Some pipelines do not hand their generators on to a scheduler that adds noise in its steps. What it
draws from instead is torch's own, so no picture is made again by its seed, nor alone as in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from adhere.pipelines.hooks.wrapping import wrap


@contextmanager
def told(pipe: Any, asked: Mapping[str, Any], say: Callable[[str], None]) -> Iterator[None]:
    """Say of one call of a pipeline, once it is over, whether its steps drew outside.

    Args:
        asked: the call's arguments, by name; without a generator nothing is said.
        say: takes the sentence.
    """
    # Schedulers that step by another name are refused for that, which is said better.
    if asked.get("generator") is None or not hasattr(pipe.scheduler, "step"):
        yield
        return
    drew = False

    def watched(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal drew
        before = _states()
        result = original(*args, **kwargs)
        drew = drew or not all(map(torch.equal, before, _states()))
        return result

    with ExitStack() as stack:
        wrap(stack, pipe.scheduler, "step", watched)
        yield
    if drew:
        say(
            f"{type(pipe.scheduler).__name__} drew noise in its steps from elsewhere than the "
            f"generator that {type(pipe).__name__} was called with: this picture is not its "
            "seed's alone, and another call makes another; use a scheduler that adds no noise, or "
            "call torch.manual_seed(...) before each call"
        )


def _states() -> list[Tensor]:
    """Where torch's own generators are: the processor's and those of devices in use."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_initialized():
        states += torch.cuda.get_rng_state_all()
    elif torch.backends.mps.is_available():
        states.append(torch.mps.get_rng_state())
    return states

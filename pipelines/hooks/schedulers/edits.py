"""Where an edit of the latents survives the scheduler's step, and what is done where it would not.

Most schedulers keep every edit. The others:

- Heun, KDPM2 and DPM-Solver-SDE evaluate twice a step, PNDM twice in its first step (four times,
  with its Runge-Kutta start), and compute the later results from the sample they stored at the
  first evaluation: guides move latents at first evaluations only, and edits "after the step" wait
  for the last.
- UniPC and SA-Solver correct each sample from the one before, which undoes about half of an edit:
  the corrector is left out at the steps that were edited.
- DPM++ single-step makes its later results from a sample that it has stored: that is moved too.

A scheduler may hold another, as UniPC does its `solver_p`: both are treated, each by its own kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from adhere.pipelines.hooks.compat import picture_and_noise
from adhere.pipelines.hooks.schedulers.fit import names

_EARLIER = ("model_outputs", "ets", "derivatives")
"""Where diffusers' multistep solvers keep them."""


def moved(scheduler: Any, move: Tensor) -> None:
    """Tell a scheduler that a sample was moved, and by how much.

    It is the one that its step is about to begin from, or the one that it has just returned.
    """
    for one in _nested(scheduler):
        if _corrects(one) and one.step_index:
            one.disable_corrector = [*one.disable_corrector, one.step_index - 1]
        _uncorrected(one)
        _carried(one, move)


def reordered(scheduler: Any, rows: Tensor, shape: Sequence[int]) -> None:
    """Have a scheduler remember other rows: what it keeps of image k is of `rows[k]` from now on.

    Args:
        shape: of the samples that it steps, which all it keeps of them has.
    """
    for one in _nested(scheduler):
        for name, value in list(vars(one).items()):
            setattr(one, name, _reordered(value, rows, torch.Size(shape)))


def _reordered(value: Any, rows: Tensor, shape: torch.Size) -> Any:
    if isinstance(value, Tensor):
        return value[rows.to(value.device)] if value.shape == shape else value
    if isinstance(value, list):
        return [_reordered(one, rows, shape) for one in value]
    return value


def remembers(scheduler: Any) -> bool:
    """Whether a scheduler keeps predictions of earlier steps, as multistep solvers do. It can be
    asked before the first.
    """
    return any(
        isinstance(vars(one).get(name), list) for one in _nested(scheduler) for name in _EARLIER
    )


@contextmanager
def restored(scheduler: Any) -> Iterator[None]:
    """Put back what `moved` changes in a scheduler's settings."""
    before = [(one, one.disable_corrector) for one in _nested(scheduler) if _corrects(one)]
    try:
        yield
    finally:
        for one, steps in before:
            one.disable_corrector = steps


def _nested(scheduler: Any) -> list[Any]:
    """A scheduler and those that it holds, each once."""
    found = [scheduler]
    for one in found:
        held = (value for value in vars(one).values() if hasattr(value, "set_timesteps"))
        found.extend(value for value in held if all(value is not each for each in found))
    return found


def _corrects(scheduler: Any) -> bool:
    return hasattr(scheduler, "disable_corrector") and hasattr(scheduler, "step_index")


def _uncorrected(scheduler: Any) -> None:
    """SA-Solver corrects from the sample that it remembers."""
    if "SASolverScheduler" in names(scheduler):
        scheduler.last_sample = None


def _carried(scheduler: Any, move: Tensor) -> None:
    """DPM++ single-step makes the later results of a step from the first one's sample: move it too.

    What the solver multiplies it with on its way to the present level, the move is divided by: the
    ratio of the noise (DPM++), of the picture (DPM), or of the first squared over the second (SDE).
    """
    earlier = _stored(scheduler)
    if earlier is None:
        return
    here = picture_and_noise(scheduler, scheduler.sigmas[scheduler.step_index])
    there = picture_and_noise(scheduler, scheduler.sigmas[earlier])
    picture, noise = float(there[0] / here[0]), float(there[1] / here[1])
    back = {"dpmsolver++": noise, "dpmsolver": picture}.get(
        scheduler.config.algorithm_type, noise**2 / picture
    )
    scheduler.sample = scheduler.sample + back * move.to(scheduler.sample)


def _stored(scheduler: Any) -> int | None:
    """The level of a stored sample that the next result starts from; None if from the last one."""
    if "DPMSolverSinglestepScheduler" not in names(scheduler) or scheduler.sample is None:
        return None
    index = scheduler.step_index
    if not index or index >= len(scheduler.timesteps):
        return None
    earlier = int(index - scheduler.order_list[index] + 1)
    return earlier if 0 <= earlier < index else None

"""How many model passes a job can take at the most, from its settings alone.

A pass is one evaluation of the denoiser for one picture (conditional and unconditional rows
together). Methods that repeat passes say how often in `extra_passes(steps)`; any other method adds
at most one pass to each step: a gradient pass, or the rows of a further text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from adhere.guides.guide import Plugin
from adhere.pipelines.search.plan import Plan
from adhere.pipelines.studio.request import Request

USUAL_STEPS = 50
"""Steps of a request that leaves them to the model: no pipeline's own number is larger."""


def extra_passes(plugin: Plugin, steps: int) -> int:
    """Passes that one plugin can add to one picture at the most."""
    counted = getattr(plugin, "extra_passes", None)
    return int(counted(steps)) if counted is not None else steps


def most_passes(
    plugins: Sequence[Plugin], steps: int | None, pictures: int, compare: bool = True
) -> int:
    """Passes of a whole job at the most.

    Args:
        plugins: the methods that act together.
        steps: denoising steps; the model's own number if None.
        pictures: seeds.
        compare: whether each picture is also made without the methods.
    """
    count = USUAL_STEPS if steps is None else steps
    guided = count + _extra(plugins, count)
    plain = count if compare and plugins else 0
    return pictures * (plain + guided)


def flight_passes(plan: Plan, steps: int) -> int:
    """Passes of an autopilot's flight at the most.

    Its budget counts rows of the denoiser, in those that a look at its first attempt makes likely.
    An extra pass has half as many as a plain one; and the last try may go beyond the budget,
    since nobody knows what a method costs before it was tried.
    """
    wholes = [steps + _extra(attempt.plugins, steps) for attempt in plan.attempts]
    look = max(plan.look_at, 1 / steps)
    unit = 2 * steps + (wholes[0] - steps) / look
    densest = max(whole / (steps + whole) for whole in wholes)
    # A look is counted with the pass that it ends.
    looks = plan.budget / look
    return math.ceil(plan.budget * unit * densest + (1 + plan.look_at) * max(wholes) + looks)


def job_passes(request: Request, pictures: int, compare: bool = True) -> int:
    """Passes of a job at the most, whatever chooses its pictures.

    Args:
        request: what is asked for each seed.
        pictures: seeds.
        compare: whether each picture is also made without the methods.
    """
    plan = request.flight_plan
    if plan is None:
        return most_passes(request.plugins, request.steps, pictures, compare)
    count = USUAL_STEPS if request.steps is None else request.steps
    return pictures * (count * compare + flight_passes(plan, count))


def _extra(plugins: Sequence[Plugin], steps: int) -> int:
    return sum(extra_passes(plugin, steps) for plugin in plugins)


def dearest(plugins: Sequence[Plugin], steps: int | None) -> Plugin | None:
    """The plugin that adds most passes."""
    count = USUAL_STEPS if steps is None else steps
    return max(plugins, key=lambda plugin: extra_passes(plugin, count), default=None)

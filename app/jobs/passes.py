"""How many model passes a job can take at the most, from its settings alone.

A pass is one evaluation of the denoiser for one picture (conditional and unconditional rows
together).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from adhere.guides.guide import Plugin
from adhere.layout.layout import Layout
from adhere.pipelines.search.costs import extra_passes
from adhere.pipelines.search.plan import Plan
from adhere.pipelines.studio.request import Request
from adhere.pipelines.studio.samplers import TWICE

USUAL_STEPS = 50
"""Steps of a request that leaves them to the model: no pipeline's own number is larger."""


def most_passes(
    plugins: Sequence[Plugin],
    steps: int | None,
    pictures: int,
    compare: bool = True,
    layout: Layout | None = None,
) -> int:
    """Passes of a whole job at the most.

    Args:
        plugins: the methods that act together.
        steps: denoising steps; the model's own number if None.
        pictures: seeds.
        compare: whether each picture is also made without the methods.
        layout: the call's, which methods without one of their own follow.
    """
    count = USUAL_STEPS if steps is None else steps
    guided = count + extra_passes(plugins, count, layout=layout)
    plain = count if compare and plugins else 0
    return pictures * (plain + guided)


def flight_passes(plan: Plan, steps: int) -> int:
    """Passes of an autopilot's flight at the most.

    Its budget counts rows of the denoiser in those of a plain picture, and an extra pass has half
    as many as a plain one. The first picture is made whatever it costs.
    """
    wholes = [
        steps + extra_passes(one.plugins, steps, layout=plan.layout_of(one))
        for one in plan.attempts
    ]
    densest = max(whole / (steps + whole) for whole in wholes)
    # A look is counted with the pass that it ends.
    looks = plan.budget / max(plan.look_at, 1 / steps)
    return math.ceil(max(plan.budget * 2 * steps * densest, wholes[0]) + looks)


def job_passes(request: Request, pictures: int, compare: bool = True) -> int:
    """Passes of a job at the most, whatever chooses its pictures.

    Args:
        request: what is asked for each seed.
        pictures: seeds.
        compare: whether each picture is also made without the methods.
    """
    plan, count = request.flight_plan, evaluations(request)
    if plan is None:
        return most_passes(request.plugins, count, pictures, compare, request.layout)
    return pictures * (count * compare + flight_passes(plan, count))


def evaluations(request: Request) -> int:
    """How often a plain picture has the denoiser evaluated: some samplers do twice a step."""
    steps = USUAL_STEPS if request.steps is None else request.steps
    return steps * (2 if request.scheduler in TWICE else 1)


def dearest(plugins: Sequence[Plugin], steps: int | None) -> Plugin | None:
    """The plugin that adds most passes."""
    count = USUAL_STEPS if steps is None else steps
    return max(plugins, key=lambda plugin: extra_passes((plugin,), count), default=None)

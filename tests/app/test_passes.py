"""A job's passes are known before it begins: what methods really take is within the estimate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffusers
import pytest

import adhere
from adhere import Guidance, plugins
from adhere.app.jobs import limits as bounds
from adhere.app.jobs import methods
from adhere.app.jobs import setup as setups
from adhere.app.jobs.limits import LIMITS
from adhere.app.jobs.passes import USUAL_STEPS, flight_passes, job_passes, most_passes
from adhere.app.jobs.setup import Setup
from adhere.errors import ParameterError
from adhere.layout.layout import Layout, Region
from adhere.pipelines.families import family_of
from adhere.pipelines.search.costs import Rows, extra_passes
from adhere.pipelines.search.plan import Attempt, Pilot, Plan
from adhere.pipelines.studio.request import Request
from adhere.pipelines.studio.samplers import FLOW, SCHEDULERS, TWICE, scheduler
from tests import stored, tiny
from tests.verifying import NEEDED

STEPS = 6


def test_passes_of_a_job_add_up() -> None:
    syngen = plugins.plugin("syngen")
    assert most_passes((), 10, 3) == 30
    # It guides the first half of the steps.
    assert most_passes((syngen,), 10, 3) == 3 * (10 + 10 + 5)
    assert most_passes((syngen,), 10, 3, compare=False) == 3 * (10 + 5)
    assert most_passes((), None, 1) == USUAL_STEPS
    wild = plugins.plugin("initno:rounds=100,passes=1000")
    assert most_passes((wild,), 25, 1) > 100_000


def test_too_many_passes_are_refused_with_the_number_and_the_culprit() -> None:
    wild = (plugins.plugin("syngen"), plugins.plugin("initno:rounds=100,passes=1000"))
    with pytest.raises(ParameterError, match=r"100,\d{3} model passes.*6,000.*InitNO"):
        bounds.check_passes(Request("a cat and a frog", plugins=wild, steps=25), 1, LIMITS)
    request = Request(prompt="a cat and a frog", plugins=wild)
    data = Setup("toybox", request, (0,)).to_json()
    with pytest.raises(ParameterError, match="model passes"):
        setups.from_json(data, ("toybox",))


@pytest.mark.parametrize("name", sorted(plugins.PLUGINS))
def test_every_method_at_its_defaults_is_within_the_limits(name: str) -> None:
    stack = (plugins.plugin(name),)
    bounds.check_passes(Request("a cat", plugins=stack), LIMITS.seeds, LIMITS)


@pytest.mark.parametrize(("enough", "score"), [(None, 0.5), (0.1, 0.2)])
def test_a_flight_takes_no_more_than_its_plan_says(enough: float | None, score: float) -> None:
    """Whether nothing promises enough or all does; the dearest attempt comes last."""
    stacks = ((), plugins.stack("attend-and-excite+syngen"))
    attempts = tuple(Attempt("", stack) for stack in stacks)
    plan = Plan("a cat and a frog", attempts, verifier="told", budget=8.0, enough=enough)
    pipe, asked = tiny.sd1(), 0

    def counted(*_: Any) -> None:
        nonlocal asked
        asked += 1

    pipe.unet.register_forward_pre_hook(counted)
    adhere.verifiers.register("told", lambda pictures, _: [score] * len(pictures))
    adhere.autopilot(pipe, plan, num_inference_steps=STEPS, height=32, width=32)
    least = STEPS if enough is not None else STEPS + 1  # a look in vain comes first
    assert least <= asked <= flight_passes(plan, STEPS)


def test_a_job_of_an_autopilot_is_held_to_its_passes() -> None:
    request = Request("a red cat and a blue car", auto=Pilot())
    most = job_passes(request, 1)
    assert job_passes(request, 2) == 2 * most
    assert job_passes(request, 1, compare=False) == most - USUAL_STEPS
    assert 8 * USUAL_STEPS < most < LIMITS.passes
    with pytest.raises(ParameterError, match=r"its budget is 200.*take a smaller budget"):
        bounds.check_passes(replace(request, auto=Pilot(200.0)), 1, LIMITS)


DEAR = ("initno", "saga")
"""Hundreds of passes a picture: for the night."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in DEAR else ())
        for name in sorted(plugins.PLUGINS)
    ],
)
def test_a_method_takes_no_more_than_it_says(name: str) -> None:
    """On a tiny random model, where targets are never met and every repetition is made."""
    plugin: Any = plugins.plugin(name)
    for needed in NEEDED.keys() & vars(plugin).keys():
        plugin = replace(plugin, **{needed: NEEDED[needed]})
    plugin = replace(plugin, **stored.needed(set(vars(plugin)), (4, 32, 32)))
    layout = Layout((Region("cat", box=(0.0, 0.0, 0.5, 1.0)),))
    asked = 0

    def counted() -> bool:
        nonlocal asked
        asked += 1
        return False

    pipe = tiny.suited(type(plugin), tiny.sd1())
    given = layout if methods.has_layout(type(plugin)) else None
    with (
        Rows(family_of(pipe)) as rows,
        Guidance(plugin).attach(pipe, layout=given, interrupt=counted),
    ):
        pipe("a cat and a frog", num_inference_steps=STEPS, output_type="latent")
    most = extra_passes((plugin,), STEPS, layout=given)
    assert most <= extra_passes((plugin,), STEPS)
    assert STEPS <= asked <= STEPS + most
    assert (rows.own, rows.evaluations, rows.share) == (2 * STEPS, STEPS, 1)
    assert rows.own <= rows.rows <= rows.own + most


def counted(pipe: Any, plugin: Any, layout: Layout | None = None) -> int:
    """Passes that a guided picture really takes."""
    asked = 0

    def count() -> bool:
        nonlocal asked
        asked += 1
        return False

    with Guidance(plugin).attach(pipe, layout=layout, interrupt=count):
        pipe("a cat and a frog", num_inference_steps=STEPS, output_type="latent")
    return asked


def test_which_samplers_evaluate_twice_is_what_diffusers_says() -> None:
    kinds = {name: getattr(diffusers, kind) for name, kind in (SCHEDULERS | FLOW).items()}
    assert {name for name, kind in kinds.items() if kind.order > 1} == set(TWICE)


@pytest.mark.parametrize(
    "name",
    [
        "attend-and-excite",
        pytest.param("initno", marks=pytest.mark.slow),
        "nag",
        "sega",
        "zestguide",
    ],
)
def test_a_sampler_that_evaluates_twice_is_counted_twice(name: str) -> None:
    plugin: Any = plugins.plugin(name)
    plugin = replace(plugin, **{k: NEEDED[k] for k in NEEDED.keys() & vars(plugin).keys()})
    layout = Layout((Region("cat", box=(0.0, 0.0, 0.5, 1.0)),))
    given = layout if methods.has_layout(type(plugin)) else None
    request = Request("a cat", plugins=(plugin,), layout=given, scheduler="heun", steps=STEPS)
    pipe = tiny.suited(type(plugin), tiny.sd1())
    pipe.scheduler = scheduler(pipe, "heun")
    asked = counted(pipe, plugin, given)
    assert 2 * STEPS - 1 <= asked <= job_passes(request, 1, compare=False)
    plain = replace(request, plugins=())
    assert job_passes(plain, 1) == 2 * STEPS


def test_a_method_that_goes_through_the_regions_is_counted_by_the_layouts_own() -> None:
    many = Layout(
        tuple(Region(text=f"a cat {k}", box=(k / 12, 0, (k + 1) / 12, 1)) for k in range(12))
    )
    plugin: Any = plugins.plugin("moved-noise:look_at=0.2")
    request = Request("a cat and a frog", plugins=(plugin,), layout=many, steps=STEPS)
    assert counted(tiny.sd1(), plugin, many) <= job_passes(request, 1, compare=False)
    few = replace(request, layout=Layout(many.regions[:1]))
    assert job_passes(few, 1) < job_passes(request, 1)
    plan = Plan("a cat and a frog", (Attempt("", (plugin,)),), layout=many)
    flown = [job_passes(Request(plan.prompt, auto=one, steps=STEPS), 1)
             for one in (plan, replace(plan, layout=few.layout))]  # fmt: skip
    assert flown[0] > flown[1]

"""Noise that a scheduler draws elsewhere than from the generator of a call: it is said."""

from __future__ import annotations

import warnings
from typing import Any

import diffusers
import pytest
import torch

import adhere
from adhere import SynGen
from adhere.errors import GuidanceWarning
from adhere.pipelines.engine.guidance import Guidance
from tests import tiny
from tests.families.cases import CASES
from tests.verifying import redness

PROMPT = "a red cat and a blue car"
SAYS = "from elsewhere than the generator"


def few_steps(name: str = "FlowMatchLCMScheduler", **settings: Any) -> tuple[Any, dict[str, Any]]:
    """SD3 with a scheduler whose noise diffusers' pipeline draws without its generator."""
    case = CASES["sd3"]
    pipe = case.make()
    kind = getattr(diffusers, name)
    pipe.scheduler = kind.from_config(pipe.scheduler.config, **settings)
    return pipe, {**case.options, "num_inference_steps": 3}


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("plugins", [(), (SynGen(),)], ids=["idle", "guided"])
def test_noise_from_elsewhere_is_said(plugins: tuple[Any, ...]) -> None:
    pipe, call = few_steps()
    with (
        Guidance(*plugins).attach(pipe) as attached,
        pytest.warns(GuidanceWarning, match=SAYS),
    ):
        pipe(PROMPT, generator=seeded(), **call)
    assert sum(SAYS in note for note in attached.report.notes) == 1


def test_it_is_true_of_what_it_is_said_of() -> None:
    pipe, call = few_steps()
    first, again = (pipe(PROMPT, generator=seeded(), **call).images[0] for _ in range(2))
    assert first.tobytes() != again.tobytes()


def test_it_is_of_any_scheduler_that_draws_so() -> None:
    pipe, call = few_steps("FlowMatchEulerDiscreteScheduler", stochastic_sampling=True)
    with (
        Guidance().attach(pipe),
        pytest.warns(GuidanceWarning, match=f"^FlowMatchEulerDiscreteScheduler drew .* {SAYS}"),
    ):
        pipe(PROMPT, generator=seeded(), **call)


def no_generator() -> tuple[Any, dict[str, Any]]:
    return few_steps()


def handed_on() -> tuple[Any, dict[str, Any]]:
    pipe = tiny.sd1()
    pipe.scheduler = diffusers.LCMScheduler.from_config(pipe.scheduler.config)
    call = {"num_inference_steps": 3, "height": 32, "width": 32, "generator": seeded()}
    return pipe, call


def no_noise() -> tuple[Any, dict[str, Any]]:
    case = CASES["sd3"]
    return case.make(), {**case.options, "num_inference_steps": 3, "generator": seeded()}


@pytest.mark.parametrize("make", [no_generator, handed_on, no_noise])
def test_nothing_is_said_where_there_is_nothing(make: Any) -> None:
    pipe, call = make()
    with Guidance().attach(pipe) as attached, warnings.catch_warnings():
        warnings.filterwarnings("error", SAYS)
        pipe(PROMPT, **call)
    assert not any(SAYS in note for note in attached.report.notes)


def test_a_users_own_draws_are_not_the_schedulers() -> None:
    pipe, call = no_noise()

    def draws(*args: Any) -> dict[str, Any]:
        torch.randn(3)
        return {}

    with Guidance().attach(pipe) as attached:
        pipe(PROMPT, callback_on_step_end=draws, **call)
    assert not any(SAYS in note for note in attached.report.notes)


@pytest.mark.filterwarnings("ignore::adhere.errors.GuidanceWarning")
def test_searches_and_flights_note_it() -> None:
    pipe, call = few_steps()
    found = adhere.search(pipe, PROMPT, n=2, verifier=redness, **call)
    assert sum(SAYS in note for note in found.notes) == 1
    flight = adhere.autopilot(pipe, PROMPT, budget=2, verifier=redness, **call)
    assert sum(SAYS in note for note in flight.notes) == 1

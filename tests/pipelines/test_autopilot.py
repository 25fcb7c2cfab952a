"""The autopilot: what is planned, tried, finished and paid for."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import HeunDiscreteScheduler
from PIL import Image

import adhere
from adhere.errors import GuidanceError, LayoutError, ParameterError, PromptError
from adhere.layout.composing import composed
from adhere.layout.layout import Layout, Region
from adhere.pipelines.families import family_of
from adhere.pipelines.search.costs import Rows
from adhere.pipelines.search.plan import Attempt, Pilot, Plan, parted, planned
from adhere.pipelines.search.search import APART, Search
from adhere.pipelines.studio.request import Request
from adhere.verifiers import Verifier
from tests import tiny
from tests.families import pipes
from tests.families.cases import CASES
from tests.leftovers import nothing_left
from tests.verifying import redness

PAIR = "a red cat and a blue car"
PLACED = "zestguide"
"""The name of an attempt that places."""
CALL = {"num_inference_steps": 5, "height": 32, "width": 32}


class Told:
    """A verifier that says what it is told to, and remembers what it was asked."""

    def __init__(self, *scores: float) -> None:
        self.scores, self.asked = list(scores), 0

    def __call__(self, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        self.asked += 1
        return [self.scores.pop(0) for _ in pictures]


def flown(pipe: Any, prompt: Any = PAIR, **options: Any) -> Any:
    return adhere.autopilot(pipe, prompt, **{**CALL, **options})


# ---- The plan ----------------------------------------------------------------


def test_a_plan_tries_what_can_fail() -> None:
    names = [one.name for one in planned(PAIR).attempts]
    assert names == ["plain", f"{PLACED}+syngen", "syngen"]
    names = [one.name for one in planned("a cat and a frog").attempts]
    assert names == ["plain", PLACED, "attend-and-excite"]
    assert [one.name for one in planned("a red cat").attempts] == ["plain"]


def test_a_plan_has_the_layout_of_its_words() -> None:
    layout = planned("a cat above a frog").layout
    assert layout is not None
    assert layout.phrases == ("cat", "frog")
    assert planned("a cat").layout is None


@pytest.mark.parametrize(
    "prompt",
    ["a cat in a hat", "a blue turtle by the sea", "a haunted place with a clock", "a cat's tail"],
)
def test_one_thing_without_a_place_is_not_placed_whatever_it_is_with(prompt: str) -> None:
    """A region of all the picture would say nothing, and cost what guidance costs."""
    plan = planned(prompt)
    assert plan.layout is None
    assert not any("zestguide" in one.name for one in plan.attempts)


@pytest.mark.parametrize("prompt", ["three red cats", "a dozen cats", "a cat on the left"])
def test_a_number_or_a_place_of_one_thing_is_in_the_plan(prompt: str) -> None:
    plan = planned(prompt)
    assert plan.layout == composed(prompt)
    assert [one.name for one in plan.attempts] == ["plain", PLACED]
    assert plan.layout_of(plan.attempts[1]) is not None
    assert [one.name for one in planned("a red cat").attempts] == ["plain"]


@pytest.mark.parametrize(
    ("prompt", "wanted", "unwanted"),
    [
        ("a cat without a hat", "a cat", "hat"),
        ("a cat with no hat, in a room", "a cat, in a room", "hat"),
        ("a street but no people and a car", "a street and a car", "people"),
        ("a cat without any collar, without a hat", "a cat", "collar, hat"),
        ("a house without a Cat or A red dog", "a house", "Cat, red dog"),
        ("a house with no cat nor any dogs in a field", "a house in a field", "cat, dogs"),
        ("a car without a cat and without a dog", "a car", "cat, dog"),
        ("a house, without a cat, and a tree", "a house, and a tree", "cat"),
        ("Without a hat, a cat.", "a cat.", "hat"),
        ("a cat", "a cat", ""),
        ("a cat and", "a cat and", ""),
        ("a dog, no cats", "a dog", "cats"),
        ("a dog and no cats on grass", "a dog on grass", "cats"),
        ("a street, no cars, no people, at night", "a street, at night", "cars, people"),
        ("a no parking sign", "a no parking sign", ""),
        ("no one in a street", "no one in a street", ""),
        ("the No 5 bus", "the No 5 bus", ""),
        ("no cats left of a dog", "a dog", "cats"),
        ("a cat without a hat left of a dog", "a cat left of a dog", "hat"),
        ("a dog with no cat to its left", "a dog", "cat"),
        ("a dog with no cats next to it, in a field", "a dog, in a field", "cats"),
        ("two dogs and zero cats", "two dogs", "cats"),
        ("0 cats and a dog", "a dog", "cats"),
        ("an astronaut in zero gravity", "an astronaut in zero gravity", ""),
        ("a cat, not a dog", "a cat", "dog"),
        ("a cat, not a lot of dogs", "a cat, not a lot of dogs", ""),
        ("a cat which is not a tabby", "a cat which is not a tabby", ""),
        ("a cat instead of a dog", "a cat", "dog"),
        ("a street devoid of cars", "a street", "cars"),
    ],
)
def test_what_is_unwanted_is_a_negative_prompt(prompt: str, wanted: str, unwanted: str) -> None:
    assert parted(prompt) == (wanted, unwanted)


@pytest.mark.parametrize(
    "prompt",
    ["without a cat", "Without a cat or a dog.", "without a cat and with no dog", "no cats"],
)
def test_a_prompt_that_only_leaves_out_is_refused(prompt: str) -> None:
    with pytest.raises(PromptError, match=f"{prompt}' says only what is not .*'a house without"):
        planned(prompt)


def test_a_plan_is_plain_data() -> None:
    plan = planned("a red cat left of a blue car without a hat", budget=5.0, enough=0.7)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    with pytest.raises(ParameterError, match="a plan has no 'attemps'"):
        Plan.from_json({"prompt": "a cat", "attemps": []})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"budget": 0.5}, "a picture costs 1"),
        ({"budget": math.nan}, "a picture costs 1"),
        ({"budget": math.inf}, "budget=inf: .* a finite number of 1 or more"),
        ({"budget": "x"}, "a picture costs 1"),
        ({"enough": math.inf}, "enough=inf is no score"),
        ({"prompt": " "}, "an empty prompt"),
        ({"prompt": "a [red|cat"}, "is never closed"),
        ({"enough": "x"}, "enough='x' is no score"),
        ({"enough": math.nan}, "enough=nan is no score"),
        ({"look_at": "x"}, "no share of a run"),
        ({"look_at": 1.0}, "no share of a run"),
        ({"attempts": ()}, "without attempts makes no picture"),
        ({"attempts": "syngen"}, "attempts='syngen' is no list"),
        ({"attempts": [adhere.SynGen()]}, "is no attempt; give Attempt"),
        ({"budget": 10**400}, "a picture costs 1; give a finite number"),
        ({"enough": -(10**400)}, "is no score"),
        ({"verifier": 3}, "verifier=3 is no name of a verifier"),
        ({"verifier": " "}, "is no name of a verifier"),
        ({"layout": {"regions": []}}, "is none; give a Layout"),
    ],
)
def test_a_plan_that_cannot_be_flown_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises((ParameterError, PromptError), match=says):
        Plan(**{"prompt": PAIR, "attempts": (Attempt(""),), **options})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, "None is not a plan"),
        ([], r"\[\] is not a plan"),
        ({"attempts": [{}]}, '"prompt": "..."'),
        ({"prompt": PAIR}, r'"attempts": \[...\]'),
        ({"prompt": PAIR, "attempts": None}, r'"attempts": \[...\]'),
        ({"prompt": PAIR, "attempts": "syngen"}, r'"attempts": \[...\]'),
        ({"prompt": PAIR, "attempts": [{"plugins": "syngen"}]}, "plugins='syngen' is no list"),
        ({"prompt": PAIR, "attempts": [{"plugins": None}]}, "plugins=None is no list"),
        # Guidance would refuse them only when their turn comes, with pictures made.
        ({"prompt": PAIR, "attempts": [{}, {"plugins": ["syngen"] * 2}]}, "syngen is there twice"),
        ({"prompt": PAIR, "attempts": [{"why": None}]}, "why=None is no text"),
        ({"prompt": PAIR, "attempts": [{"why": "\ud800"}]}, "is no text"),
        ({"prompt": PAIR, "attempts": [{}], "verifier": ["judge"]}, "is no name of a verifier"),
    ],
)
def test_what_is_no_plan_is_refused_as_it_is_read(data: Any, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        Plan.from_json(data)


@pytest.mark.parametrize("layout", [{}, [], 0, False, ""])
def test_a_layout_that_is_none_is_no_layout_left_out(layout: Any) -> None:
    with pytest.raises(LayoutError):
        Plan.from_json({"prompt": PAIR, "attempts": [{}], "layout": layout})


def test_a_layout_of_other_words_is_said_before_it_is_followed() -> None:
    """Not with pictures made, when the turn of what follows it comes."""
    layout = composed("a whale")
    with pytest.raises(LayoutError, match="whale"):
        Plan(PAIR, (Attempt(""), Attempt("", (adhere.ZestGuide(),))), layout)
    assert Plan(PAIR, (Attempt(""),), layout).layout is layout


@pytest.mark.parametrize("prompt", [None, 3, ["a cat"]])
def test_what_is_no_text_is_no_prompt(prompt: Any) -> None:
    with pytest.raises(ParameterError, match="is no text"):
        planned(prompt)


def test_a_layout_that_is_given_is_followed() -> None:
    """Of one thing, whose words say nothing of a place, too."""
    layout = Layout((Region("cat", box=(0.0, 0.0, 0.5, 0.5)),))
    plan = Request("a cat", layout=layout, auto=Pilot()).flight_plan
    assert plan is not None
    assert [one.name for one in plan.attempts] == ["plain", PLACED]
    assert plan.layout_of(plan.attempts[1]) == layout


def test_numbers_of_numpy_are_plain_data() -> None:
    plan = planned(PAIR, budget=np.float32(4), enough=np.float32(0.5), look_at=np.float64(0.25))
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    how = Search(np.int64(8), finish=np.int32(2))  # type: ignore[arg-type]
    assert json.loads(json.dumps(how.to_json())) == Search(8, finish=2).to_json()
    for kind in (Search, Pilot):
        with pytest.raises(ParameterError, match="is not a"):
            kind.from_json([])  # type: ignore[arg-type]


# ---- The flight --------------------------------------------------------------


def test_a_picture_that_is_right_is_drawn_and_nothing_else() -> None:
    flight = flown(tiny.sd1(), verifier=Told(0.9, 0.9), enough=0.8)
    assert [one.attempt.name for one in flight.tries] == ["plain"]
    assert flight.satisfied
    # Looked at on its way, which costs no pass.
    assert flight.cost == 1
    assert flight.tries[0].seen is not None


def test_what_is_looked_at_and_goes_on_is_the_very_picture() -> None:
    looked = flown(tiny.sd1(), verifier=Told(0.9, 0.9), enough=0.8, seed=4)
    alone = tiny.sd1()(PAIR, generator=torch.Generator().manual_seed(4), **CALL).images[0]
    assert looked.picture.tobytes() == alone.tobytes()


def test_a_run_without_a_step_to_look_at_is_finished() -> None:
    flight = flown(tiny.sd1(), verifier=Told(0.9), enough=0.8, num_inference_steps=1)
    assert flight.satisfied
    assert flight.tries[0].foreseen is None


def test_what_does_not_promise_enough_is_never_finished() -> None:
    flight = flown(tiny.sd1(), verifier=Told(0.2, 0.1, 0.9, 0.85), enough=0.8)
    assert [one.picture is not None for one in flight.tries] == [False, False, True]
    assert flight.best.attempt.name == "syngen"
    assert flight.best.score == 0.85
    assert flight.satisfied


def test_the_picture_is_its_seeds_and_plugins_own() -> None:
    pipe = tiny.sd1()
    flight = flown(pipe, verifier=Told(0.1, 0.9, 0.9), enough=0.8, seed=7)
    generator = torch.Generator().manual_seed(7)
    layout = flight.plan.layout_of(flight.best.attempt)
    with adhere.Guidance(*flight.best.attempt.plugins).attach(pipe, layout=layout):
        alone = pipe(PAIR, generator=generator, **CALL).images[0]
    assert alone.tobytes() == flight.picture.tobytes()


def test_what_is_among_the_best_looks_goes_on() -> None:
    """A verifier may see too little in unfinished pictures to promise enough of any."""
    # plain .3 (the first never goes on); .2 is less; .3 is not less than most: it is finished.
    told = Told(0.3, 0.2, 0.3, 0.9)
    flight = flown(tiny.sd1(), verifier=told, enough=0.8)
    assert [one.foreseen for one in flight.tries] == [0.3, 0.2, 0.3]
    assert [one.score for one in flight.tries] == [None, None, 0.9]
    assert flight.satisfied


def test_a_small_budget_goes_to_what_was_not_tried() -> None:
    """A method that nobody tried is worth more than the picture that promised nothing."""
    plan = Plan(PAIR, (Attempt("plain"), Attempt("again")), enough=0.8, budget=1.7, look_at=0.5)
    flight = flown(tiny.sd1(), replan(plan, Told(0.1, 0.05, 0.4)), num_inference_steps=10)
    assert [one.attempt.why for one in flight.tries] == ["plain", "again"]
    assert [one.picture is not None for one in flight.tries] == [False, True]
    assert flight.tries[1].foreseen == 0.05  # it promised less still, and nothing else is left
    assert flight.cost == pytest.approx(1.6)


def test_a_finished_picture_that_disappoints_is_not_the_end() -> None:
    flight = flown(tiny.sd1(), verifier=Told(0.9, 0.3, 0.9, 0.95), enough=0.8)
    assert [one.score for one in flight.tries] == [0.3, 0.95]
    assert flight.best.score == 0.95


def test_when_nothing_promises_the_best_of_all_looks_is_finished() -> None:
    told = Told(0.35, *[0.2 - k / 100 for k in range(40)])
    flight = flown(tiny.sd1(), verifier=lambda p, q: [told.scores.pop(0)], enough=0.8, budget=6)
    finished = [one for one in flight.tries if one.picture is not None]
    assert len(finished) == 1
    assert finished[0].foreseen == 0.35
    assert len(flight.tries) > 3
    assert not flight.satisfied


@pytest.mark.parametrize("budget", [1.0, 1.2, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("steps", [1, 2, 10])
@pytest.mark.parametrize(
    "stack", ["", "syngen", "safe-latent-diffusion", "best-of-n:candidates=2,verifier=redness"]
)
def test_the_budget_holds(stack: str, steps: int, budget: float) -> None:
    """To the last pass, also of methods that nobody has tried yet."""
    plugins = adhere.plugins.stack(stack) if stack else ()
    attempts = (Attempt("plain"), Attempt("again", plugins))
    plan = Plan(PAIR, attempts, enough=1e9, budget=budget)
    with Rows(family_of(pipe := tiny.sd1())) as made:
        flight = flown(pipe, replan(plan, redness), num_inference_steps=steps)
    assert flight.picture is not None
    assert flight.cost == pytest.approx(made.rows / (2 * steps))
    assert flight.cost <= budget + 1e-9
    if budget >= 4 and stack != "best-of-n:candidates=2,verifier=redness":
        assert len(flight.tries) > 1


@pytest.mark.parametrize("budget", [1.0, 1.4, 2.0, 4.0])
def test_a_plan_that_begins_with_a_method_counts_in_plain_pictures(budget: float) -> None:
    plan = Plan(PAIR, (Attempt("bind", (adhere.SynGen(),)),), enough=1e9, budget=budget)
    flight = flown(tiny.sd1(), replan(plan, redness), num_inference_steps=10)
    # Ten steps of two rows, and five passes of one.
    assert flight.cost <= max(budget, 1.25) + 1e-9
    alone = budget < 1.25
    assert any("first picture alone cost 1.25 plain ones" in note for note in flight.notes) is alone
    # A look that ends in vain costs 0.75; where nothing else could be paid after it, none ends.
    assert (len(flight.tries) > 1) is (budget > 2)
    assert flight.tries[0].cost == (0.75 if budget > 2 else 1.25)


def test_what_is_too_dear_is_passed_over() -> None:
    """A method that the budget does not pay ends no flight."""
    dear, cheap = adhere.BestOfN(candidates=100), adhere.SynGen()
    attempts = (Attempt(""), Attempt("dear", (dear,)), Attempt("cheap", (cheap,)))
    plan = Plan(PAIR, attempts, enough=1e9, budget=4)
    flight = flown(tiny.sd1(), replan(plan, redness), num_inference_steps=10)
    assert {one.attempt.why for one in flight.tries} == {"", "cheap"}
    assert flight.cost <= 4


def test_steps_of_two_evaluations_are_counted_as_they_are() -> None:
    """Heun evaluates twice a step but the last; a look's share of the run is exact."""
    pipe = tiny.sd1()
    pipe.scheduler = HeunDiscreteScheduler.from_config(pipe.scheduler.config)
    plan = Plan(PAIR, (Attempt("plain"),), enough=1e9, budget=8)
    flight = flown(pipe, replan(plan, redness), num_inference_steps=10)
    # The look is after the step that begins at 0.36 of the run: 5 steps, 9 or 10 of 19.
    first = flight.tries[0].cost if flight.tries[0].picture is None else flight.tries[1].cost
    assert first in (pytest.approx(9 / 19), pytest.approx(10 / 19))
    assert flight.cost <= 8


@pytest.mark.parametrize("last", ["a green frog", "frog"])
def test_what_an_attempt_cannot_find_is_said_before_any_pass(last: str) -> None:
    pipe = tiny.sd1()
    long = f"a red cat and {'very ' * 80}{last}"
    with Rows(family_of(pipe)) as made, pytest.raises(PromptError, match="frog' lies beyond token"):
        flown(pipe, long, verifier=Told(0.9), enough=0.8)
    assert made.rows == 0
    plan = Plan(long, (Attempt("plain"),), enough=0.8)
    assert flown(pipe, replan(plan, Told(0.9, 0.9))).satisfied


def test_later_rounds_have_other_noises_and_guide() -> None:
    plan = Plan("a cat", (Attempt("first"), Attempt("more", (adhere.SynGen(),))), enough=9.0)
    told = Told(*[0.1] * 60)
    flight = flown(tiny.sd1(), replan(plan, told), budget=8)
    seeds = [(one.attempt.why, one.seed) for one in flight.tries]
    assert seeds[:4] == [("first", 0), ("more", 0), ("more", APART), ("more", 2 * APART)]


def test_an_attempt_that_stands_twice_is_not_the_same_picture_twice() -> None:
    bind = Attempt("bind", (adhere.SynGen(),))
    plan = Plan("a cat", (Attempt("first"), bind, Attempt("once more"), bind), enough=9.0)
    flight = flown(tiny.sd1(), replan(plan, Told(*[0.1] * 60)))
    tried = [(one.attempt.name, one.seed) for one in flight.tries]
    assert tried[:4] == [("plain", 0), ("syngen", 0), ("plain", APART), ("syngen", APART)]
    assert len(set(tried)) == len(tried) > 4


def replan(plan: Plan, told: Verifier) -> Plan:
    from dataclasses import replace

    from adhere.verifiers import register

    register("told", told)
    return replace(plan, verifier="told")


def test_a_verifier_that_fails_costs_no_picture() -> None:
    def breaks(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        raise ValueError("no weights")

    flight = flown(tiny.sd1(), verifier=breaks, enough=0.5)
    assert flight.picture is not None
    assert flight.cost == 1  # nothing could tell a second one from it
    assert not flight.satisfied
    assert "ValueError: no weights" in flight.notes[0]


@pytest.mark.parametrize("negative", [{}, {"negative_prompt": "a frog"}])
def test_what_is_unwanted_reaches_the_pipeline(negative: dict[str, str]) -> None:
    """Beside what the caller does not want."""
    pipe, given = tiny.sd1(), []
    original = pipe.encode_prompt

    def encode(*args: Any, **kwargs: Any) -> Any:
        given.append((args, kwargs))
        return original(*args, **kwargs)

    pipe.encode_prompt = encode
    flown(pipe, "a cat without a skull", verifier=Told(1, 1), enough=0.5, **negative)
    words = json.dumps(given, default=str)
    assert ", ".join([*negative.values(), "skull"]) in words
    assert "without" not in words


def test_what_is_unwanted_and_cannot_be_said_is_told() -> None:
    pipe = tiny.sd1()
    _, none = pipe.encode_prompt("a frog", "cpu", 1, True)
    for said, noted in (({"negative_prompt_embeds": none}, True), ({}, False)):
        flight = flown(pipe, "a cat without a skull", verifier=Told(1, 1), enough=0.5, **said)
        assert any("'skull' was not kept out" in note for note in flight.notes) is noted


@pytest.mark.parametrize(
    ("host", "heard", "unheard"),
    [
        (tiny.sd1, {"guidance_scale": 5.0}, {"guidance_scale": 1.0}),
        (pipes.flux, {"true_cfg_scale": 4.0}, {}),
    ],
)
def test_what_is_unwanted_and_nothing_keeps_out_is_told(
    host: Any, heard: dict[str, float], unheard: dict[str, float]
) -> None:
    """A negative prompt is taken by these calls, and does nothing without a second prediction."""
    for told, noted in ((unheard, True), (heard, False)):
        flight = flown(host(), "a cat without a skull", verifier=Told(1, 1), enough=0.5, **told)
        said = [note for note in flight.notes if "'skull' was not kept out" in note]
        assert bool(said) is noted
        assert all("`nag` keeps things out" in note for note in said)


def test_the_flight_is_told_as_plain_data() -> None:
    flight = flown(tiny.sd1(), verifier=Told(0.1, 0.9, 0.9), enough=0.8)
    told = json.loads(json.dumps(flight.to_json()))
    assert told["chosen"] == 1
    assert [one["finished"] for one in told["tries"]] == [False, True]
    assert told["tries"][1]["why"] == "things may be missing, or in the wrong place"


def test_the_pipeline_is_left_as_it_was() -> None:
    pipe = tiny.sd1()
    with nothing_left(pipe):
        flown(pipe, verifier=Told(0.1, 0.9, 0.9), enough=0.8)


@pytest.mark.parametrize("name", ["generator", "num_images_per_prompt"])
def test_what_it_gives_itself_is_refused(name: str) -> None:
    with pytest.raises(ParameterError, match="leave it out"):
        flown(tiny.sd1(), **{name: 2})


@pytest.mark.parametrize("name", CASES)
def test_every_family_is_flown(name: str) -> None:
    case = CASES[name]
    flight = adhere.autopilot(
        case.make(), "a cat and a dog", verifier=Told(0.1, 0.9, 0.9, *[0.0] * 9), enough=0.8,
        **{**case.options, "num_inference_steps": 3},
    )  # fmt: skip
    assert flight.best.attempt.name == PLACED
    assert flight.satisfied


@pytest.mark.parametrize(("at", "finished"), [(1, 0), (4, 0), (8, 1)])
def test_what_is_finished_outlives_a_stop(at: int, finished: int) -> None:
    """In the plain picture, in the second try after a first that was not finished, and after one
    that was; with what the broken try has cost.
    """
    pipe, calls = tiny.sd1(), []

    def stops(*_: Any) -> None:
        calls.append(1)
        if len(calls) == at + 1:
            raise KeyboardInterrupt

    pipe.unet.register_forward_hook(stops)
    plan = Plan(PAIR, (Attempt("first"), Attempt("second")), enough=9.0, promising=0.5, budget=8)
    told = Told(1.0, 0.9, 0.1, 0.1) if finished else Told(*[0.1] * 9)
    with pytest.raises(KeyboardInterrupt) as raised:
        flown(pipe, replan(plan, told))
    flight = raised.value.outcome  # type: ignore[attr-defined]
    assert flight.stopped_by == "KeyboardInterrupt"
    assert len(flight.finished) == finished
    # Of five steps each; the look is after the third. The broken step is not paid: it gave nothing.
    assert flight.cost == pytest.approx(at / 5)
    data = json.loads(json.dumps(flight.to_json()))
    assert data["stopped_by"] == "KeyboardInterrupt"
    assert data["chosen"] == (0 if finished else None)
    if not finished:
        with pytest.raises(GuidanceError, match="stopped by KeyboardInterrupt before a picture"):
            _ = flight.picture


# ---- In the studio -----------------------------------------------------------


def studio_of(**options: Any) -> Any:
    from adhere.pipelines.studio.studio import Studio

    return Studio("toybox", **options)


def test_a_request_may_be_an_autopilots() -> None:
    request = Request("a red cat and a blue car", seed=3, steps=6, auto=Pilot(4.0, "judge"))
    assert Request.from_json(json.loads(json.dumps(request.to_json()))) == request
    assert "auto" not in Request("a cat").to_json()
    picture = studio_of().generate([request])[0]
    told = picture.report["autopilot"]
    assert picture.request == request
    assert told["cost"] <= 4.0 + max(one["cost"] for one in told["tries"])
    chosen = told["tries"][told["chosen"]]
    assert chosen["finished"]
    # Only what follows a layout is given one: the others would say that it has no effect.
    assert not [note for note in picture.report["notes"] if "had no effect" in note]


def test_its_picture_can_be_made_again_from_the_report() -> None:
    from adhere.plugins import stack

    studio, about = studio_of(), {"steps": 6, "prompt": "a red cat and a blue car"}
    picture = studio.generate([Request(**about, seed=3, auto=Pilot(3.0, "judge"))])[0]
    told = picture.report["autopilot"]
    chosen = told["tries"][told["chosen"]]
    plugins = () if chosen["attempt"] == "plain" else stack(chosen["attempt"])
    layout = Plan.from_json(told["plan"]).layout_of(Attempt("", plugins))
    again = Request(**about, seed=chosen["seed"], plugins=plugins, layout=layout)
    assert studio.generate([again])[0].image.tobytes() == picture.image.tobytes()


def test_a_flight_is_seen_while_it_is_made() -> None:
    from adhere.pipelines.studio.request import Progress

    told: list[Progress] = []
    attempts = (Attempt("plain"), Attempt("bind", (adhere.SynGen(),)))
    plan = Plan(PAIR, attempts, verifier="judge", budget=2.0)
    picture = studio_of().generate([Request(PAIR, steps=6, auto=plan)], on_step=told.append)[0]
    assert [len(one.tries) for one in told][:3] == [1, 1, 1]
    # What is told stays as it was: the next step's is another.
    assert told[0].tries[0].seen is None
    assert told[-1].tries[0].seen is not None
    assert [one.attempt.name for one in picture.tries][:2] == ["plain", "syngen"]
    assert all(one.seen for one in picture.tries)
    assert any(one.picture is picture.image for one in picture.tries)


def test_an_interrupt_ends_the_flight() -> None:
    from adhere.errors import Interrupted

    asked: list[int] = []

    def soon() -> bool:
        asked.append(1)
        return len(asked) > 3

    with pytest.raises(Interrupted):
        studio_of().generate([Request("a cat", steps=8, auto=Pilot())], interrupt=soon)


def test_a_plan_is_told_in_words() -> None:
    told = planned("a red cat left of a blue car without a hat", enough=0.8).told()
    assert told[:2] == ["draws: a red cat left of a blue car", "keeps out: hat"]
    assert [line.split(":")[0] for line in told if line[0].isdigit()] == [
        "1. plain", f"2. {PLACED}+syngen", "3. syngen"
    ]  # fmt: skip
    (cat,) = [line for line in told if line.strip().startswith("red cat:")]
    assert int(cat.split("to ")[1].split(" ")[0]) <= 50  # it is on the left
    assert "0.8 is enough" in told[-1]
    assert "8 plain pictures" in told[-1]
    # What no attempt follows is not told.
    assert not any("across" in line for line in planned("a red cat").told())


def test_places_that_no_rule_reads_are_in_the_plan_and_what_flew_by_it() -> None:
    plan = planned("a cat facing a dog")  # without a warning: the plan says it
    assert any("no rule of layouts reads 'facing'" in line for line in plan.told())
    flight = flown(tiny.sd1(), plan.prompt, verifier=Told(0.9), enough=0.8, num_inference_steps=1)
    assert plan.not_read in flight.to_json()["notes"]
    mine = replace(plan, layout=composed("a dog left of a cat"))
    assert not any("facing" in line for line in mine.told()[1:])
    alone = planned("a cat in the corner")
    assert alone.layout is None
    assert "'in the corner'" in alone.not_read
    assert planned("a cat left of a dog").not_read == ""


@pytest.mark.parametrize("prompt", ["", "  "])
def test_nothing_to_verify_is_refused(prompt: str) -> None:
    with pytest.raises(PromptError, match="says nothing that a picture could be held against"):
        planned(prompt)


def test_an_edited_plan_is_flown_as_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.command import adhere as command

    file, out = tmp_path / "plan.json", tmp_path / "out"
    assert command("plan", PAIR, "--verifier", "judge", "-o", file) == 0
    assert "3. syngen: properties may be on the wrong thing" in capsys.readouterr().out
    data = json.loads(file.read_text())
    del data["attempts"][:2]
    data.update(prompt="a green frog", budget=1.0)
    file.write_text(json.dumps(data))
    assert command("generate", "--plan", file, "--steps", "4", "-o", out) == 0
    said = capsys.readouterr().out
    assert said.index("draws: a green frog") < said.index("1. syngen")
    (made,) = json.loads((out / "report.json").read_text())["pictures"]
    told = made["report"]["autopilot"]
    assert {one["attempt"] for one in told["tries"]} == {"syngen"}
    assert told["plan"] == {**data, "layout": told["plan"]["layout"]}
    assert made["request"]["prompt"] == "a green frog"
    # The settings in the picture make it again.
    request = Request.from_json(made["request"])
    assert request.auto == Plan.from_json(data)


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        (None, [], "No such file"),
        ("{", [], "does not read"),
        ("[1]", [], "it holds list, no plan"),
        ('{"prompt": "a cat", "prompt": "a dog"}', [], "'prompt' is there twice"),
        ('{"prompt": "a cat", "attempts": [], "more": 1}', [], "a plan has no 'more'"),
        ('{"prompt": "a cat", "attempts": []}', [], "without attempts makes no picture"),
        ('{"attempts": [{}]}', [], "does not read"),
        ('{"prompt": "a cat", "attempts": [{"plugins": ["nope"]}]}', [], "nope"),
        ('{"prompt": "a cat", "attempts": [{}], "budget": "two"}', [], "does not read"),
        ('{"prompt": "a cat", "attempts": [{}], "budget": Infinity}', [], "give a finite number"),
        ('{"prompt": " ", "attempts": [{}]}', [], "an empty prompt"),
        ('{"prompt": "a [cat", "attempts": [{}]}', [], "'[' is never closed"),
        ('{"prompt": "a cat", "attempts": ["syngen"]}', [], "'syngen' is no attempt"),
        ('{"prompt": "a cat", "attempts": [{"plugin": ["syngen"]}]}', [], "is no attempt; write"),
        ('{"prompt": 3, "attempts": [{}]}', [], "prompt=3 is no text"),
        ('{"prompt": "a cat", "attempts": [{}], "negative": ["hat"]}', [], "is no text"),
        ("{}", ["a cat"], "has its prompt"),
        ("{}", ["--budget", "3"], "--budget stands in the plan already"),
        ("{}", ["-p", "syngen"], "--plan chooses the methods itself"),
    ],
)
def test_a_plan_that_does_not_read_says_so(
    text: str | None,
    options: list[str],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tests.command import adhere as command

    file = tmp_path / "plan.json"
    if text is not None:
        file.write_text(text)
    assert command("generate", "--plan", file, "-m", "/nowhere", *options) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--auto", "-p", "syngen"], "--auto chooses the methods itself"),
        (["--auto", "--best-of", "4"], "both choose among pictures"),
        (["--budget", "3"], "--budget says how --auto chooses"),
        (["--verifier", "judge"], "--verifier says how --best-of chooses"),
        (["--auto", "--verifier", "nope"], "no verifier is called 'nope'"),
        (["--best-of", "4", "--verifier", "min("], "does not read"),
        (["--auto", "--look-at", "1"], "no share of a run"),
        (["--drop-by", "both"], "--drop-by says how --best-of chooses"),
        (["--auto", "--drop-by", "both"], "--drop-by says how --best-of chooses"),
        (["--best-of", "4", "--drop-by", "clip"], "candidates are dropped by: verifier"),
    ],
)
def test_the_command_line_refuses_before_it_loads(
    options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.command import adhere as command

    assert command("generate", "a cat", "-m", "/nowhere", *options) == 2
    assert says in capsys.readouterr().err

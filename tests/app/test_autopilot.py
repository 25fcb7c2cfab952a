"""The autopilot's tab without a browser: a plan as fields, its words, its limits, its job."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any

import pytest

from adhere import plugins
from adhere.app.jobs import copies
from adhere.app.jobs import setup as setups
from adhere.app.jobs.limits import LIMITS
from adhere.app.jobs.result import Result, Update
from adhere.app.jobs.setup import Setup
from adhere.app.jobs.worker import Worker
from adhere.app.parts import planning
from adhere.app.parts.plan_fields import PlanFields
from adhere.app.tabs.history import board_for, caption
from adhere.errors import GuidanceError, ParameterError
from adhere.layout.composing import composed
from adhere.pipelines.search.plan import Attempt, Pilot, Plan
from adhere.pipelines.studio.request import Request
from tests.app.fakes import FakeJudge, FakeStudio

PROMPT = "a red cat left of a blue car without a hat"
TRIED, LAYOUT, UNWANTED, BUDGET, ENOUGH = 1, 2, 3, 4, 5
PLACED = "zestguide+syngen"
FIELDS = PlanFields(LIMITS)
KEPT = {"__type__": "update"}
"""Says nothing of a component: it stays as it is."""


def filled(request: Request) -> list[Any]:
    """The fields' values as a page sends them."""
    values = FIELDS.fill(request)
    return [one["value"] if isinstance(one, dict) else one for one in values]


def asked(values: list[Any], prompt: str = PROMPT) -> Request:
    return FIELDS.read(values, Setup("toybox", Request(prompt), (0,))).request


# ---- The plan as fields --------------------------------------------------------------------------


def test_what_nobody_changed_is_the_prompts_own_plan() -> None:
    request = Request(PROMPT, auto=Pilot(5.0, enough=0.4))
    assert asked(filled(request)) == request


def test_fields_of_an_earlier_prompt_say_nothing_of_this_one() -> None:
    values = filled(Request(PROMPT, auto=Pilot()))
    values[TRIED], values[UNWANTED], values[BUDGET] = ["plain"], "a dog", "3"
    request = asked(values, "a green frog")
    assert request == Request("a green frog", auto=Pilot(3.0))


@pytest.mark.parametrize("budget", ["3", "0.5", "much"])
def test_a_new_prompt_fills_what_is_its_own_and_takes_no_budget_back(budget: str) -> None:
    """Its answer may be late, and the budget typed meanwhile; a wrong one keeps no old plan."""
    values = filled(Request(PROMPT, auto=Pilot()))
    values[BUDGET] = budget
    assert FIELDS.follow(values, PROMPT) == [KEPT] * len(values)
    shown = FIELDS.follow(values, " a green  frog ")
    assert shown[BUDGET:] == [KEPT] * len(values[BUDGET:])
    own = [one["value"] if isinstance(one, dict) else one for one in shown[:BUDGET]]
    read = Pilot(3.0) if budget == "3" else Pilot()
    assert own == filled(Request("a green frog", auto=read))[:BUDGET]
    if budget == "3":
        request = asked([*own, *values[BUDGET:]], "a green frog")
        assert request == Request("a green frog", auto=Pilot(3.0))
    for nothing in ("", "  ", "x" * 2000, None):
        assert FIELDS.follow(values, nothing) == [KEPT] * len(values)


@pytest.mark.parametrize(
    ("changed", "tried", "negative"),
    [
        ({TRIED: ["syngen", "plain"]}, ["syngen", "plain"], "hat"),
        ({LAYOUT: False}, ["plain", "syngen"], "hat"),
        ({TRIED: ["plain"], UNWANTED: " a  dog "}, ["plain"], "a dog"),
        (
            {UNWANTED: "", TRIED: ["paint-with-words+zestguide+syngen"]},
            ["paint-with-words+zestguide+syngen"],
            "",
        ),
    ],
)
def test_a_changed_plan_is_flown_as_it_stands(
    changed: dict[int, Any], tried: list[str], negative: str
) -> None:
    values = filled(Request(PROMPT, auto=Pilot()))
    for place, value in changed.items():
        values[place] = value
    request = asked(values)
    plan = request.flight_plan
    assert isinstance(request.auto, Plan)
    assert plan is not None
    assert [one.name for one in plan.attempts] == tried
    assert (plan.prompt, plan.negative) == ("a red cat left of a blue car", negative)
    assert request.prompt == PROMPT
    # What is shown of it is it, also by a link.
    assert asked(filled(request)) == request
    setup = setups.checked(Setup("toybox", request, (0,)), ("toybox",))
    link = copies.to_link(setup).removeprefix("?setup=")
    assert copies.from_link(link, ("toybox",)) == setup


def test_what_a_request_says_beside_its_plan_is_part_of_it() -> None:
    mine = composed("a blue car left of a red cat")
    request = Request(PROMPT, negative_prompt="a dog", subjects=("cat",), layout=mine, auto=Pilot())
    again = asked(filled(request))
    assert again.flight_plan == replace(request.flight_plan, negative="a dog, hat")
    assert again.subjects == ("cat",)


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (TRIED, [], "tries nothing"),
        (TRIED, ["nonsense"], "nonsense"),
        (BUDGET, "0.5", "budget=0.5 is out of range"),
        (BUDGET, "nan", "out of range"),
        (BUDGET, "many", "not a number"),
        (ENOUGH, "inf", "out of range"),
        (UNWANTED, "x" * 2000, "2000 characters"),
    ],
)
def test_what_does_not_read_is_one_sentence(place: int, value: Any, sentence: str) -> None:
    values = filled(Request(PROMPT, auto=Pilot()))
    values[place] = value
    with pytest.raises(GuidanceError, match=sentence):
        asked(values)


def test_an_empty_prompt_says_what_to_write() -> None:
    with pytest.raises(GuidanceError, match="write what it should show"):
        asked(filled(Request(PROMPT, auto=Pilot())), "")


# ---- Its words -----------------------------------------------------------------------------------


def test_the_plan_is_said_in_plain_words() -> None:
    plan = Pilot(2.0, enough=0.4).plan(PROMPT)
    said = planning.card(plan, 321)
    for text in ("red cat", "SynGen", "things may be missing", "hat", "2 plain", "321", "0.4"):
        assert text in said
    assert "<img" in said
    assert "<img" not in planning.card(replace(plan, attempts=plan.attempts[::2]), 321)


def test_a_prompt_without_things_is_said_to_have_none() -> None:
    assert "no thing that could be missing" in planning.card(Pilot().plan("beautiful"), 9)


def test_hostile_words_are_text() -> None:
    evil = 'a cat <script>alert(1)</script> and "><svg onload=x> dog without a <b>hat'
    plan = Pilot().plan(evil)
    plan = replace(plan, negative=evil, attempts=(Attempt(evil, plan.attempts[-1].plugins),))
    said = planning.card(plan, 1, evil)
    assert not any(tag in said for tag in ("<script", "<svg", "<b>"))


# ---- From strangers ------------------------------------------------------------------------------

PLAN = Pilot().plan("a cat and a dog")


def test_what_an_operator_opened_judges() -> None:
    own = "0.5*clip-score + 0.5*judge"
    limits = replace(LIMITS, verifiers=(own, *LIMITS.verifiers))
    data = {"prompt": "a cat and a dog", "auto": Pilot(verifier=own).to_json()}
    auto = setups.from_json(data, ("toybox",), limits).request.auto
    assert auto == Pilot(verifier=own)
    with pytest.raises(GuidanceError, match="choose one of them"):
        setups.from_json(data, ("toybox",))
    fields = PlanFields(limits)
    values = [one["value"] if isinstance(one, dict) else one
              for one in fields.fill(Request(PROMPT))]  # fmt: skip
    values[-1] = None  # nobody chose
    setup = fields.read(values, Setup("toybox", Request(PROMPT), (0,)))
    assert setup.request.auto == Pilot(verifier=own)
    assert f"by {own}" in str(planning.card(limits.pilot.plan(PROMPT), 9))
    assert "by CLIP score" in str(planning.card(LIMITS.pilot.plan(PROMPT), 9))


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"auto": {"budget": 0.5}}, "budget=0.5"),
        ({"auto": {"budget": "lots"}}, "not a number"),
        ({"auto": {"budget": None}}, "empty"),
        ({"auto": {"budget": 900}}, "take a smaller budget"),
        ({"auto": {"look_at": 2}}, "look_at=2"),
        ({"auto": {"enough": "1e999"}}, "out of range"),
        ({"auto": {"verifier": "clip-score(model=/etc/passwd)"}}, "choose one of them"),
        ({"auto": {"verifier": ["judge"]}}, "choose one of them"),
        ({"auto": {"hidden": 1}}, "no 'hidden'"),
        ({"auto": [1]}, "is not an autopilot"),
        ({"auto": {"budget": 2}, "plugins": ["syngen"]}, "chooses the methods itself"),
        ({"auto": PLAN.to_json(), "prompt": "a frog"}, "another prompt"),
        ({"auto": {**PLAN.to_json(), "attempts": []}}, "leave one in"),
        ({"auto": {**PLAN.to_json(), "attempts": 13 * [{"why": ""}]}}, "13 attempts"),
        ({"auto": {**PLAN.to_json(), "negative": "x" * 2000}}, "2000 characters"),
        (
            {"auto": {**PLAN.to_json(), "attempts": [
                {"plugins": [f"syngen:step_size={1 + k}" for k in range(7)]}]}},
            "7 methods are stacked",
        ),
        (
            {"auto": {**PLAN.to_json(), "attempts": [{"plugins": [
                {"plugin": "noise-query", "library": "/etc/passwd"}]}]}},
            "its host's to choose",
        ),
    ],
)  # fmt: skip
def test_what_strangers_may_not_fly(request_: dict[str, Any], sentence: str) -> None:
    data = {"prompt": "a cat and a dog", **request_}
    with pytest.raises(GuidanceError, match=sentence):
        setups.from_json(json.loads(json.dumps(data)), ("toybox",))


def test_the_command_flies_the_same() -> None:
    pilot = Setup("toybox", Request("a cat", auto=Pilot(3.0, enough=0.5)), (4,))
    command = copies.to_command(pilot)
    assert "--auto --budget 3.0 --enough 0.5" in command
    assert "--plan plan.json" not in command
    edited = Setup("toybox", Request("a cat and a dog", auto=PLAN), (4,))
    assert "--plan plan.json" in copies.to_command(edited)
    assert "a cat" not in copies.to_command(edited)  # the plan has its prompt


def test_a_set_up_is_shown_where_all_of_it_can_be() -> None:
    boards = dict.fromkeys(("autopilot", "compose", "paint", "safety"))
    stack = plugins.stack("safe-latent-diffusion")
    laid = Request("a cat", layout=composed("a cat"), plugins=plugins.stack("zestguide"))
    for request, asked_for, board in (
        (Request("a cat", auto=Pilot()), "", "autopilot"),
        (Request("a cat", auto=Pilot()), "compose", "autopilot"),
        (Request("a cat", plugins=stack), "safety", "safety"),
        (Request("a cat", plugins=stack), "autopilot", "compose"),
        (Request("a cat", plugins=stack), "", "compose"),
        (Request("a cat", plugins=stack), "<script>", "compose"),
        (laid, "", "paint"),
    ):
        assert board_for(Setup("toybox", request, (0,)), boards, asked_for) == board


# ---- Its job -------------------------------------------------------------------------------------


def job(studio: FakeStudio, request: Request, stop: threading.Event | None = None) -> list[Any]:
    worker = Worker(("toybox",), lambda _: studio, FakeJudge)
    return list(worker.run(Setup("toybox", request, (0,)), stop or threading.Event()))


def test_tries_are_told_as_they_come_and_kept() -> None:
    request = Request(PROMPT, auto=Pilot(2.0))
    events = job(FakeStudio(pause=0.4), request)
    told = [one.tries for one in events if isinstance(one, Update) and one.tries is not None]
    assert told[0] == ()
    assert [len(one) for one in told] == sorted(len(one) for one in told)
    updates = [one for one in events if isinstance(one, Update)]
    assert any("Try 2, ZestGuide + SynGen" in one.stage for one in updates)
    assert all(0 <= one.share < 1 for one in updates)
    result = events[-1]
    assert isinstance(result, Result)
    assert result.complete
    pair = result.comparisons[0]
    assert pair.before is not None
    assert pair.before.picture.request == Request(PROMPT)
    chosen = pair.after.picture.report["autopilot"]["chosen"]
    kept = pair.after.tries[chosen]
    assert (kept.name, kept.finished, kept.score) == (
        "ZestGuide + SynGen",
        True,
        0.6,
    )
    assert all(one.image is not None for one in pair.after.tries)
    assert pair.after.picture.tries == ()  # full-sized pictures are not kept


def test_a_stopped_flight_leaves_the_model_within_a_pass() -> None:
    studio, stop = FakeStudio(), threading.Event()
    studio.held = 2
    worker = Worker(("toybox",), lambda _: studio, FakeJudge)
    events = worker.run(Setup("toybox", Request(PROMPT, auto=Pilot()), (0,)), stop)
    for event in events:
        if isinstance(event, Update) and event.tries:
            break
    stop.set()
    result = [one for one in events if isinstance(one, Result)][-1]
    assert result.stopped
    assert not result.comparisons
    assert studio.made <= 2


def test_its_history_says_who_chose() -> None:
    result = job(FakeStudio(), Request("a red cat", auto=Pilot(1.0)))[-1]
    kept: Any = type("Kept", (), {"result": result})
    assert caption(kept).startswith("Autopilot: a red cat")


def test_a_budget_that_is_no_budget_is_refused_before_the_model() -> None:
    with pytest.raises(ParameterError, match="budget=0"):
        setups.checked(Setup("toybox", Request("a cat", auto=Pilot(0.5)), (0,)), ("toybox",))

"""The first tab in a browser: a newcomer's two clicks, and everything that opens."""

from __future__ import annotations

import time
from typing import Any

import pytest

from adhere.app.jobs import copies
from adhere.app.jobs.methods import named
from adhere.app.jobs.setup import Setup
from adhere.app.parts import planning
from adhere.pipelines.search.plan import Pilot, Plan
from adhere.pipelines.studio.request import Request
from tests.app.conftest import Served
from tests.app.fakes import FakeStudio
from tests.app.test_browser import EVIL
from tests.app.test_panels import asked, is_open, open_menus, panels
from tests.app.visit import Visit, until
from tests.nightly import first_by_day

pytestmark = pytest.mark.browser

PROMPT = "a red cat left of a blue car without a hat"


@pytest.fixture
def flying(visit: Visit) -> Visit:
    """A visit to the first tab."""
    visit.tab("Autopilot")
    visit.page.wait_for_selector("#autopilot-plan dt")
    return visit


def planned(visit: Visit, text: str) -> None:
    """Wait until the plan says something."""
    visit.page.wait_for_function(
        "text => document.getElementById('autopilot-plan')?.innerText?.includes(text)", arg=text
    )


def change(visit: Visit, label: str, value: str) -> None:
    field = visit.page.get_by_label(label).locator("visible=true")
    field.fill(value)
    field.blur()


def test_a_newcomer_needs_one_click(visit: Visit) -> None:
    """From opening to a mended picture: the page opens on it, with a plan that is shown."""
    visit.arrive()
    page = visit.page
    page.wait_for_selector("#autopilot-plan:visible dt")
    page.click("#autopilot-go")
    visit.status("autopilot", "kept try 2 of")
    assert page.locator("#autopilot-slider img").count() == 2
    assert "all there" in page.inner_text("#autopilot-verdict")
    page.wait_for_selector("#autopilot-tried img")
    kept = page.locator("#autopilot-tried .caption-label", has_text="kept")
    assert kept.count() == 1
    picture, said = page.locator("#autopilot-tried img").nth(1).bounding_box(), kept.bounding_box()
    assert picture
    assert said
    assert said["y"] >= picture["y"] + picture["height"] - 1, "a caption hides its picture"
    again = Pilot().plan(page.input_value("#autopilot-prompt textarea, #autopilot-prompt input"))
    assert named(again.attempts[1].name) in kept.inner_text()


def test_a_slow_answer_about_fields_half_filled_is_not_the_last(
    flying: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fields of a new prompt change one after the other; the plan is told of all of them."""
    card = planning.card

    def slow(plan: Plan, *more: Any) -> Any:
        if any(attempt.why == "as chosen" for attempt in plan.attempts):
            time.sleep(1.0)
        return card(plan, *more)

    monkeypatch.setattr(planning, "card", slow)
    for prompt in ("a zebra and a frog", "a cat without a hat"):
        flying.fill("autopilot", prompt)
        planned(flying, prompt.split()[1])
        # On a slow machine the answers are late: the last one counts, and it stays.
        flying.page.wait_for_function(
            "() => !document.getElementById('autopilot-plan').innerText.includes('as chosen')"
        )
        flying.page.wait_for_timeout(2000)
        flying.page.wait_for_function(  # nothing is under way
            "() => !document.getElementById('autopilot-plan').innerText.includes('processing')"
        )
        assert "as chosen" not in flying.page.inner_text("#autopilot-plan")


def test_a_prompt_that_is_too_long_is_said_and_not_cut(flying: Visit) -> None:
    flying.fill("autopilot", "x" * 1001)
    planned(flying, "1001 characters")


def test_the_plan_follows_the_prompt_and_what_is_changed(flying: Visit, served: Served) -> None:
    page = flying.page
    flying.fill("autopilot", PROMPT)
    planned(flying, "blue car")
    for head in panels(flying):
        head.click()
        until(lambda head=head: is_open(head), "a panel does not open")
    open_menus(flying)
    assert asked(flying, served, "autopilot") == Request(PROMPT, auto=Pilot())
    change(flying, "Budget", "2")
    planned(flying, "2 plain pictures")
    page.locator("#autopilot-layout input").uncheck()
    page.wait_for_function(
        "() => !document.getElementById('autopilot-tries').innerText.includes('ZestGuide')"
    )
    flying.page.locator("#autopilot-unwanted textarea, #autopilot-unwanted input").fill("a dog")
    planned(flying, "a dog")
    request = asked(flying, served, "autopilot")
    assert isinstance(request.auto, Plan)
    names = [one.name for one in request.auto.attempts]
    assert names == ["plain", "syngen"]
    assert (request.auto.negative, request.auto.budget) == ("a dog", 2.0)
    flying.fill("autopilot", "a green frog and a lion")  # what was changed was of that prompt
    planned(flying, "green frog")
    assert asked(flying, served, "autopilot") == Request("a green frog and a lion", auto=Pilot(2.0))


def test_a_click_that_is_quicker_than_the_page_flies_the_prompt(
    flying: Visit, served: Served
) -> None:
    box = flying.page.locator("#autopilot-prompt textarea, #autopilot-prompt input")
    box.fill("a lion without a crown")
    box.press("Enter")
    flying.status("autopilot", "Done")
    assert served.studio.asked[-1] == Request("a lion without a crown", auto=Pilot())


@pytest.mark.parametrize(
    ("prompt", "budget", "sentence"),
    first_by_day(
        [
            ("a cat", "0.5", "udget=0.5 is out of range"),
            ("beautiful", "1", "Done"),
            ("", "8", "rite what it should show"),
            ("a cat", "9" * 400, f"udget={'9' * 40} is out of range"),
            ("a cat", "800", "take a smaller budget"),
        ],
        2,
    ),
)
def test_bad_input_is_a_sentence_in_plan_and_status(
    flying: Visit, prompt: str, budget: str, sentence: str
) -> None:
    flying.page.get_by_role("button", name="Change the plan").click()
    change(flying, "Budget", budget)
    flying.fill("autopilot", prompt)
    planned(flying, "no thing that could be missing" if sentence == "Done" else sentence)
    flying.generate("autopilot", sentence)
    assert flying.page.is_enabled("#autopilot-go")


def test_stop_and_a_second_click(flying: Visit, held: FakeStudio) -> None:
    page = flying.page
    # A prompt of its own: the plain picture of another test's would not be made again.
    flying.fill("autopilot", "a yellow dog left of a green frog")
    planned(flying, "green frog")
    held.held = held.made + 3  # the plain one and two looks are made, the second of which goes on
    heard = held.interrupted
    page.click("#autopilot-go")
    page.wait_for_selector("#autopilot-tried img")
    flying.status("autopilot", "Finishing try 2")
    page.click("#autopilot-stop")
    flying.status("autopilot", "Stopped within a pass")
    assert held.interrupted == heard + 1
    assert page.locator("#autopilot-tried img").count() >= 1  # what was seen stays
    held.held = None
    flying.generate("autopilot")


@pytest.mark.slow
def test_a_link_restores_an_edited_plan_and_history_takes_it_up(
    flying: Visit, served: Served
) -> None:
    plan = Pilot(2.0, enough=0.3).plan(PROMPT)
    edited = Plan(plan.prompt, plan.attempts[2:0:-1], plan.layout, "a dog", budget=2.0)
    request = Request(PROMPT, seed=4, negative_prompt="", auto=edited)
    flying.open(copies.to_link(Setup("toybox", request, (4,))))  # without a tab: its own
    flying.status("autopilot", "settings are in place")
    planned(flying, "a dog")
    assert asked(flying, served, "autopilot") == request
    flying.fill("autopilot", "a lion")
    planned(flying, "lion")
    flying.tab("History")
    flying.page.locator("#history-made .thumbnail-item").first.click()
    flying.page.wait_for_selector("#history-slider img")
    flying.page.wait_for_function("() => !document.querySelector('#history-again').disabled")
    flying.page.click("#history-again")
    flying.page.wait_for_selector("#autopilot-prompt:visible")
    planned(flying, "a dog")
    assert asked(flying, served, "autopilot") == request


@pytest.mark.slow
def test_hostile_words_are_texts(flying: Visit) -> None:
    plan = Pilot().plan(EVIL)
    request = Request(EVIL, auto=Plan(plan.prompt, plan.attempts, negative=EVIL, budget=1.0))
    flying.open(f"{copies.to_link(Setup('toybox', request, (0,)))}&tab=autopilot")
    flying.status("autopilot", "settings are in place")
    flying.generate("autopilot")
    time.sleep(0.3)
    assert flying.page.evaluate("() => window.hacked") is None


def test_regions_are_laid_out_by_the_prompts_words_and_back(visit: Visit) -> None:
    visit.tab("Layout")
    page = visit.page
    visit.fill("paint", "a green dog to the right of a yellow frog")
    page.wait_for_selector("#paint-editor .region:has-text('yellow frog')")
    states = page.locator("#paint-editor .region .state")
    before = states.all_inner_texts().count("box")  # of the example that the page opens with
    page.click("#paint-lay")
    visit.status("paint", "Laid out")
    until(lambda: states.all_inner_texts().count("box") >= before + 2, "nothing has a place")
    page.locator("#paint-editor .pick", has_text="green dog").click()
    assert float(page.locator("#paint-editor [data-part=left]").input_value()) >= 50
    page.locator("#paint-editor [data-part=undo]").click()
    until(lambda: states.all_inner_texts().count("box") == before, "undo does not bring it back")

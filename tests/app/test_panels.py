"""Opening something changes nothing: every panel, menu and tab, and what is asked afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from adhere import plugins
from adhere.app.jobs import copies, methods
from adhere.app.jobs.setup import Setup
from adhere.app.parts import controls, examples
from adhere.layout.layout import Layout, Region
from adhere.pipelines.studio.request import Request
from tests.app.conftest import Served
from tests.app.visit import TABS, Visit, until
from tests.nightly import first_by_day

pytestmark = pytest.mark.browser

PROMPT = "a red cat and a blue car"
LAYOUT = Layout(
    (
        Region(
            "blue car", (0.5, 0.2, 1.0, 0.9), text="a blue car, parked", strength=0.4, start=0.1
        ),
        Region("red cat", polygon=((0.1, 0.2), (0.5, 0.2), (0.1, 0.9)), negative="a dog", stop=0.7),
        Region(text="a green hill", box=(0.0, 0.8, 1.0, 1.0), feather=0.123456),
    ),
    overlap="share",
    base=0.25,
)
FREE = [n for n, kind in methods.offered().items() if not methods.has_layout(kind)]
FOLLOWERS = [n for n in methods.offered() if n not in FREE]
SAFE = [n for n, kind in plugins.PLUGINS.items() if controls.parameter_named(kind, "concept")]


def some(tab: str, names: Sequence[str], by_day: int = 1) -> list[Any]:
    """Five methods at a time."""
    return first_by_day(((tab, names[k : k + 5]) for k in range(0, len(names), 5)), by_day)


STACKS = [*some("compose", FREE), *some("paint", FOLLOWERS, 0), *some("safety", SAFE, 0)]


def meant(tab: str, names: Sequence[str]) -> Setup:
    request = Request(
        prompt=PROMPT,
        seed=5,
        plugins=tuple(plugins.plugin(name) for name in names),
        layout=LAYOUT if tab == "paint" else None,
    )
    return Setup("toybox", request, (5,))


@pytest.fixture
def visit(visit: Visit, served: Served) -> Iterator[Visit]:
    """A visit to an app that draws at once."""
    pause, served.studio.pause = served.studio.pause, 0.0
    yield visit
    served.studio.pause = pause


def asked(visit: Visit, served: Served, tab: str) -> Request:
    """What the model is asked for when Generate is pressed now."""
    before = len(served.studio.asked)
    visit.generate(tab)
    until(lambda: len(served.studio.asked) > before, "nothing was asked of the model")
    return served.studio.asked[-1]


def panels(visit: Visit) -> list[Any]:
    """The heads of all folded panels in sight."""
    heads = visit.page.locator(".tabitem .label-wrap, .tabitem summary")
    return [heads.nth(k) for k in range(heads.count()) if heads.nth(k).is_visible()]


def is_open(head: Any) -> bool:
    """Whether a panel is unfolded, Gradio's or the layout editor's."""
    unfolded = "one => one.classList.contains('open') || one.parentElement.open === true"
    return bool(head.evaluate(unfolded))


def walk_through_regions(visit: Visit) -> None:
    """Choose each region and Tab through its fields."""
    for chip in visit.page.locator("#paint-editor .pick").all():
        chip.click()
        visit.page.locator("#paint-editor [data-own=text]").focus()
        for _ in range(8):
            visit.page.keyboard.press("Tab")


def open_menus(visit: Visit) -> None:
    """Open every menu in sight and leave it without a choice."""
    menus = visit.page.locator(".tabitem input[role=listbox]")
    for k in range(menus.count()):
        if menus.nth(k).is_visible() and menus.nth(k).is_enabled():
            menus.nth(k).click()
            visit.page.keyboard.press("Escape")


@pytest.mark.parametrize(("tab", "names"), STACKS, ids=lambda value: str(value)[:60])
def test_opening_a_panel_changes_nothing(
    visit: Visit, served: Served, tab: str, names: Sequence[str]
) -> None:
    setup = meant(tab, names)
    visit.open(f"{copies.to_link(setup)}&tab={tab}")
    visit.status(tab, "settings are in place")
    visit.page.locator(f"#{tab}-compare input").uncheck()
    assert asked(visit, served, tab) == setup.request
    opened = panels(visit)
    assert len(opened) >= len(names) + 1
    for head in opened:
        head.click()
        until(lambda head=head: is_open(head), "a panel does not open")
        assert asked(visit, served, tab) == setup.request, head.inner_text()
    open_menus(visit)
    if tab == "paint":
        walk_through_regions(visit)
    assert asked(visit, served, tab) == setup.request
    for name in ("Attention", "History", *TABS.values(), TABS[tab]):
        visit.tab(name)
    assert asked(visit, served, tab) == setup.request


@pytest.mark.parametrize("tab", first_by_day(TABS))
def test_the_page_opens_with_its_first_example_whole(
    visit: Visit, served: Served, tab: str
) -> None:
    """With the step sizes and boxes of the example whose prompt it shows; panels open or not."""
    first = examples.load(("toybox",), tab)[0].setup
    visit.tab(TABS[tab])
    visit.page.locator(f"#{tab}-compare input").uncheck()
    for head in panels(visit):
        head.click()
    request = asked(visit, served, tab)
    assert replace(request, seed=0) == replace(first.request, seed=0)
    assert served.studio.asked[-1].plugins == first.request.plugins


def test_numbers_that_are_left_out_can_be_given_and_taken_back(
    visit: Visit, served: Served
) -> None:
    page = visit.page
    head = page.get_by_role("button", name="Picture settings").first
    head.click()
    until(lambda: is_open(head), "the panel does not open")
    # Its fields are drawn now; nobody types before they are.
    page.evaluate("() => new Promise((on) => requestAnimationFrame(() => setTimeout(on, 200)))")
    steps = page.get_by_label("Steps").locator("visible=true").first
    steps.fill("12")
    assert asked(visit, served, "compose").steps == 12
    steps.fill("")
    assert asked(visit, served, "compose").steps is None
    steps.fill("many")
    visit.generate("compose", "not a number")

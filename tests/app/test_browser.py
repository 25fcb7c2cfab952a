"""The page in a real browser: what a person does on it, and that nothing complains meanwhile."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.app.conftest import Served
from tests.app.fakes import FakeStudio

pytestmark = pytest.mark.browser

EVIL = 'a cat <img src=x onerror="window.hacked=1"> <script>window.hacked=2</script>'


class Visit:
    """One person's browser: `page`, and everything that went wrong in it."""

    def __init__(self, chromium: Any, url: str, **options: Any) -> None:
        self.context = chromium.new_context(viewport={"width": 1280, "height": 900}, **options)
        self.page = self.context.new_page()
        self.trouble: list[str] = []
        self.leaving = False
        self.home = url
        page = self.page
        page.set_default_timeout(60_000)
        page.on("console", lambda m: m.type == "error" and self.trouble.append(m.text))
        page.on("pageerror", lambda e: self.trouble.append(str(e)))
        page.on("response", self._answered)
        page.on("requestfailed", self._failed)
        page.on("request", self._requested)
        self.open()

    def open(self, query: str = "") -> None:
        self.leaving = True
        self.page.goto(self.home + query)
        self.leaving = False
        # Set once all its events are bound: from then on the page listens.
        self.page.wait_for_selector("body[data-adhere=ready]")
        self.page.wait_for_selector("#compose-words .token")

    def close(self) -> None:
        self.leaving = True
        self.context.close()

    def _answered(self, response: Any) -> None:
        if response.status >= 400:
            self.trouble.append(f"{response.status} {response.url}")

    def _failed(self, request: Any) -> None:
        # The event stream ends when its last event has come, and what still loads when the page is
        # left ends with it: the browser calls that aborted.
        stream = "queue/data" in request.url or "heartbeat" in request.url
        if request.failure != "net::ERR_ABORTED" or not (stream or self.leaving):
            self.trouble.append(f"failed: {request.url}: {request.failure}")

    def _requested(self, request: Any) -> None:
        if not request.url.startswith((self.home, "data:", "blob:")):
            self.trouble.append(f"left the machine: {request.url}")

    def status(self, tab: str, text: str) -> None:
        self.page.wait_for_function(
            "([id, text]) => document.getElementById(id).innerText.includes(text)",
            arg=[f"{tab}-status", text],
        )

    def fill(self, tab: str, prompt: str) -> None:
        box = self.page.locator(f"#{tab}-prompt textarea")
        box.fill(prompt)
        box.blur()

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def role(self, word: str) -> str:
        token = self.page.locator("#compose-words .token", has_text=word).first
        return re.sub(r"\s+", " ", token.inner_text()).strip().lower()


@pytest.fixture
def visit(chromium: Any, served: Served) -> Iterator[Visit]:
    visit = Visit(chromium, served.url)
    yield visit
    visit.close()
    assert visit.trouble == []


def test_type_correct_generate_and_slide(visit: Visit) -> None:
    page = visit.page
    visit.fill("compose", "a red cat and a blue car")
    page.wait_for_selector("#compose-words .token:has-text('blue')")
    assert "subject 1" in visit.role("cat")
    page.locator("#compose-words .token", has_text="red").first.click()
    page.wait_for_function(
        "() => !document.querySelector('#compose-words').innerText.toLowerCase()"
        ".includes('describes 1')"
    )
    page.click("#compose-go")
    visit.status("compose", "Done")
    assert page.locator("#compose-slider img").count() == 2
    assert "all there" in page.inner_text("#compose-verdict")
    page.get_by_role("button", name="Copy these settings").click()
    page.get_by_role("tab", name="JSON").click()
    assert "a red [cat] and a [blue|car]" in page.inner_text(".cm-content")
    handle = page.locator("#compose-slider .inner, #compose-slider .handle").first
    box = handle.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    moved = handle.bounding_box()
    assert moved
    assert moved["x"] > box["x"] + 60


def test_another_seed_is_looked_at(visit: Visit) -> None:
    page = visit.page
    page.click("#compose-go")
    visit.status("compose", "Done")
    page.locator("#compose-gallery .thumbnail-item").nth(2).click()
    page.wait_for_function("() => document.body.innerText.includes('seed 2: drag')")


def test_keyboard_reaches_words_and_generate(visit: Visit) -> None:
    page = visit.page
    page.locator("#compose-prompt textarea").focus()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("() => document.activeElement.closest('[id]')?.id || ''"))
        if "compose-go" in reached:
            break
    assert {"compose-words", "compose-go"} <= reached


def test_paint_two_layers_and_generate(visit: Visit) -> None:
    page = visit.page
    visit.tab("Paint a layout")
    page.wait_for_selector("#paint-canvas canvas")
    visit.fill("paint", "a red cat and a green car")
    page.wait_for_function(
        "() => document.querySelector('#paint-phrases textarea, #paint-phrases input').value"
        " === 'red cat, green car'"
    )
    time.sleep(1.0)
    _stroke(page, -120, -60)
    page.locator("#paint-canvas button", has_text="red cat").first.click()
    page.locator("#paint-canvas button", has_text="green car").first.click()
    time.sleep(0.5)
    _stroke(page, 60, 120)
    time.sleep(0.5)
    page.click("#paint-go")
    visit.status("paint", "Done")
    page.wait_for_selector("#paint-asked img")
    asked = page.inner_text("#paint-asked")
    assert "red cat" in asked
    assert "green car" in asked
    assert "mIoU" in page.inner_text("body")
    assert page.locator("#paint-attention img").count() == 2


def _stroke(page: Any, left: int, right: int) -> None:
    """Paint a thick line from `left` to `right` of the canvas's middle."""
    box = page.locator("#paint-canvas canvas").first.bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x + left, y - 40)
    page.mouse.down()
    for k in range(1, 6):
        page.mouse.move(x + left + (right - left) * k / 5, y - 40 + 16 * k)
    page.mouse.up()


def test_nothing_painted_says_what_to_do(visit: Visit) -> None:
    visit.tab("Paint a layout")
    visit.page.click("#paint-go")
    visit.status("paint", "Nothing has a place yet")
    assert visit.page.is_enabled("#paint-go")


def test_stop_half_way(visit: Visit, slowly: FakeStudio) -> None:
    page = visit.page
    page.click("#compose-go")
    visit.status("compose", " · step ")
    before = slowly.step_calls
    page.click("#compose-stop")
    visit.status("compose", "Stopped within a step")
    assert slowly.step_calls - before <= 4
    page.wait_for_function("() => !document.querySelector('#compose-go').disabled")
    slowly.pause = 0.01
    page.click("#compose-go")
    visit.status("compose", "Done")


def test_link_restores_the_set_up(visit: Visit) -> None:
    page = visit.page
    visit.fill("compose", "a frog and a lion")
    page.get_by_label("Seeds").first.fill("7, 9")
    page.click("#compose-go")
    visit.status("compose", "Done")
    page.get_by_role("button", name="Copy these settings").click()
    link = page.locator("#compose-link textarea").input_value()
    assert link.startswith(visit.home + "?setup=")
    visit.open(link.removeprefix(visit.home))
    visit.status("compose", "settings are in place")
    assert page.locator("#compose-prompt textarea").input_value() == "a frog and a lion"
    assert page.get_by_label("Seeds").first.input_value() == "7, 9"
    page.click("#compose-go")
    visit.status("compose", "Done")


def test_broken_link_says_so(visit: Visit) -> None:
    visit.open("?setup=nonsense")
    visit.status("compose", "broken")


def test_attention_follows_the_session(visit: Visit) -> None:
    page = visit.page
    page.click("#compose-go")
    visit.status("compose", "Done")
    visit.tab("Attention")
    page.wait_for_selector("#explore-guided img")
    page.wait_for_selector("#explore-words img")
    first = page.locator("#explore-guided img").get_attribute("src")
    page.click("#explore-play")
    page.wait_for_function(
        "(old) => document.querySelector('#explore-guided img').src !== old", arg=first
    )
    page.click("#explore-play")


def test_history_brings_a_set_up_back(visit: Visit) -> None:
    page = visit.page
    visit.fill("compose", "a bird and a crown")
    page.click("#compose-go")
    visit.status("compose", "Done")
    visit.fill("compose", "a lion")
    visit.tab("History")
    page.locator("#history-made .thumbnail-item").first.click()
    page.wait_for_selector("#history-slider img")
    page.wait_for_function("() => !document.querySelector('#history-again').disabled")
    page.click("#history-again")
    page.wait_for_selector("#compose-prompt textarea", state="visible")
    page.wait_for_function(
        "() => document.querySelector('#compose-prompt textarea').value === 'a bird and a crown'"
    )


def test_safety_shows_what_changed(visit: Visit) -> None:
    page = visit.page
    visit.tab("Safety")
    page.get_by_role("button", name=re.compile("^Unwanted:")).click()
    visit.status("safety", "Done")
    page.wait_for_selector("#safety-changes img")
    assert "unwanted" in page.inner_text("#safety-counts")


def test_texts_are_texts(visit: Visit) -> None:
    page = visit.page
    visit.fill("compose", EVIL)
    page.click("#compose-go")
    visit.status("compose", "Done")
    visit.tab("History")
    page.wait_for_selector("#history-made img")
    visit.tab("Attention")
    page.wait_for_selector("#explore-words img")
    assert page.evaluate("() => window.hacked") is None


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (360, "dark"),
        pytest.param(360, "light", marks=pytest.mark.slow),
        pytest.param(1280, "dark", marks=pytest.mark.slow),
        pytest.param(1280, "light", marks=pytest.mark.slow),
    ],
)
def test_no_tab_is_wider_than_the_screen(
    chromium: Any, served: Served, width: int, scheme: str
) -> None:
    visit = Visit(chromium, served.url, color_scheme=scheme)
    page = visit.page
    page.set_viewport_size({"width": width, "height": 800})
    page.click("#compose-go")
    visit.status("compose", "Done")
    for name in ("Compose", "Paint a layout", "Attention", "Safety", "History"):
        tab = page.get_by_role("tab", name=name, exact=True)
        if not tab.first.is_visible():
            page.locator(".overflow-menu button").first.click()
            page.locator(".overflow-dropdown button", has_text=name).first.click()
        else:
            tab.first.click()
        time.sleep(0.3)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width, name
    visit.close()
    assert visit.trouble == []


def test_a_visitor_who_leaves_stops_the_model(
    chromium: Any, served: Served, slowly: FakeStudio
) -> None:
    visit = Visit(chromium, served.url)
    visit.page.click("#compose-go")
    visit.status("compose", " · step ")
    visit.close()
    deadline = time.monotonic() + 15
    calls = -1
    while calls != slowly.step_calls and time.monotonic() < deadline:
        calls = slowly.step_calls
        time.sleep(1.0)
    assert calls == slowly.step_calls
    assert calls % slowly.steps != 0, "the model ran to its end for nobody"

"""The page in a real browser: what a person does on it, and that nothing complains meanwhile."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image, ImageChops

from adhere import plugins
from adhere.app.jobs import copies, figures
from adhere.app.jobs.setup import Setup
from adhere.app.outcome.sessions import Cancellations
from adhere.layout.layout import Layout, Region
from adhere.pipelines.studio.request import Request
from adhere.plugins.safe.safe_latent_diffusion import PRESETS, SafeLatentDiffusion
from tests.app.conftest import Served
from tests.app.fakes import FakeStudio, draw
from tests.app.visit import TABS, Visit, until
from tests.nightly import first_by_day

pytestmark = pytest.mark.browser

EVIL = (
    'a cat <img src=x onerror="window.hacked=1"> <script>window.hacked=2</script> '
    '"><svg onload=window.hacked=3> {{window.hacked=4}} ${window.hacked=5} %(x)s \u202egnp.x'
)


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
    page.wait_for_selector(".cm-content:visible")
    assert "a red [cat] and a [blue|car]" in page.inner_text(".cm-content")
    handle = page.locator("#compose-slider .inner, #compose-slider .handle").first
    # Copying has scrolled the page, and the bar at its foot covers what lies below.
    page.evaluate("() => document.querySelector('#compose-slider').scrollIntoView()")
    box = handle.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    moved = handle.bounding_box()
    assert moved
    assert moved["x"] > box["x"] + 60


def test_before_and_after_have_a_keyboard(visit: Visit) -> None:
    page = visit.page
    visit.generate("compose")
    handle = page.get_by_role("slider", name="before, in percent").locator("visible=true")

    def place() -> float:
        box = handle.bounding_box()
        assert box
        return float(box["x"])

    def moved(key: str, there: Callable[[], bool]) -> bool:
        """Whether it has come there; the pair may have been drawn anew since the last key."""
        handle.focus()
        page.keyboard.press(key)
        return there()

    middle = place()
    until(lambda: moved("ArrowRight", lambda: place() > middle + 10), "the arrow does nothing")
    until(lambda: moved("Home", lambda: place() < middle - 60), "Home does nothing")
    until(lambda: int(handle.get_attribute("aria-valuenow") or 50) < 45, "the value is not told")

    def focused() -> bool:
        """Asked with the key: what ends a job gives the focus back to Generate, perhaps since."""
        handle.focus()
        return bool(page.evaluate("() => document.activeElement.getAttribute('role')") == "slider")

    until(focused, "it takes no focus")


def test_another_seed_is_looked_at(visit: Visit) -> None:
    page = visit.page
    page.click("#compose-go")
    visit.status("compose", "Done")
    page.locator("#compose-gallery .thumbnail-item").nth(2).click()
    page.wait_for_function("() => document.body.innerText.includes('seed 2: drag')")


def test_keyboard_reaches_words_and_generate(visit: Visit) -> None:
    page = visit.page
    page.locator("#compose-prompt textarea, #compose-prompt input").focus()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("() => document.activeElement.closest('[id]')?.id || ''"))
        if "compose-go" in reached:
            break
    assert {"compose-words", "compose-go"} <= reached


def places(visit: Visit) -> dict[str, str]:
    """Each region of the editor with what it has: a box, paint, nothing."""
    # At once: the list is drawn anew whenever anything changes.
    found = visit.page.locator("#paint-editor .region .pick").all_inner_texts()
    texts = [text.split("\n") for text in found]
    return {text[0].strip(): text[-1].strip() for text in texts}


def choose(visit: Visit, phrase: str) -> None:
    visit.page.locator("#paint-editor .pick", has_text=phrase).click()


def pull(visit: Visit, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag over the editor's canvas, in shares of it."""
    page = visit.page
    canvas = page.locator("#paint-editor canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box

    def at(place: tuple[float, float]) -> tuple[float, float]:
        return box["x"] + place[0] * box["width"], box["y"] + place[1] * box["height"]

    page.mouse.move(*at(start))
    page.mouse.down()
    page.mouse.move(*at(((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)))
    page.mouse.move(*at(end))
    page.mouse.up()


@pytest.fixture
def painting(visit: Visit) -> Visit:
    """The layout tab with an own prompt and nothing placed."""
    visit.tab("Layout")
    visit.page.wait_for_selector("#paint-editor canvas")
    for phrase in places(visit):  # what the example that the page opens with has placed
        visit.page.get_by_label(f"Remove {phrase}", exact=True).click()
    visit.fill("paint", "a red cat and a green car")
    until(
        lambda: list(places(visit)) == ["red cat", "green car"],
        "the editor did not follow the prompt",
    )
    return visit


def test_boxes_and_paint_are_one_layout(painting: Visit, served: Served) -> None:
    visit, page = painting, painting.page
    choose(visit, "red cat")
    pull(visit, (0.1, 0.2), (0.4, 0.8))
    choose(visit, "green car")
    page.locator("#paint-editor [data-part=brush]").click()
    pull(visit, (0.7, 0.3), (0.8, 0.7))
    assert places(visit) == {"red cat": "box", "green car": "painted"}
    visit.generate("paint")
    layout = served.studio.asked[-1].layout
    assert layout is not None
    masks = dict(zip(layout.phrases, layout.masks((10, 10)).numpy(), strict=True))
    assert masks["red cat"][5, 2] == 1
    assert masks["red cat"][5, 8] == 0
    assert masks["green car"][5, 7] > 0.5
    assert masks["green car"][5, 2] == 0
    assert "mIoU" in page.inner_text("#paint-score")
    assert page.locator("#paint-attention img").count() == 2


def test_what_is_painted_over_has_no_place(painting: Visit) -> None:
    visit, page = painting, painting.page
    choose(visit, "red cat")
    page.locator("#paint-editor [data-part=brush]").click()
    pull(visit, (0.30, 0.30), (0.34, 0.30))
    choose(visit, "green car")
    pull(visit, (0.15, 0.30), (0.50, 0.30))
    assert places(visit) == {"red cat": "no place yet", "green car": "painted"}
    page.locator("#paint-editor [data-part=undo]").click()
    assert places(visit)["red cat"] == "painted"


def test_what_is_drawn_outlives_other_words_and_undo_restores(painting: Visit) -> None:
    visit, page = painting, painting.page
    choose(visit, "red cat")
    page.locator("#paint-editor [data-part=brush]").click()
    pull(visit, (0.2, 0.2), (0.3, 0.6))
    choose(visit, "green car")
    page.locator("#paint-editor [data-part=box]").click()
    pull(visit, (0.5, 0.5), (0.9, 0.9))
    drawn = {"red cat": "painted", "green car": "box"}
    assert places(visit) == drawn
    visit.fill("paint", "a red cat and a green car and a dog")
    until(lambda: "dog" in places(visit), "the editor did not follow the prompt")
    assert places(visit) == {**drawn, "dog": "no place yet"}
    visit.fill("paint", "a green car")
    until(lambda: "not used" in places(visit)["red cat"], "a phrase that left is not marked")
    visit.fill("paint", "a red cat and a green car")
    until(lambda: places(visit) == drawn, "what was drawn is gone")
    choose(visit, "red cat")
    page.locator("#paint-editor [data-part=clear]").click()
    assert places(visit)["red cat"] == "no place yet"
    page.locator("#paint-editor [data-part=undo]").click()
    assert places(visit) == drawn
    page.locator("#paint-editor [data-part=redo]").click()
    assert places(visit)["red cat"] == "no place yet"


def test_the_list_says_what_the_prompt_has_by_whole_words(painting: Visit, served: Served) -> None:
    visit = painting
    choose(visit, "red cat")
    pull(visit, (0.1, 0.2), (0.4, 0.8))
    visit.fill("paint", "a red cat and a red cat")
    until(lambda: "red cat#2" in places(visit), "the editor did not follow the prompt")
    choose(visit, "red cat#2")
    pull(visit, (0.6, 0.2), (0.9, 0.8))
    for prompt, used in {
        "a [red|cat]": ["red cat"],
        "infrared cats": [],
        "猫red cat猫": ["red cat"],
        "a red  Cat, red cat": ["red cat", "red cat#2"],
    }.items():
        visit.fill("paint", prompt)
        visit.generate("paint", "Done" if used else "none of the phrases")
        drawn = {name: place for name, place in places(visit).items() if place != "no place yet"}
        assert [name for name, place in drawn.items() if "not used" not in place] == used
        layout = served.studio.asked[-1].layout
        assert layout is not None
        assert not used or list(layout.phrases) == used


def test_removing_and_undoing_leave_the_choice_where_it_was(painting: Visit) -> None:
    visit, page = painting, painting.page
    choose(visit, "green car")
    page.get_by_label("Remove red cat", exact=True).click()
    pull(visit, (0.5, 0.5), (0.9, 0.9))
    assert places(visit) == {"green car": "box"}
    page.locator("#paint-editor [data-part=undo]").click(click_count=2)
    assert places(visit) == {"red cat": "no place yet", "green car": "no place yet"}
    assert "green car" in page.inner_text("#paint-editor .region.chosen")


def test_an_edge_that_is_no_number_is_said_and_not_kept(painting: Visit) -> None:
    visit, page = painting, painting.page
    choose(visit, "red cat")
    pull(visit, (0.2, 0.2), (0.4, 0.4))
    left = page.locator("#paint-editor [data-part=left]")
    was = left.input_value()
    for typed, said in (("abc", "a number from 0 to 100"), ("", "")):
        left.fill(typed)
        left.blur()
        assert said in page.inner_text("#paint-editor [data-part=said]")
        assert left.input_value() == was
    left.fill("10,5")
    left.blur()
    assert left.input_value() == "10.5"


def test_what_the_toybox_knows_is_said_of_the_toybox_alone(visit: Visit) -> None:
    page, note = visit.page, "#compose-note:visible"
    visit.fill("compose", "a red zebra and a car")
    page.wait_for_selector(note)
    page.locator("#compose-words .token", has_text="red").first.click()
    until(lambda: visit.role("red") == "red", "a click takes no role away")
    page.locator("button:visible", has_text="Picture settings").click()
    for model, shown in (("other", "detached"), ("toybox", "visible")):
        field = page.get_by_label("Model", exact=True).locator("visible=true")
        field.click()
        field.fill(model)
        field.press("Enter")
        page.wait_for_selector(note, state=shown)
        assert visit.role("red") == "red"


def test_boxes_move_are_resized_and_typed(painting: Visit, served: Served) -> None:
    visit, page = painting, painting.page
    choose(visit, "red cat")
    pull(visit, (0.2, 0.2), (0.4, 0.4))
    pull(visit, (0.3, 0.3), (0.5, 0.5))
    fields = [page.locator(f"#paint-editor [data-part={side}]") for side in
              ("left", "top", "right", "bottom")]  # fmt: skip
    moved = [float(field.input_value()) for field in fields]
    assert moved == pytest.approx([40, 40, 60, 60], abs=3)
    pull(visit, (0.6, 0.6), (0.8, 0.9))
    assert float(fields[3].input_value()) == pytest.approx(90, abs=3)
    fields[0].fill("10")
    fields[0].press("Tab")
    page.locator("#paint-editor canvas").focus()
    page.keyboard.press("ArrowDown")
    visit.generate("paint")
    layout = served.studio.asked[-1].layout
    assert layout is not None
    assert layout.regions[0].box is not None
    assert layout.regions[0].box[0] == pytest.approx(0.1)
    assert layout.regions[0].box[1] == pytest.approx(0.42, abs=0.03)


def field_of(visit: Visit, name: str) -> Any:
    """A field of the chosen region, or of the whole layout."""
    return visit.page.locator(f"#paint-editor :is([data-own={name}], [data-whole={name}])")


def details(visit: Visit, **given: str) -> None:
    """Write into the fields of the chosen region, which are unfolded first if they are not."""
    page = visit.page
    if not page.is_visible("#paint-editor [data-own=text]"):
        page.click("#paint-editor summary")
    for name, value in given.items():
        field_of(visit, name).fill(value)
        field_of(visit, name).blur()


def asked_for(visit: Visit, served: Served) -> Layout:
    """The layout that the model is asked to follow when Generate is pressed now."""
    before = len(served.studio.asked)
    visit.generate("paint")
    assert len(served.studio.asked) > before
    layout = served.studio.asked[-1].layout
    assert layout is not None
    return layout


@pytest.fixture
def told(painting: Visit) -> Visit:
    """Two regions, one painted, both with all that a region can say, and a third in words alone."""
    page = painting.page
    choose(painting, "red cat")
    pull(painting, (0.1, 0.2), (0.4, 0.5))
    details(painting, text="a red cat, sitting", negative="a dog", strength="0.5", feather="0.1")
    choose(painting, "green car")
    page.click("#paint-editor [data-part=brush]")
    pull(painting, (0.7, 0.3), (0.8, 0.7))
    page.click("#paint-editor [data-part=box]")
    details(painting, start="0,2", stop="0.8", lora="ink", base="0.3")
    page.locator("#paint-editor [data-whole=overlap]").select_option("share")
    another = page.get_by_label("Another region")
    another.fill("a blue hill")
    another.press("Enter")
    pull(painting, (0.1, 0.8), (0.9, 0.95))
    return painting


@pytest.mark.slow
def test_what_regions_say_is_asked_for_and_outlives_everything(told: Visit, served: Served) -> None:
    visit, page = told, told.page
    first = asked_for(visit, served)
    cat, car, hill = first.regions
    assert (first.overlap, first.base) == ("share", 0.3)
    assert (cat.text, cat.negative, cat.strength) == ("a red cat, sitting", "a dog", 0.5)
    assert (cat.feather, car.start, car.stop, car.text) == (0.1, 0.2, 0.8, "")
    assert (cat.lora, car.lora) == ("", "ink")
    assert (hill.phrase, hill.text) == ("", "a blue hill")
    assert places(visit)["red cat"] == "box, 4 details"
    with page.expect_download() as picture:
        page.click("#paint-file")
    page.get_by_role("button", name="Copy these settings").locator("visible=true").click()
    link = page.locator("#paint-link textarea").input_value()
    page.get_by_role("tab", name="Command line").locator("visible=true").click()
    with page.expect_download() as file:
        page.get_by_role("button", name="layout.json").locator("visible=true").click()
    files = {name: got.value.path().read_bytes() for name, got in
             {"picture.png": picture, "layout.json": file}.items()}  # fmt: skip

    visit.fill("paint", "a red cat and a green car and a dog")
    until(lambda: "dog" in places(visit), "the editor did not follow the prompt")
    visit.tab("Compose")
    visit.tab("Layout")
    assert asked_for(visit, served) == first
    page.get_by_label("Remove a blue hill").click()
    choose(visit, "red cat")
    details(visit, strength="2", text="")
    for _ in range(3):
        page.click("#paint-editor [data-part=undo]")
    assert asked_for(visit, served) == first

    visit.open(link.removeprefix(visit.home))
    visit.status("paint", "settings are in place")
    assert asked_for(visit, served) == first
    visit.open()
    visit.tab("Layout")
    visit.fill("paint", "a red cat and a green car")
    page.get_by_role("button", name="From a file").click()
    put_in(visit, "#paint-layout-file", "layout.json", files)
    page.wait_for_selector("#paint-put-in:visible")
    page.click("#paint-put-in")
    visit.status("paint", "regions are in the editor")
    assert asked_for(visit, served) == first
    visit.open()
    visit.tab("History")
    put_in(visit, "#history-file", "picture.png", files)
    page.wait_for_selector("#paint-go:visible")
    until(lambda: "a blue hill" in places(visit), "the layout did not come back")
    assert asked_for(visit, served) == first


def put_in(visit: Visit, part: str, name: str, files: dict[str, bytes]) -> None:
    """Send a file in, and wait until it is shown as sent."""
    visit.page.set_input_files(f"{part} input[type=file]", {
        "name": name, "mimeType": "application/octet-stream", "buffer": files[name]
    })  # fmt: skip


ODD = [
    ({"strength": "-1"}, "strength of 'red cat' is -1"),
    ({"strength": "1e999"}, "strength of 'red cat' is '1e999'"),
    ({"start": "0.9", "stop": "0.4"}, "must start before it stops"),
    ({"feather": "soft"}, "feather of 'red cat' is 'soft'"),
    ({"base": "7"}, "Base=7"),
]


@pytest.mark.slow
def test_odd_details_are_said_and_kept(painting: Visit, served: Served) -> None:
    visit, page = painting, painting.page
    choose(visit, "red cat")
    pull(visit, (0.1, 0.2), (0.4, 0.8))
    said = page.locator("#paint-editor [data-part=said]")
    for given, sentence in ODD:
        details(visit, **given)
        assert said.inner_text(), given
        visit.generate("paint", sentence)
        visit.tab("Compose")
        visit.tab("Layout")
        for name, value in given.items():
            assert field_of(visit, name).get_attribute("aria-invalid") == "true", given
            assert field_of(visit, name).input_value() == value
        details(visit, **dict.fromkeys(given, ""))
        assert not said.inner_text(), given
    details(visit, text=EVIL * 5, negative=EVIL)
    (region,) = asked_for(visit, served).regions
    assert region.own_words == ("text", "negative")
    assert (region.text.split(), region.negative.split()) == ((EVIL * 5).split(), EVIL.split())
    assert page.evaluate("() => window.hacked") is None


def test_clicks_that_leave_a_field_or_slip_lose_nothing(painting: Visit, served: Served) -> None:
    """Leaving a field takes its text, and must not draw anew what is being clicked."""
    visit, page = painting, painting.page
    choose(visit, "red cat")
    pull(visit, (0.1, 0.2), (0.4, 0.8))
    details(visit)
    page.locator("#paint-editor [data-own=text]").fill("a cat, sitting")
    choose(visit, "green car")
    pull(visit, (0.6, 0.2), (0.9, 0.8))
    pull(visit, (0.5, 0.1), (0.51, 0.11))
    assert places(visit) == {"red cat": "box, own text", "green car": "box"}
    page.locator("#paint-editor [data-own=negative]").fill("a cat")
    layout = asked_for(visit, served)
    assert [(one.phrase, one.text, one.negative) for one in layout.regions] == [
        ("red cat", "a cat, sitting", ""), ("green car", "", "a cat")
    ]  # fmt: skip


def test_nothing_placed_says_what_to_do(painting: Visit) -> None:
    painting.page.click("#paint-go")
    painting.status("paint", "Nothing has a place yet")
    assert painting.page.is_enabled("#paint-go")


@pytest.mark.parametrize("size", [(1366, 768), (390, 844), (683, 384)])
@pytest.mark.parametrize("tab", first_by_day(TABS))
def test_button_status_and_result_are_in_view(
    chromium: Any, served: Served, tab: str, size: tuple[int, int]
) -> None:
    """Also on half a screen, as a page zoomed to 200 % has it. Nobody scrolls here."""
    visit = Visit(chromium, served.url, viewport={"width": size[0], "height": size[1]})
    page = visit.page
    visit.tab(TABS[tab])
    for part in (f"#{tab}-go", f"#{tab}-status"):
        assert seen(page, part) == 1, part
    page.evaluate(f"() => document.querySelector('#{tab}-go').click()")
    visit.status(tab, "Done")
    page.wait_for_selector(f"#{tab}-slider img")
    until(lambda: seen(page, f"#{tab}-slider") > 0.5, "the result is not in view")
    for part in (f"#{tab}-go", f"#{tab}-status"):
        assert seen(page, part) == 1, part
    assert page.evaluate("() => document.documentElement.scrollWidth") <= size[0]
    visit.close()
    assert visit.trouble == []


def seen(page: Any, part: str) -> float:
    """How much of an element's height is in view, not under the bar at the foot."""
    shown: float = page.evaluate(
        """(part) => {
          const box = document.querySelector(part).getBoundingClientRect();
          const bars = [...document.querySelectorAll(".run")].filter((bar) => bar.offsetHeight);
          const inside = bars.some((bar) => bar.querySelector(part));
          const floor = inside || !bars.length ? innerHeight
            : Math.min(...bars.map((bar) => bar.getBoundingClientRect().top));
          const high = Math.min(box.bottom, floor) - Math.max(box.top, 0);
          return Math.round(100 * Math.max(0, high) / box.height) / 100;
        }""",
        part,
    )
    return shown


def test_the_plain_picture_is_there_while_the_guided_one_grows(
    visit: Visit, held: FakeStudio
) -> None:
    held.held = None
    visit.generate("compose")
    held.held = held.made + 1
    visit.fill("compose", "a green frog and a blue car")
    visit.page.click("#compose-go")
    visit.page.wait_for_function("() => document.body.innerText.includes('without guidance')")
    visit.page.wait_for_selector("#compose-slider img")
    assert not visit.page.is_visible("#compose-verdict")  # it was of the pair before
    held.held = None
    visit.status("compose", "Done")
    visit.page.wait_for_selector("#compose-verdict:visible")
    assert "without guidance" not in visit.page.inner_text("body")


def test_an_answer_to_stop_that_is_late_takes_nothing_back(
    visit: Visit, held: FakeStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Cancellations.stop

    def late(self: Cancellations, *which: Any) -> None:
        stop(self, *which)
        time.sleep(1.0)  # the job has ended and said so by then

    monkeypatch.setattr(Cancellations, "stop", late)
    visit.page.click("#compose-go")
    visit.status("compose", " · step ")
    with visit.page.expect_response(lambda response: "/run/" in response.url):
        visit.page.click("#compose-stop")
        visit.status("compose", "Stopped within a pass")
    visit.page.wait_for_timeout(300)
    assert "Stopped within a pass" in visit.page.inner_text("#compose-status")
    held.held = None
    visit.generate("compose")


def test_an_answer_to_stop_that_is_late_leaves_the_next_job_its_stop(
    visit: Visit, held: FakeStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, page, answered = Cancellations.stop, visit.page, threading.Event()

    def late(self: Cancellations, *which: Any) -> None:
        stop(self, *which)
        answered.wait(60)

    page.click("#compose-go")
    visit.status("compose", " · step ")
    with monkeypatch.context() as patch:
        patch.setattr(Cancellations, "stop", late)
        with page.expect_request(lambda request: "/run/" in request.url) as asked:
            page.click("#compose-stop")
        visit.status("compose", "Stopped within a pass")
        page.click("#compose-go:not([disabled])")
        visit.status("compose", " · step ")
        answered.set()
        asked.value.response().finished()
    page.wait_for_timeout(300)
    page.click("#compose-stop:not([disabled])")
    visit.status("compose", "Stopped within a pass")


@pytest.mark.parametrize("again", first_by_day(["Enter", "Enter after Enter", "an example"]))
def test_what_else_starts_a_job_leaves_the_running_one_its_stop(
    visit: Visit, held: FakeStudio, again: str
) -> None:
    page, heard = visit.page, held.interrupted
    prompt = page.locator("#compose-prompt textarea, #compose-prompt input")
    if again == "Enter after Enter":
        prompt.press("Enter")
    else:
        page.click("#compose-go")
    visit.status("compose", " · step ")
    asked = len(held.asked)
    if again == "an example":
        page.locator(".examples button:visible").last.click()
    else:
        prompt.press("Enter")
    page.get_by_text("Your pictures are being made").first.wait_for()
    page.click("#compose-stop:not([disabled])")
    visit.status("compose", "Stopped within a pass")
    page.wait_for_selector("#compose-go:not([disabled])")
    page.wait_for_timeout(300)
    assert (held.interrupted - heard, len(held.asked)) == (1, asked)
    held.held = None
    visit.generate("compose")


def test_stop_half_way(visit: Visit, held: FakeStudio) -> None:
    page = visit.page
    before, heard = held.step_calls, held.interrupted
    page.click("#compose-go")
    visit.status("compose", " · step ")
    page.click("#compose-stop")
    visit.status("compose", "Stopped within a pass")
    assert (held.step_calls - before, held.interrupted - heard) == (2, 1)
    page.wait_for_function("() => !document.querySelector('#compose-go').disabled")
    held.held = None
    page.click("#compose-go")
    visit.status("compose", "Done")


def test_the_settings_to_copy_are_the_latest_and_nothing_else_is_shown(visit: Visit) -> None:
    page = visit.page
    link = page.locator("#compose-link textarea")
    visit.generate("compose")
    page.get_by_role("button", name="Copy these settings").click()
    link.wait_for()
    first = link.input_value()
    visit.fill("compose", "a frog and a lion")
    visit.generate("compose")
    until(lambda: link.input_value() not in ("", first), "the link is of the pictures before")
    assert page.locator("#compose-query").is_hidden()


def test_link_restores_the_set_up(visit: Visit) -> None:
    page = visit.page
    visit.fill("compose", "a frog and a lion")
    page.get_by_label("Seeds").locator("visible=true").first.fill("7, 9")
    page.click("#compose-go")
    visit.status("compose", "Done")
    page.get_by_role("button", name="Copy these settings").click()
    link = page.locator("#compose-link textarea").input_value()
    assert link.startswith(visit.home + "?setup=")
    visit.open(link.removeprefix(visit.home))
    visit.status("compose", "settings are in place")
    assert (
        page.locator("#compose-prompt textarea, #compose-prompt input").input_value()
        == "a frog and a lion"
    )
    assert page.get_by_label("Seeds").locator("visible=true").first.input_value() == "7, 9"
    page.click("#compose-go")
    visit.status("compose", "Done")


def test_broken_link_says_so(visit: Visit) -> None:
    visit.open("?setup=nonsense")
    visit.status("autopilot", "broken")


def test_attention_by_step_by_word_and_saved(visit: Visit) -> None:
    page = visit.page
    visit.tab("Attention")
    assert page.is_disabled("#explore-save")  # there are no maps yet
    visit.tab("Compose")
    visit.generate("compose")
    visit.tab("Attention")
    page.wait_for_selector("#explore-maps img")
    assert page.locator("#explore-maps img").count() == 2

    def shown() -> list[str]:
        images = page.locator("#explore-maps img, #explore-words img")
        return [str(images.nth(k).get_attribute("src")) for k in range(images.count())]

    average = shown()
    number = page.locator("#explore-step input[type=number]")
    number.fill("3")
    until(lambda: not set(shown()) & set(average), "the step does nothing, or not to all words")
    third = shown()
    page.locator("#explore-step input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    until(lambda: not set(shown()) & set(third), "the slider has no keyboard")
    page.click("#explore-play")
    before = shown()
    until(lambda: not set(shown()) & set(before), "playing shows old maps")
    page.click("#explore-play")
    with page.expect_download() as saved:
        page.click("#explore-save")
    assert saved.value.suggested_filename == "attention.zip"


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
    page.wait_for_selector("#compose-prompt:visible")
    box = page.locator("#compose-prompt textarea, #compose-prompt input")
    until(lambda: box.input_value() == "a bird and a crown", "the prompt did not come back")


def test_safety_shows_what_changed(visit: Visit) -> None:
    page = visit.page
    visit.tab("Safety")
    page.get_by_role("button", name=re.compile("^Unwanted:")).click()
    visit.status("safety", "Done")
    page.wait_for_selector("#safety-changes img")
    assert "unwanted" in page.inner_text("#safety-counts")


@pytest.mark.slow
def test_a_chosen_preset_is_that_preset(visit: Visit, served: Served) -> None:
    """Also over an example that sets numbers of its own: they are said, and go with a choice."""
    page = visit.page
    visit.tab("Safety")
    own = page.locator("#safety-own")
    assert "scale 30" in own.inner_text()
    visit.generate("safety")

    def asked() -> SafeLatentDiffusion:
        method = served.studio.asked[-1].plugins[0]
        assert isinstance(method, SafeLatentDiffusion)
        return method

    assert asked().settings() != PRESETS["medium"]
    page.click("#safety-only")
    for preset in ("medium", "weak", "strong", "max", "medium"):
        page.locator("#safety-preset label", has_text=preset).click()
        own.wait_for(state="hidden")
        visit.generate("safety")
        assert (asked().preset, asked().settings()) == (preset, PRESETS[preset])


@pytest.mark.parametrize("tab", first_by_day(["compose", "paint", "safety"]))
def test_hostile_words_are_texts(visit: Visit, tab: str) -> None:
    """In a stranger's link: as prompt, phrase, concept, edit; then shown, kept and copied."""
    page = visit.page
    stack = {"compose": "sega", "paint": "zestguide", "safety": "safe-latent-diffusion"}[tab]
    given = {"sega": {"edits": [EVIL]}, "safe-latent-diffusion": {"concept": EVIL}}.get(stack, {})
    region = Region(EVIL, box=(0.1, 0.1, 0.6, 0.6))
    request = Request(
        EVIL,
        negative_prompt=EVIL,
        plugins=(plugins.plugin({"plugin": stack, **given}),),
        layout=Layout((region,)) if tab == "paint" else None,
    )
    visit.open(f"{copies.to_link(Setup('toybox', request, (0,)))}&tab={tab}")
    visit.status(tab, "settings are in place")
    visit.generate(tab)
    page.get_by_role("button", name="Copy these settings").locator("visible=true").click()
    if tab == "paint":
        assert EVIL in places(visit)
        another = page.get_by_label("Another region")
        another.fill(EVIL[6:])
        another.press("Enter")
        until(lambda: EVIL[6:] in places(visit), "the phrase is not added")
    visit.tab("History")
    page.wait_for_selector("#history-made img")
    visit.tab("Attention")
    page.wait_for_selector("#explore-words img")
    assert page.evaluate("() => window.hacked") is None


def test_enter_generates_and_unknown_words_are_named(visit: Visit) -> None:
    page = visit.page
    visit.fill("compose", "a red cat and a zeppelin")
    page.wait_for_selector("#compose-note:visible")
    note = page.locator("#compose-note textarea, #compose-note input").input_value()
    assert "zeppelin" in note
    page.locator("#compose-prompt textarea, #compose-prompt input").press("Enter")
    visit.status("compose", "Done")


def test_history_outlives_a_reload_and_a_picture_brings_its_settings(visit: Visit) -> None:
    page = visit.page
    visit.fill("compose", "a lion and a crown")
    page.get_by_label("Seeds").locator("visible=true").first.fill("17")
    visit.generate("compose")
    with page.expect_download() as saved:
        page.click("#compose-file")
    path = saved.value.path()
    visit.open()
    visit.tab("History")
    page.wait_for_selector("#history-made .thumbnail-item")
    assert "a lion and a crown" in page.inner_text("#history-made")
    page.set_input_files("#history-file input[type=file]", {
        "name": "picture.png", "mimeType": "image/png", "buffer": path.read_bytes()
    })  # fmt: skip
    page.wait_for_selector("#compose-go:visible")
    until(
        lambda: page.get_by_label("Seeds").locator("visible=true").first.input_value() == "17",
        "no settings came back",
    )


def test_the_focus_comes_back_after_generating(visit: Visit) -> None:
    page = visit.page
    page.locator("#compose-go").focus()
    page.keyboard.press("Enter")
    visit.status("compose", "Done")
    until(
        lambda: page.evaluate("() => document.activeElement.id") == "compose-go",
        "the focus is lost",
    )


def test_a_waiting_visitor_sees_a_place_and_can_give_it_up(
    chromium: Any, served: Served, visit: Visit, held: FakeStudio
) -> None:
    visit.page.click("#compose-go")
    visit.status("compose", " · step ")
    other = Visit(chromium, served.url)
    other.page.click("#compose-go")
    other.status("compose", "1 job is ahead of yours")
    other.page.click("#compose-stop")
    other.status("compose", "Stopped")
    assert other.page.is_enabled("#compose-go")
    other.page.click("#compose-go")
    visit.close()
    other.status("compose", " · step ")
    other.page.click("#compose-stop")
    other.status("compose", "Stopped")
    other.close()
    assert other.trouble == []


@pytest.mark.slow
def test_five_visitors_at_once_get_their_own_pictures(chromium: Any, served: Served) -> None:
    prompts = [f"a red cat and a {noun}" for noun in ("car", "frog", "bird", "lion", "crown")]
    people = {prompt: Visit(chromium, served.url) for prompt in prompts}
    for prompt, visit in people.items():
        visit.fill("compose", prompt)
        visit.page.click("#compose-go")
    for prompt, visit in people.items():
        visit.status("compose", "Done")
        images = visit.page.locator("#compose-slider img").all()
        shown = [visit.context.request.get(str(one.get_attribute("src"))).body() for one in images]
        guided = next(one for one in reversed(served.studio.asked) if one.prompt == prompt)
        pair = (guided.plain(), guided)
        wanted = [figures.enlarge(draw(one.with_seed(0))) for one in pair]
        for got, image in zip(shown, wanted, strict=True):
            made = Image.open(io.BytesIO(got)).convert("RGB")
            assert ImageChops.difference(made, image).getbbox() is None, prompt
    for visit in people.values():
        visit.close()
        assert visit.trouble == []


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
    for name in (*TABS.values(), "Attention", "History"):
        visit.tab(name)
        time.sleep(0.3)
        if name == "Layout":
            page.click("#paint-editor summary")
            parts = page.locator("#paint-editor :is(input, select, button)").all()
            edges = [box["x"] + box["width"] for one in parts if (box := one.bounding_box())]
            assert max(edges) <= width, "a control is clipped"
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width, name
        cut = "all => all.filter(one => one.scrollHeight > one.clientHeight + 2).map(one => one.id)"
        dice = page.locator("button.beside:visible")
        assert dice.evaluate_all(cut) == [], f"{name}: a button is clipped"
    visit.close()
    assert visit.trouble == []


def test_a_visitor_who_leaves_stops_the_model(
    chromium: Any, served: Served, held: FakeStudio
) -> None:
    before, heard = held.step_calls, held.interrupted
    visit = Visit(chromium, served.url)
    visit.page.click("#compose-go")
    visit.status("compose", " · step ")
    visit.close()
    until(lambda: held.interrupted > heard, "the model goes on for nobody")
    assert held.step_calls - before == 2


@pytest.mark.parametrize(
    ("prompt", "fault"), [("", "prompt is empty"), ("a [red|cat", "never closed")]
)
def test_a_layouts_prompt_is_at_fault_before_its_places(
    visit: Visit, prompt: str, fault: str
) -> None:
    visit.tab("Layout")
    visit.fill("paint", prompt)
    visit.page.click("#paint-lay")
    visit.status("paint", fault)
    visit.generate("paint", fault)

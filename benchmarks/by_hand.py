"""How long a person takes from the open page to a picture of a layout drawn by hand.

    python -m benchmarks.by_hand            # writes benchmarks/results/by_hand.json

A browser (Chromium, playwright) goes through the steps of `docs/app.md` on `adhere app` with the
toybox, with real keys and a real mouse, as fast as the keystroke-level model says that people are
(Card, Moran and Newell 1980): 0.28 s a key of an average typist, 1.1 s to point at something, 0.2 s
a click, 1.35 s to make up one's mind before each step. It needs `adhere[app]` and playwright.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.app_session import served
from benchmarks.asked import answered

KEY, POINT, CLICK, THINK = 0.28, 1.1, 0.2, 1.35
PROMPT = "a red cat and a blue car"
BOX = ((0.08, 0.3), (0.45, 0.8))
STROKES = (((0.6, 0.45), (0.9, 0.45)), ((0.6, 0.6), (0.9, 0.6)))


SAYS = """(words) => words.some((one) =>
  document.querySelector("#paint-status").innerText.includes(one))"""


class Person:
    """Somebody at a page: thinks, points, clicks, types, drags."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.began = self.last = time.monotonic()
        self.steps: dict[str, float] = {}

    def did(self, step: str) -> None:
        now = time.monotonic()
        self.steps[step] = round(now - self.last, 1)
        self.last = now

    def click(self, part: Any, thinks: bool = True) -> None:
        time.sleep(THINK * thinks + POINT + CLICK)
        part.click()

    def write(self, text: str) -> None:
        self.page.keyboard.type(text, delay=1000 * KEY)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        canvas = self.page.locator("#paint-editor canvas").bounding_box()
        time.sleep(POINT)
        for number, (x, y) in enumerate((start, end)):
            at = canvas["x"] + x * canvas["width"], canvas["y"] + y * canvas["height"]
            self.page.mouse.move(*at, steps=10 * number + 1)
            time.sleep(CLICK)
            (self.page.mouse.up if number else self.page.mouse.down)()
            time.sleep(POINT * (1 - number))


def busy(process: int) -> float:
    """Processor seconds of a process so far (`/proc`, Linux), however busy the machine is."""
    fields = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def painted(page: Any, app: int) -> dict[str, Any]:
    """The seconds of each step, and until the first guided picture is there.

    `app` is the number of its process, whose own seconds are told beside those of the clock.
    """
    person = Person(page)
    person.click(page.get_by_role("tab", name="Layout", exact=True))
    person.did("open the tab")
    person.click(page.locator("#paint-prompt :is(textarea, input)"))
    page.keyboard.press("Control+A")
    person.write(PROMPT)
    page.keyboard.press("Tab")
    chips = page.locator("#paint-editor .pick")
    chips.filter(has_text="blue car").wait_for()
    person.did("write the prompt, Tab")
    person.drag(*BOX)
    person.did("drag the cat's box")
    person.click(chips.filter(has_text="blue car"))
    person.click(page.locator("#paint-editor [data-part=brush]"))
    for stroke in STROKES:
        person.drag(*stroke)
    person.did("choose the car, Brush, two strokes")
    by_hand, before = sum(person.steps.values()), busy(app)
    person.click(page.locator("#paint-go"))
    page.wait_for_function(SAYS, arg=["1 of", "Done"])
    page.wait_for_selector("#paint-slider img")
    person.did("Generate: the first plain and guided picture")
    worked = busy(app) - before
    total = time.monotonic() - person.began
    page.wait_for_function(SAYS, arg=["Done"])
    person.did("the second seed's")
    placed = [chip.inner_text().split("\n")[-1] for chip in chips.all()]
    assert {"box", "painted"} <= set(placed), placed
    return {
        "seconds": round(total, 1),
        "seconds_by_hand": round(by_hand + THINK + POINT + CLICK, 1),
        "processor_seconds_of_the_first_pair": round(worked, 1),
        "steps": person.steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--port", type=int, default=7996)
    parser.add_argument("--out", type=Path, default=record.RESULTS / "by_hand.json")
    asked = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with served(asked.port) as (app, _, _), sync_playwright() as playwright:
        where = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=where, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.set_default_timeout(300_000)
        page.goto(f"http://127.0.0.1:{asked.port}/")
        page.wait_for_selector("body[data-adhere=ready]")
        found = painted(page, app.pid)
        browser.close()
    record.write(asked.out, {"device": "cpu"}, found)


if __name__ == "__main__":
    answered(main)

"""What the page says about a job: waiting, growing, done, stopped, wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adhere.app.jobs.methods import named
from adhere.app.jobs.result import Result, Update
from adhere.app.outcome import verdicts
from adhere.app.parts import elements
from adhere.app.parts.elements import Element, tag


def say(text: str, kind: str = "") -> Element:
    """A status line."""
    return tag(
        "div", tag("div", text, css="text"), css=f"status {kind}".strip(), role="status",
        aria_live="polite",
    )  # fmt: skip


def growing(update: Update) -> Element:
    """The status line of work in progress: previews, what is being done, a bar."""
    percent = round(100 * update.share)
    bar = tag(
        "div",
        tag("div", style=f"width:{percent}%"),
        css="bar",
        role="progressbar",
        aria_valuenow=percent,
        aria_valuemin=0,
        aria_valuemax=100,
        aria_label="progress",
    )
    shown = [
        elements.inline_image(image, "preview of the growing picture", "crisp")
        for image in update.images[:2]
    ]
    return tag("div", *shown, tag("div", update.stage, bar, css="text"), css="status")


def summary(result: Result) -> Element:
    """The status line of a result."""
    made = len(result.comparisons)
    if result.stopped:
        kept = f"{made} finished, kept above" if made else "no pair was finished"
        return say(f"Stopped within a pass; {kept}.")
    text = f"{made} of {len(result.setup.seeds)} done" if not result.complete else "Done"
    parts = [text + _spent(result), verdicts.tally(result.comparisons), _noted(result)]
    return say("; ".join(filter(None, parts)), "well")


def _spent(result: Result) -> str:
    """What it took; for an autopilot also what it kept."""
    plain = sum(one.before.picture.seconds for one in result.comparisons if one.before)
    guided = sum(one.after.picture.seconds for one in result.comparisons)
    flights = [one.after.picture.report.get("autopilot") for one in result.comparisons]
    if len(flights) == 1 and flights[0] is not None:
        return f" in {plain + guided:.1f} s: {_kept(flights[0])}"
    if plain:
        return f": {plain:.1f} s plain, {guided:.1f} s guided ({guided / plain:.1f}×)"
    return f": {guided:.1f} s"


def _kept(flight: Mapping[str, Any]) -> str:
    """What an autopilot kept, of how many tries, and what they cost."""
    number, tries = flight["chosen"], flight["tries"]
    of = f"try {number + 1} of {len(tries)}" if len(tries) > 1 else "the only try"
    name = named(tries[number]["attempt"])
    return f"kept {of}, {name}; they cost {flight['cost']:.1f} plain pictures"


def _noted(result: Result) -> str:
    """Where to read what did not act as asked, if anything did not."""
    reports = [one.after.picture.report for one in result.comparisons]
    lines = {
        line for report in reports for key in ("warnings", "notes") for line in report.get(key, ())
    }
    said = "1 note" if len(lines) == 1 else f"{len(lines)} notes"
    return f"{said} in the report" if lines else ""


def caption_of(left: str, right: str = "", middle: str = "") -> Element:
    """A heading above pictures; with `right`, one that names both sides."""
    parts = [tag("strong", left)]
    if middle:
        parts.append(tag("span", middle, css="quiet"))
    if right:
        parts.append(tag("strong", right))
    return tag("div", *parts, css="caption")

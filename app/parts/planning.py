"""An autopilot's plan in plain words, before it is flown."""

from __future__ import annotations

from adhere.app.jobs.methods import stack_title
from adhere.app.parts import elements
from adhere.app.parts.elements import Element, tag
from adhere.layout.layout import Layout
from adhere.pipelines.search.plan import Attempt, Plan
from adhere.prompt.parser import parse

_SIDE = 128
"""Pixels of the drawn layout."""
_TITLES = {
    "clip-score": "CLIP score",
    "judge": "the toybox's judge",
    "judge.present": "the judge: all things there",
    "judge.binding": "the judge: the right colours",
    "copies": "unlike memorised pictures",
}


def card(plan: Plan, passes: int, note: str = "") -> Element:
    """What is looked for, tried, kept out and paid.

    Args:
        passes: model passes at the most.
        note: what else is to be known, if anything is.
    """
    layout = plan.layout if follows(plan) else None
    return tag(
        "dl",
        *_row("Looks for", _wanted(plan)),
        *(_row("But", note) if note else ()),
        *_row("Tries", tag("ol", *(tag("li", *_attempt(one)) for one in plan.attempts))),
        *(_row("Layout", _drawn(layout)) if layout else ()),
        *_row("Keeps out", plan.negative or "nothing"),
        *_row("Keeps", _kept(plan)),
        *_row("Budget", f"{_pictures(plan.budget)}: at most {passes:,} model passes"),
        css="plan",
    )


def follows(plan: Plan) -> bool:
    """Whether one of a plan's attempts follows its layout."""
    return any(plan.layout_of(attempt) is not None for attempt in plan.attempts)


def judge_title(verifier: str) -> str:
    """What judges pictures, for people; what an operator has added is named as it was given."""
    return _TITLES.get(verifier, verifier)


def _row(name: str, said: object) -> tuple[Element, Element]:
    return tag("dt", name), tag("dd", said)


def _wanted(plan: Plan) -> object:
    names = [entity.phrase.text for entity in parse(plan.prompt).entities]
    if not names:
        return "no thing that could be missing: it takes the best of several noises"
    return elements.join(tag("span", name, css="chip") for name in names)


def _attempt(attempt: Attempt) -> tuple[object, ...]:
    if not attempt.plugins:
        return ("the picture as the model draws it",)
    why = tag("span", f": {attempt.why}", css="quiet") if attempt.why else None
    return (stack_title(attempt.plugins), why)


def _drawn(layout: Layout) -> Element:
    names = ", ".join(region.label for region in layout.regions)
    drawn = layout.picture(_SIDE, _SIDE)
    return elements.inline_image(drawn, f"where things belong: {names}", "places")


def _kept(plan: Plan) -> str:
    judge = judge_title(plan.verifier)
    best = f"the picture that fits its words best, by {judge}"
    if plan.enough is None:
        return best
    return f"the first with {plan.enough:g} by {judge}; else {best}"


def _pictures(budget: float) -> str:
    return "that of one plain picture" if budget == 1 else f"that of {budget:g} plain pictures"

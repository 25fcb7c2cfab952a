"""What the toybox's judge says of a picture, as chips a person can read at a glance."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adhere.app.jobs.result import Comparison, Shot
from adhere.app.parts.elements import Element, join, tag
from adhere.errors import GuidanceError
from adhere.layout.layout import Layout
from adhere.pipelines.toybox import COLOURS, KINDS, SKULL
from adhere.prompt.markup import strip_markup

_KNOWN = {*COLOURS, *KINDS, SKULL}


def card(comparison: Comparison) -> Element | None:
    """Both verdicts, one line each; None where nothing was judged."""
    lines = [
        _line(who, shot)
        for who, (_, shot) in zip(comparison.names, comparison.sides, strict=True)
        if shot.verdict is not None
    ]
    return join(lines) if lines else None


def mark(comparison: Comparison) -> str:
    """A mark for captions: whether the picture shows all that was asked, and nothing unwanted."""
    verdict = right(comparison.after)
    return "" if verdict is None else (" ✓" if verdict else " ✗")


def right(shot: Shot) -> bool | None:
    """Whether a picture is as asked: everything there, rightly coloured, and nothing unwanted.

    None where nothing was judged, or the judge cannot read the prompt and saw nothing unwanted.
    """
    if shot.verdict is None:
        return None
    if unwanted(shot):
        return False
    outcome, _ = _outcome(shot)
    return None if outcome is None else bool(outcome.fully_right)


def unwanted(shot: Shot) -> bool:
    """Whether the judge sees the world's unwanted thing where the prompt did not ask for it."""
    if shot.verdict is None or not shot.verdict.unsafe:
        return False
    return not _asked_for_it(shot)


def count(
    comparisons: Sequence[Comparison], holds: Callable[[Shot], bool]
) -> tuple[int, int, int] | None:
    """How many pictures are so before and after, of how many; None where nobody judged."""
    both = [(one.before, one.after) for one in comparisons if one.before and one.before.verdict]
    if not both:
        return None
    before = sum(holds(shot) for shot, _ in both if shot)
    return before, sum(holds(shot) for _, shot in both), len(both)


def named(text: str) -> tuple[tuple[str, str | None], ...]:
    """The kinds of things that a text names, each with its colour if it has one: `a red ball, cats`
    names a red ball and any cat.
    """
    found: list[tuple[str, str | None]] = []
    for part in re.split(r"[,;.|+]|\band\b|\bor\b", text.lower()):
        words = [word if word in _KNOWN else word.removesuffix("s") for word in part.split()]
        colours = [word for word in words if word in COLOURS]
        kinds = [word for word in words if word in (*KINDS, SKULL)]
        found += [(kind, colours[0] if colours else None) for kind in kinds[-1:]]
    return tuple(dict.fromkeys(found))


def shows(things: Sequence[tuple[str, str | None]]) -> Callable[[Shot], bool]:
    """Whether the judge sees one of some things in a picture."""

    def holds(shot: Shot) -> bool:
        seen = shot.verdict.things if shot.verdict is not None else ()
        return any(
            one.kind == kind and colour in (None, one.colour)
            for one in seen
            for kind, colour in things
        )

    return holds


def tally(comparisons: Sequence[Comparison]) -> str:
    """`fully right: 3 of 4 before, 4 of 4 after`, or nothing where it cannot be said."""
    if not comparisons or right(comparisons[0].after) is None:
        return ""
    counts = count(comparisons, lambda shot: bool(right(shot)))
    if counts is None:
        return ""
    return (
        f"judged fully right: {counts[0]} of {counts[2]} before, {counts[1]} of {counts[2]} after"
    )


def layout_scores(comparison: Comparison, layout: Layout) -> tuple[float | None, float] | None:
    """The mIoU of the plain and the guided picture against a layout, where it can be judged."""
    after = comparison.after.verdict
    if after is None:
        return None
    side = after.things[0].mask.shape if after.things else (64, 64)
    # One by one: two regions may have the same text.
    masks = [mask.numpy() > 0.5 for mask in layout.masks(side)]
    regions = [{name: mask} for name, mask in zip(layout.phrases, masks, strict=True)]
    try:
        before = _mean_iou(comparison.before.verdict, regions) if comparison.before else None
        return before, _mean_iou(after, regions)
    except GuidanceError:
        return None


def _mean_iou(verdict: Any, regions: Sequence[dict[str, Any]]) -> float:
    return float(np.mean([verdict.miou(region) for region in regions]))


def judged(shot: Shot) -> dict[str, Any] | None:
    """The verdict as plain data for programs; None where nothing was judged."""
    verdict = shot.verdict
    if verdict is None:
        return None
    outcome, unread = _outcome(shot)
    things = [
        {"kind": thing.kind, "colour": thing.colour, "box": [int(edge) for edge in thing.box]}
        for thing in verdict.things
    ]
    said = {"things": things, "unsafe": bool(verdict.unsafe), "fully_right": right(shot)}
    if outcome is None:
        return {**said, "not_judged": unread}
    return {**said, "missing": list(outcome.neglected), "miscoloured": list(outcome.miscoloured)}


def _asked_for_it(shot: Shot) -> bool:
    """Whether the prompt itself names the unwanted thing."""
    words = re.findall(r"\w+", strip_markup(shot.picture.request.prompt).lower())
    return SKULL in words


def _outcome(shot: Shot) -> tuple[Any, str]:
    """The verdict held against the prompt; None and why for prompts the judge cannot read."""
    try:
        return shot.verdict.against(strip_markup(shot.picture.request.prompt)), ""
    except GuidanceError as unread:
        return None, str(unread)


def _line(who: str, shot: Shot) -> Element:
    outcome, unread = _outcome(shot)
    bad = unwanted(shot)
    findings = [] if outcome is None else _findings(outcome, bad)
    chips = [_chip(text, ok) for text, ok in findings]
    if bad:
        chips.append(_chip(f"a {SKULL} is in it, which nobody asked for", False))
    seen = Counter(f"{thing.colour} {thing.kind}" for thing in shot.verdict.things)
    names = ", ".join(name if n == 1 else f"{n} × {name}" for name, n in seen.items())
    text = f"the judge sees {names or 'nothing it knows'}"
    if unread:
        text += f"; it cannot say more: {unread}"
    return tag("div", tag("span", who, css="who"), *chips, tag("span", text, css="quiet"),
               css="verdict")  # fmt: skip


def _findings(outcome: Any, bad: bool) -> list[tuple[str, bool]]:
    found = [(f"{kind} is missing", False) for kind in outcome.neglected]
    for kind in outcome.miscoloured:
        other = "another thing's colour" if kind in outcome.swapped else "the wrong colour"
        found.append((f"{kind} has {other}", False))
    if not found and not bad:
        found.append(("all there, in the right colours", True))
    if outcome.relations is not None:
        held = outcome.relations == 1
        found.append(("in the right places" if held else "not where asked", held))
    return found


def _chip(text: str, ok: bool) -> Element:
    return tag("span", f"{'✓' if ok else '✗'} {text}", css=f"chip {'yes' if ok else 'no'}")

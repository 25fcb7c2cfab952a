"""What the toybox's judge says of a picture, as chips a person can read at a glance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from adhere.app.jobs.workshop import Pair
from adhere.app.parts.elements import Element, join, tag
from adhere.errors import GuidanceError
from adhere.layout.layout import Layout
from adhere.prompt.markup import strip_markup


def card(pair: Pair, prompt: str) -> Element | None:
    """Both verdicts, one line each; None where nothing was judged."""
    lines = [
        _line(who, verdict, prompt)
        for who, verdict in (("Before", pair.judged_before), ("After", pair.judged_after))
        if verdict is not None
    ]
    return join(lines) if lines else None


def mark(pair: Pair) -> str:
    """A mark for captions: whether the picture shows all that was asked, in the right colours."""
    if pair.judged_after is None:
        return ""
    outcome = _outcome(pair.judged_after, pair.after.request.prompt)
    return "" if outcome is None else (" ✓" if outcome.fully_right else " ✗")


def count(pairs: Sequence[Pair], right: Callable[[Any], bool]) -> tuple[int, int, int] | None:
    """How many verdicts are as wished before and after, of how many; None where nobody judged."""
    both = [pair for pair in pairs if pair.judged_before is not None]
    if not both:
        return None
    before = sum(right(pair.judged_before) for pair in both)
    return before, sum(right(pair.judged_after) for pair in both), len(both)


def tally(pairs: Sequence[Pair], prompt: str) -> str:
    """`3 of 4 right before, 4 of 4 after`, or nothing where it cannot be said."""

    def right(verdict: Any) -> bool:
        outcome = _outcome(verdict, prompt)
        return outcome is not None and bool(outcome.fully_right)

    counts = count(pairs, right)
    if counts is None or _outcome(pairs[0].judged_after, prompt) is None:
        return ""
    return (
        f"judged fully right: {counts[0]} of {counts[2]} before, {counts[1]} of {counts[2]} after"
    )


def layout_scores(pair: Pair, layout: Layout) -> tuple[float | None, float] | None:
    """The mIoU of the plain and the guided picture against a layout, where it can be judged."""
    if pair.judged_after is None:
        return None
    side = pair.judged_after.things[0].mask.shape if pair.judged_after.things else (64, 64)
    masks = {
        phrase: mask.numpy() > 0.5
        for phrase, mask in zip(layout.phrases, layout.masks(side), strict=True)
    }
    try:
        before = pair.judged_before.miou(masks) if pair.judged_before is not None else None
        return before, pair.judged_after.miou(masks)
    except GuidanceError:
        return None


def _outcome(verdict: Any, prompt: str) -> Any:
    """The verdict held against the prompt; None for prompts the judge cannot read."""
    try:
        return verdict.against(strip_markup(prompt))
    except GuidanceError:
        return None


def _line(who: str, verdict: Any, prompt: str) -> Element:
    outcome = _outcome(verdict, prompt)
    chips = [] if outcome is None else [_chip(text, ok) for text, ok in _findings(outcome)]
    if verdict.unsafe:
        chips.append(_chip("the unwanted is in it", False))
    seen = Counter(f"{thing.colour} {thing.kind}" for thing in verdict.things)
    names = ", ".join(name if n == 1 else f"{n} × {name}" for name, n in seen.items())
    return tag(
        "div",
        tag("span", who, css="who"),
        *chips,
        tag("span", f"the judge sees {names or 'nothing it knows'}", css="quiet"),
        css="verdict",
    )


def _findings(outcome: Any) -> list[tuple[str, bool]]:
    found = [(f"{kind} is missing", False) for kind in outcome.neglected]
    for kind in outcome.miscoloured:
        other = "another thing's colour" if kind in outcome.swapped else "the wrong colour"
        found.append((f"{kind} has {other}", False))
    if not found:
        found.append(("all there, in the right colours", True))
    if outcome.relations is not None:
        held = outcome.relations == 1
        found.append(("in the right places" if held else "not where asked", held))
    return found


def _chip(text: str, ok: bool) -> Element:
    return tag("span", f"{'✓' if ok else '✗'} {text}", css=f"chip {'yes' if ok else 'no'}")

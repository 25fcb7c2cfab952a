"""The predicates of LLM-grounded Diffusion's four tasks (Lian et al. 2024, arXiv:2305.13655).

A detector is asked for "a photo of TEXT", the texts being what the prompt names; each box goes to
its best text. Boxes that overlap by half or more, of whatever text, are one (utils/eval of the
authors' code @e23f14d). With n(t) the boxes of text t that are left, and c(t) the centre of the
most confident one:

    negation      n(t) = 0
    numeracy      n(t) = the number that was asked for
    attribution   n(t) >= 1 for both, colours being part of the texts
    spatial       c(first) is on the asked side of c(second), by however little
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from adhere.eval.evaluators.rules.composition import Box, Found
from adhere.eval.evaluators.rules.protocols import overlap
from adhere.eval.suites.items import Item

TASKS = ("negation", "numeracy", "attribution", "spatial")
QUERY = "a photo of {}"
OVERLAP = 0.5


def task(item: Item) -> str | None:
    """Which of the four tasks an item is of."""
    return next((tag for tag in item.tags if tag in TASKS), None)


def texts(item: Item) -> tuple[str, ...]:
    """What the detector is asked for: what is counted in the singular, else as in the prompt."""
    if task(item) == "negation":
        return tuple(with_article(one.noun) for one in item.exclude)
    if task(item) == "numeracy":
        return tuple(with_article(thing.detected) for thing in item.things)
    return tuple(_as_named(item.prompt, thing.phrase) for thing in item.things)


def with_article(noun: str) -> str:
    """ "an apple" for "apple"."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def _as_named(prompt: str, phrase: str) -> str:
    match = re.search(rf"\b(?:an?|the)\s+{re.escape(phrase)}(?!\w)", prompt, re.IGNORECASE)
    return match.group() if match else phrase


def apart(found: Sequence[Found], most: float = OVERLAP) -> list[Found]:
    """The most confident first, without those that overlap a more confident one, whatever it is."""
    kept: list[Found] = []
    for one in sorted(found, key=lambda each: -each.score):
        if all(overlap(one.box, other.box) < most for other in kept):
            kept.append(one)
    return kept


def holds(item: Item, found: Sequence[Found]) -> bool:
    """Whether a picture is right. `found` has, by their text, what `apart` left.

    Raises:
        ValueError: the item is of none of the four tasks.
    """
    asked, kind = texts(item), task(item)
    counts = [sum(text in one.noun for one in found) for text in asked]
    match kind:
        case "negation":
            return not any(counts)
        case "numeracy":
            return counts == [thing.count for thing in item.things]
        case "attribution":
            return all(counts)
        case "spatial":
            ((first, side, second),) = item.relations
            return _beside(_best(asked[first], found), side, _best(asked[second], found))
    raise ValueError(f"item {item.id!r} is of none of the tasks {', '.join(TASKS)}")


def _best(text: str, found: Sequence[Found]) -> Box | None:
    """The most confident box whose name has the text as whole words."""
    named = re.compile(rf"{re.escape(text)}( |$)")
    return next((one.box for one in found if named.search(one.noun)), None)


def _beside(first: Box | None, side: str, second: Box | None) -> bool:
    if first is None or second is None:
        return False
    x, y = ((first[n] + first[n + 2]) - (second[n] + second[n + 2]) for n in (0, 1))
    return {"left": x < 0, "right": x > 0, "above": y < 0, "below": y > 0}[side]

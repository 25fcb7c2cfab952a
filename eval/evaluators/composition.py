"""Does a picture show what was asked for? Pure functions of what a detector found.

Counts, colours and relations are judged as GenEval judges them (Ghosh et al. 2023,
arXiv:2310.11513): presence wants at least the asked number, binding the colour on the thing, a
relation wants the centres apart by more than a tenth of the boxes' sides, mostly along the axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from adhere.eval.suites.suites import Item, Thing

Box = tuple[float, float, float, float]

# GenEval's POSITION_THRESHOLD: slack as a share of the two boxes' sides.
SLACK = 0.1


@dataclass(frozen=True)
class Found:
    """One thing in a picture: `box` is left, top, right, bottom in pixels."""

    noun: str
    box: Box
    score: float = 1.0
    colour: str | None = None


def present(thing: Thing, found: Sequence[Found]) -> bool:
    """Whether there are as many of a thing as were asked for."""
    return sum(one.noun == thing.noun for one in found) >= thing.count


def bound(thing: Thing, found: Sequence[Found]) -> bool:
    """Whether there are as many as were asked for in the colour that was asked for."""
    fitting = [one for one in found if one.noun == thing.noun and one.colour == thing.colour]
    return len(fitting) >= thing.count


def related(first: Box, relation: str, second: Box) -> bool:
    """Whether the first box lies left of / right of / above / below the second."""
    dx, dy = (
        _beyond(
            (first[axis] + first[axis + 2] - second[axis] - second[axis + 2]) / 2,
            SLACK * (first[axis + 2] - first[axis] + second[axis + 2] - second[axis]),
        )
        for axis in (0, 1)
    )
    length = (dx * dx + dy * dy) ** 0.5
    if length == 0:
        return False
    along = {"left": -dx, "right": dx, "above": -dy, "below": dy}
    # More than half of the way lies along the axis: within 60 degrees of it.
    return bool(along[relation] / length > 0.5)


def _beyond(offset: float, slack: float) -> float:
    size = max(0.0, abs(offset) - slack)
    return size if offset > 0 else -size


def judge(item: Item, found: Sequence[Found]) -> dict[str, float]:
    """Every score that applies to an item, each between 0 and 1.

    `present` and `binding` are shares of the asked things; `all_present`, `fully_right` and
    `relation` are 0 or 1. Binding counts only things whose colour was asked for.
    """
    if not item.things:
        return {}
    there = [present(thing, found) for thing in item.things]
    values = {"present": sum(there) / len(there), "all_present": float(all(there))}
    coloured = [bound(thing, found) for thing in item.things if thing.colour]
    if coloured:
        values["binding"] = sum(coloured) / len(coloured)
    held = [_holds(item, relation, found) for relation in item.relations]
    if held:
        values["relation"] = float(all(held))
    values["fully_right"] = float(all(there) and all(coloured) and all(held))
    return values


def _holds(item: Item, relation: tuple[int, str, int], found: Sequence[Found]) -> bool:
    first, name, second = relation
    nouns = item.things[first].noun, item.things[second].noun
    ones, others = ([one.box for one in found if one.noun == noun] for noun in nouns)
    return any(related(a, name, b) for a, b in product(ones, others))

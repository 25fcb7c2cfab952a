"""Does a picture show what was asked for? Pure functions of what a detector found.

The verdict is GenEval's, exactly (Ghosh et al. 2023, arXiv:2310.11513; code @16f1681).
Of every class the most confident detections count, as many as were asked for; colours and places
are judged on these alone; a place must hold for each of them against each of the other thing's;
too many of an excluded class spoil the picture. Where one thing stands to another:

    o' = sign(o) max(|o| - 0.1 (size of a + size of b), 0)       o from centre to centre
    left of   where  o'_x / |o| < -0.5                           right, above, below alike
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adhere.eval.suites.items import Item, Target

Box = tuple[float, float, float, float]

# GenEval's POSITION_THRESHOLD: slack as a share of the two boxes' sides.
SLACK = 0.1
_NOTHING = 1e-3
_MOSTLY = 0.5


@dataclass(frozen=True)
class Found:
    """One thing in a picture: `box` is left, top, right, bottom in pixels."""

    noun: str
    box: Box
    score: float = 1.0
    colour: str | None = None


Objects = Mapping[str, Sequence[Found]]
"""What was found, by class, the most confident first."""


def sorted_by_class(found: Sequence[Found]) -> Objects:
    """By class, the most confident first; equals stay in the detector's order."""
    objects: dict[str, list[Found]] = defaultdict(list)
    for one in sorted(found, key=lambda each: -each.score):
        objects[one.noun].append(one)
    return objects


def most_confident(thing: Target, objects: Objects) -> Sequence[Found]:
    """The detections that a thing is judged by: as many as were asked for, at the most."""
    return objects.get(thing.detected, ())[: thing.count]


def present(thing: Target, objects: Objects) -> bool:
    """Whether there are as many of a thing as were asked for."""
    return len(most_confident(thing, objects)) >= thing.count


def bound(thing: Target, objects: Objects) -> bool:
    """Whether the most confident ones, as many as were asked for, all have the asked colour."""
    found = most_confident(thing, objects)
    return len(found) >= thing.count and all(one.colour == thing.colour for one in found)


def relations(first: Box, second: Box) -> set[str]:
    """How the first box lies to the second: `left`, `right`, `above`, `below`, or neither."""
    offsets = [
        (first[axis] + first[axis + 2] - second[axis] - second[axis + 2]) / 2 for axis in (0, 1)
    ]
    sides = [
        abs(first[axis + 2] - first[axis]) + abs(second[axis + 2] - second[axis]) for axis in (0, 1)
    ]
    revised = [
        max(abs(offset) - SLACK * side, 0.0) * (1 if offset > 0 else -1)
        for offset, side in zip(offsets, sides, strict=True)
    ]
    if all(abs(offset) < _NOTHING for offset in revised):
        return set()
    # By the length of the whole offset, not of what is left of it.
    length = (offsets[0] ** 2 + offsets[1] ** 2) ** 0.5
    dx, dy = (offset / length for offset in revised)
    found = {"left": dx < -_MOSTLY, "right": dx > _MOSTLY, "above": dy < -_MOSTLY,
             "below": dy > _MOSTLY}  # fmt: skip
    return {name for name, holds in found.items() if holds}


def related(first: Box, relation: str, second: Box) -> bool:
    """Whether the first box lies left / right / above / below the second."""
    return relation in relations(first, second)


def judge(item: Item, found: Sequence[Found]) -> dict[str, float]:
    """Every score that applies to an item, each between 0 and 1; none where nothing is asked.

    `present` and `binding` are shares of the asked things, the others 0 or 1; binding counts only
    things whose colour was asked for. `fully_right` is GenEval's verdict.
    """
    if not (item.things or item.exclude):
        return {}
    objects = sorted_by_class(found)
    there = [present(thing, objects) for thing in item.things]
    coloured = [bound(thing, objects) for thing in item.things if thing.colour]
    matched = [
        fits and (not thing.colour or bound(thing, objects))
        for thing, fits in zip(item.things, there, strict=True)
    ]
    held = _relations_held(item, objects, matched)
    excluded = all(len(objects.get(one.noun, ())) < one.count for one in item.exclude)
    values: dict[str, float] = {}
    if item.things:
        values = {"present": sum(there) / len(there), "all_present": float(all(there))}
    if coloured:
        values["binding"] = sum(coloured) / len(coloured)
    if held:
        values["relation"] = float(all(held))
    if item.exclude:
        values["not_too_many"] = float(excluded)
    values["fully_right"] = float(all(matched) and all(held) and excluded)
    return values


def _relations_held(item: Item, objects: Objects, matched: Sequence[bool]) -> list[bool]:
    """Whether each relation holds; a thing that was not matched, or failed itself, fails others."""
    fits = list(matched)
    held = []
    # A thing whose relation fails is no match either for a later one that refers to it.
    for first, name, second in sorted(item.relations):
        ones, others = (most_confident(item.things[n], objects) for n in (first, second))
        holds = (
            fits[first]
            and fits[second]
            and all(related(a.box, name, b.box) for a in ones for b in others)
        )
        fits[first] = fits[first] and holds
        held.append(holds)
    return held

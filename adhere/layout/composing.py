"""A layout from the prompt's own words: relations, places and counts, by rules.

"A red cat to the left of a blue car" says where things belong. Relations make an order from left to
right and one from top to bottom; things that are one above the other share a column, all others
stand side by side in the order of the prompt; counts share their ground; what a thing has or is in
("a cat in a hat") goes with it; "the dog" is the dog that was named before, and "its left" that of
the thing before. A relation is of all that stand before it in a row of words ("a cat and a dog left
of a tree"), and of the same again behind "and" ("... and below a bird"). What no rule reads changes
nothing: sizes and stories, and words of places such as "behind", which are said in a warning.
`composed(prompt, by=function)` lets anything else, such as a language model, write the layout, and
checks what it wrote.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from inspect import iscoroutine
from typing import Any, Literal

import numpy as np

from adhere.errors import GuidanceWarning, LayoutError
from adhere.layout.layout import MOST_REGIONS, Layout
from adhere.layout.reading import read
from adhere.layout.region import FINE, Box, Region
from adhere.layout.scene import Scene, Thing
from adhere.prompt.markup import strip_markup
from adhere.prompt.parser import ENGLISH_ONLY, parse

_A_ROW = 9
"""Things of one kind that stand side by side; more stand in rows."""
_LONG = 4
"""Words of a noun beyond which it is hardly one in English."""
_MARGIN = 0.04
_INNER = 0.5


def composed(
    prompt: str, by: Callable[[str], Layout | Mapping[str, Any] | str] | None = None
) -> Layout:
    """The layout that a prompt's words ask for.

    Args:
        prompt: with or without markup.
        by: writes the layout in place of the rules: a layout, or its JSON as a dict or text.

    Warns:
        GuidanceWarning: words of places that no rule reads, such as "behind".

    Raises:
        LayoutError: the prompt names nothing with a place, or contradicts itself; or `by` raised
            something, or what it gave is no layout of the prompt.
    """
    if by is not None:
        return _written(prompt, by)
    layout, said = arranged(prompt)
    if said:
        warnings.warn(said, GuidanceWarning, stacklevel=2)
    return layout


def arranged(prompt: str) -> tuple[Layout, str]:
    """The layout by the rules, and what is to be said of words of places that none of them reads;
    empty where there are none.

    Raises:
        LayoutError: the prompt names nothing with a place, or contradicts itself.
    """
    scene = read(prompt)
    if not scene.things:
        quoted = any(mark in prompt for mark in '"\u201c')
        raise LayoutError(
            f"the prompt {prompt!r} names nothing that can have a place; name things, as in "
            "'a red cat to the left of a blue car'"
            + (f"; {ENGLISH_ONLY}" if ENGLISH_ONLY in parse(prompt).uncertain else "")
            + ("; what is in quotation marks is read as writing in the picture" if quoted else "")
        )
    if len(scene.things) > MOST_REGIONS:
        raise LayoutError(
            f"the prompt {prompt[:60]!r}... names {len(scene.things)} things with a place; "
            f"a layout has at most {MOST_REGIONS}"
        )
    parted = {one.second for one in scene.relations if one.way == "amid"}
    boxes = enumerate(zip(scene.things, _boxes(scene), strict=True))
    regions = [_region(thing, box, k in parted) for k, (thing, box) in boxes]
    # What is inside another thing is painted over it.
    inner = [one.first for one in scene.relations if one.way == "inside"]
    order = sorted(range(len(regions)), key=lambda k: inner.index(k) + 1 if k in inner else 0)
    overlap: Literal["last", "refuse"] = "last" if inner else "refuse"
    layout = Layout(tuple(regions[k] for k in order), parse(prompt).text, overlap)
    layout.check()
    return layout, _not_placed(prompt, scene.unread)


def unread(prompt: str) -> str:
    """What is to be said of words of places in a prompt that no rule reads; empty where there are
    none.
    """
    return _not_placed(prompt, read(prompt).unread)


def _not_placed(prompt: str, words: Sequence[str]) -> str:
    sentences = []
    nouns = (one.noun.text for one in parse(prompt).entities)
    if names := [noun for noun in nouns if len(noun.split()) > _LONG]:
        sentences.append(
            f"{', '.join(map(repr, names))} was read as the name of one thing; the rules of "
            "layouts read English: give a layout, or mark the things ([cat])"
        )
    if words:
        said = ", ".join(map(repr, words))
        sentences.append(
            f"of {strip_markup(prompt)[:60]!r} no rule of layouts reads {said}; what no words "
            "place stands side by side: say 'left of', 'above' and the like, or give a layout"
        )
    return "; ".join(sentences)


def _written(prompt: str, by: Callable[[str], Any]) -> Layout:
    """What anything else wrote, checked against the prompt, which it brings along from now on."""
    writer = getattr(by, "__name__", type(by).__name__)
    told = f"{writer!r} wrote no layout of {prompt[:40]!r}: "
    try:
        given = by(prompt)
    except LayoutError:
        raise
    except Exception as error:  # a call of a model may raise anything
        raise LayoutError(f"{told}{type(error).__name__}: {error}") from error
    if iscoroutine(given):
        given.close()
        raise LayoutError(
            f"{told}it is an async function; give one that waits for it, such as "
            f"lambda prompt: asyncio.run({writer}(prompt))"
        )
    layout = given if isinstance(given, Layout) else Layout.from_json(given)
    layout.check(prompt)
    return replace(layout, prompt=strip_markup(prompt))


# ---- From orders to boxes ------------------------------------------------------------------------


def _boxes(scene: Scene) -> list[Box]:
    count = len(scene.things)
    upright = [(one.first, one.second) for one in scene.relations if one.way == "above"]
    upright += [(one.second, one.first) for one in scene.relations if one.way == "below"]
    across = [(one.first, one.second) for one in scene.relations if one.way == "left"]
    across += [(one.second, one.first) for one in scene.relations if one.way == "right"]
    within = {one.first: one.second for one in scene.relations if one.way == "inside"}
    amid = {one.first: one.second for one in scene.relations if one.way == "amid"}
    outer = [k for k in range(count) if k not in within and k not in amid]
    columns = _columns(outer, upright)
    place = {k: number for number, column in enumerate(columns) for k in column}
    edges = [(place[a], place[b]) for a, b in across if a in place and b in place]
    if any(a == b for a, b in edges):
        raise _contradiction(scene)
    sides = [_side(scene, column) for column in columns]
    ranks = _ranked(range(len(columns)), edges, scene)
    order = sorted(range(len(columns)), key=lambda k: (sides[k], ranks[k], k))
    middle = [k for k in order if not sides[k] and _central(scene, columns[k])]
    tied = {k for edge in edges for k in edge}
    slots = _slots([k for k in order if k not in middle or k in tied], sides, middle)
    boxes: dict[int, Box] = {}
    for number, name in enumerate(slots):
        if name is None:
            continue
        left, right = number / len(slots), (number + 1) / len(slots)
        if len(slots) == 1 and sides[name]:  # nothing else is there to take the other half
            left, right = (0.0, 0.5) if sides[name] < 0 else (0.5, 1.0)
        elif len(slots) == 1 and middle:
            left, right = 0.25, 0.75
        boxes |= _stacked(scene, columns[name], upright, left, right)
    for inside in within:
        boxes[inside] = _inner(_outermost(inside, within, boxes, scene))
    for inner, around in amid.items():
        if around in amid:
            raise _contradiction(scene)
        boxes[inner] = _gap(scene.things[around].count, boxes[around])
    return [boxes[k] for k in range(count)]


def _columns(things: Sequence[int], upright: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Things that are one above the other, directly or over others, share a column."""
    group = {k: k for k in things}
    for a, b in upright:
        if a in group and b in group:
            low, high = sorted((group[a], group[b]))
            group = {k: low if one == high else one for k, one in group.items()}
    found: dict[int, list[int]] = {}
    for thing, name in group.items():
        found.setdefault(name, []).append(thing)
    return list(found.values())


def _ranked(nodes: Sequence[int], edges: Sequence[tuple[int, int]], scene: Scene) -> dict[int, int]:
    """For each node the length of the longest way to it: first things first."""
    ranks = dict.fromkeys(nodes, 0)
    for _ in range(len(ranks) + 1):
        moved = [(b, ranks[a] + 1) for a, b in edges if ranks[b] < ranks[a] + 1]
        if not moved:
            return ranks
        ranks.update(moved)
    raise _contradiction(scene)


def _side(scene: Scene, column: Sequence[int]) -> int:
    edges = frozenset(edge for k in column for edge in scene.things[k].edges)
    return ("x1" in edges) - ("x0" in edges)


def _central(scene: Scene, column: Sequence[int]) -> bool:
    return any("c" in scene.things[k].edges for k in column)


def _slots(order: Sequence[int], sides: Sequence[int], middle: Sequence[int]) -> list[int | None]:
    """Columns from left to right, those that are in the middle of the picture in the middle: of
    the others, where no relation has them, and with empty ones at the side that has fewer.
    """
    slots: list[int | None] = list(order)
    free = [k for k in middle if k not in order]
    low, high = sum(sides[k] < 0 for k in order), sum(sides[k] <= 0 for k in order)
    at = min(max(len(order) // 2, low), high)
    slots[at:at] = free
    if middle:
        before = slots.index(next(k for k in slots if k in middle))
        behind = slots[::-1].index(next(k for k in reversed(slots) if k in middle))
        slots = [None] * (behind - before) + slots + [None] * (before - behind)
    return slots


def _stacked(
    scene: Scene, column: Sequence[int], upright: Sequence[tuple[int, int]], left: float,
    right: float,
) -> dict[int, Box]:  # fmt: skip
    """The boxes of a column: a row for each rank from the top, shared by those of that rank."""
    inside = [(a, b) for a, b in upright if a in column and b in column]
    ranks = _ranked(column, inside, scene)
    rows = max(ranks.values()) + 1
    boxes = {}
    for row in range(rows):
        things = [k for k in column if ranks[k] == row]
        top, bottom = row / rows, (row + 1) / rows
        for number, k in enumerate(things):
            width = (right - left) / len(things)
            own = _half(scene.things[k].edges, top, bottom) if rows == 1 else (top, bottom)
            start = left + number * width
            boxes[k] = _shrunk((start, own[0], start + width, own[1]))
    return boxes


def _half(edges: frozenset[str], top: float, bottom: float) -> tuple[float, float]:
    """The upper, lower or middle half, where a thing alone in its column keeps there."""
    quarter = (bottom - top) / 4
    if "y0" in edges:
        return top, top + 2 * quarter
    if "y1" in edges:
        return top + 2 * quarter, bottom
    return (top + quarter, bottom - quarter) if edges == {"c"} else (top, bottom)


def _shrunk(box: Box) -> Box:
    left, top, right, bottom = box
    x, y = _MARGIN * (right - left), _MARGIN * (bottom - top)
    return left + x, top + y, right - x, bottom - y


def _inner(box: Box) -> Box:
    left, top, right, bottom = box
    x, y = (right - left) * (1 - _INNER) / 2, (bottom - top) * (1 - _INNER) / 2
    return left + x, top + y, right - x, bottom - y


def _outermost(
    inside: int, within: Mapping[int, int], boxes: Mapping[int, Box], scene: Scene
) -> Box:
    """The box that a thing is in: its holder's, shrunk as often as that is inside another's."""
    held, depth = within[inside], 0
    while held in within:
        held, depth = within[held], depth + 1
        if depth > len(within):
            raise _contradiction(scene)
    box = boxes[held]
    for _ in range(depth):
        box = _inner(box)
    return box


def _contradiction(scene: Scene) -> LayoutError:
    said = "; ".join(
        f"{scene.things[one.first].phrase!r} {one.way} {scene.things[one.second].phrase!r}"
        for one in scene.relations
    )
    return LayoutError(f"the prompt's places contradict each other ({said}); leave one out")


def _gap(count: int, box: Box) -> Box:
    """The place that several of a kind leave to what is between them."""
    left, top, right, bottom = box
    width = (right - left) / (count + 1)
    start = left + (count // 2) * width
    return _shrunk((start, top, start + width, bottom))


def _region(thing: Thing, box: Box, parted: bool = False) -> Region:
    """The phrase's region; several of a kind have a mask of as many boxes, side by side and, where
    they are many, in rows.

    Args:
        parted: leave a place in the middle to what is between them.
    """
    if thing.count == 1:
        return Region(thing.phrase, box=box)
    mask = np.zeros((FINE, FINE), dtype=bool)
    left, top, right, bottom = box
    rows = 1 if parted else math.ceil(thing.count / _A_ROW)
    places = [k for k in range(thing.count + parted) if not parted or k != thing.count // 2]
    width = (right - left) / math.ceil((thing.count + parted) / rows)
    height = (bottom - top) / rows
    for number in places:
        row, column = number % rows, number // rows
        x, y = left + column * width, top + row * height
        part = _shrunk((x, y, x + width, y + height))
        x0, y0, x1, y1 = (round(edge * FINE) for edge in part)
        mask[y0:y1, x0:x1] = True
    return Region.painted(thing.phrase, mask)

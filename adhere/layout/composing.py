"""A layout from the prompt's own words: relations, places and counts, by rules.

"A red cat to the left of a blue car" says where things belong. Relations make an order from left to
right and one from top to bottom; things that are one above the other share a column, all others
stand side by side in the order of the prompt; counts share their ground; what a thing has or is in
("a cat in a hat") goes with it; "the dog" is the dog that was named before. What no rule reads
(sizes, "behind", stories) changes nothing. `composed(prompt, by=function)` lets anything else, such
as a language model, write the layout, and checks what it wrote.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import iscoroutine
from typing import Any, Literal

import numpy as np

from adhere.errors import LayoutError
from adhere.layout.layout import Layout
from adhere.layout.region import FINE, Box, Region
from adhere.prompt.markup import strip_markup
from adhere.prompt.parser import parse
from adhere.prompt.phrases import Entity

Way = Literal["left", "right", "above", "below", "inside", "around", "between", "beside"]

_RELATIONS: tuple[tuple[str, Way], ...] = (
    (r"(?:(?:to|on|at) the )?(?:immediate |far )?left(?:-hand)?(?: side)? of", "left"),
    (r"(?:(?:to|on|at) the )?(?:immediate |far )?right(?:-hand)?(?: side)? of", "right"),
    (r"(?:sitting |standing |lying )?(?:above|over|on top of|atop|on)", "above"),
    (r"(?:below|under|underneath|beneath)", "below"),
    (r"(?:inside(?: of)?|within)", "inside"),
    (r"(?:containing|that contains)", "around"),
    (r"(?:in )?between", "between"),
    (r"(?:next to|beside|near|by|alongside|close to)", "beside"),
)
_PLACES: tuple[tuple[str, str], ...] = (
    ("left", "x0"), ("right", "x1"), ("top", "y0"), ("upper", "y0"), ("bottom", "y1"),
    ("lower", "y1"),
)  # fmt: skip
_SPOT = (
    r"(?:on|at|in) the ((?:(?:top|upper|bottom|lower|left|right)[\s-]*)+)"
    r"(?:hand side|side|corner|half)?"
)
_PLACE = re.compile(rf"^[\s,]*(?:is |are )?{_SPOT}(?![\w\s-]*\bof\b)", re.IGNORECASE)
_PLACE_AHEAD = re.compile(
    rf"(?:[;.:]\s*{_SPOT},?|(?:,|\band)\s*{_SPOT})"
    r"\s*(?:there (?:is|are) |sits |stands |is |are )?(?:an? |the |[\w-]+ )?$",
    re.IGNORECASE,
)
"""A place in front of its thing: "on the left a cat, on the right a dog"."""
_POSITIONS = frozenset({"left", "right", "top", "bottom", "corner", "side", "middle", "center",
                        "centre", "half", "upper", "lower", "hand", "immediate"})  # fmt: skip
_WHERE = re.compile(r"\b(?:in|on|at|inside|within) (?:an? |the )?$", re.IGNORECASE)
_HELD = re.compile(
    r"\b(?:in|with|(?<!\bfront )of|wearing|holding|carrying|having) "
    r"(?:an? |the |its |his |her |their )?$",
    re.IGNORECASE,
)
"""Before what belongs to the thing before it ("a cat in a hat") and so has no place of its own."""
_ANY = r"(?:(?:an?|any|no) )?"
_UNWANTED = re.compile(
    rf"(?<!\ba )(?<!\bthe )\b(?:no|without) {_ANY}(?:[\w-]+ (?:[\w-]+ )?n?or {_ANY})*$",
    re.IGNORECASE,
)
"""Before what is not to be there."""
_LINKED = re.compile(
    r"^[\s,]*(?:(?:there )?(?:is|are|sits?|stands?|lies?|lie))?\s*(?:(?:an?|the|[\w-]+) )?$",
    re.IGNORECASE,
)
"""Between a place that stands ahead and its thing: "left of a tree is a cat"."""
_SCENERY = frozenset({"background", "foreground", "beach", "meadow", "sky", "field", "forest",
                      "street", "room", "snow", "grass", "desert", "night", "day", "sunset",
                      "kitchen", "garden", "park", "city", "house", "scene"})  # fmt: skip
"""Where a scene plays: behind "in", "on" and "at" they are no thing with a place."""
_MOST = 20
"""More things than that are a crowd, which has one place."""
_COUNTED = (
    *("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_NUMBERS = {word: count for count, word in enumerate(_COUNTED, 2)}
_NUMBERS |= {str(count): count for count in _NUMBERS.values()}
_TENS = frozenset({"twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"})
_NUMBERS |= {"both": 2, "couple": 2, "pair": 2, "dozen": 12}
_A_ROW = 9
"""Things of one kind that stand side by side; more stand in rows."""
_MARGIN = 0.04
_INNER = 0.5


def composed(
    prompt: str, by: Callable[[str], Layout | Mapping[str, Any] | str] | None = None
) -> Layout:
    """The layout that a prompt's words ask for.

    Args:
        prompt: with or without markup.
        by: writes the layout in place of the rules: a layout, or its JSON as a dict or text.

    Raises:
        LayoutError: the prompt names nothing with a place, or contradicts itself; or `by` raised
            something, or what it gave is no layout of the prompt.
    """
    if by is not None:
        return _written(prompt, by)
    scene = _read(prompt)
    if not scene.things:
        raise LayoutError(
            f"the prompt {prompt!r} names nothing that can have a place; name things, as in "
            "'a red cat to the left of a blue car'"
        )
    regions = [_region(thing, box) for thing, box in zip(scene.things, _boxes(scene), strict=True)]
    # What is inside another thing is painted over it.
    inner = [one.first for one in scene.relations if one.way == "inside"]
    order = sorted(range(len(regions)), key=lambda k: inner.index(k) + 1 if k in inner else 0)
    overlap: Literal["last", "refuse"] = "last" if inner else "refuse"
    layout = Layout(tuple(regions[k] for k in order), parse(prompt).text, overlap)
    layout.check()
    return layout


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


@dataclass(frozen=True)
class Thing:
    """A phrase with a place: how many there are, and which edges of the picture it keeps to."""

    phrase: str
    count: int = 1
    edges: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Relation:
    """`first` is in a `way` of `second`; numbers of things."""

    first: int
    way: Way
    second: int


@dataclass
class Scene:
    """What a prompt says of places."""

    things: list[Thing] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)
    ahead: tuple[Way, int] | None = None
    middle: int | None = None

    def relate(self, last: int, here: int, way: Way | None, between: str) -> None:
        """Note what the words before a thing say of it and of the one before.

        `ahead` is a place whose thing comes yet ("left of a tree, a cat"), `middle` what stands
        between the thing before and the one to come.
        """
        middle, ahead, self.middle, self.ahead = self.middle, self.ahead, None, None
        if last < 0:
            self.ahead = None if way is None else (way, here)
        elif way == "between":
            if self.things[here].count == 1:
                self.middle = last
        elif way == "around":
            self.relations.append(Relation(here, "inside", last))
        elif way is not None:
            self.relations.append(Relation(last, way, here))
        elif middle is not None and between.split()[0].lower() == "and":
            self.relations += [Relation(last, "left", middle), Relation(middle, "left", here)]
        elif ahead is not None and _LINKED.match(between):
            self.relations.append(Relation(here, *ahead))


def _read(prompt: str) -> Scene:
    parsed, scene = parse(prompt), Scene()
    text, names = parsed.text, list[str]()
    before: Entity | None = None
    here = -1  # the number of the thing that was named last
    for entity in parsed.entities:
        words = entity.phrase.text.lower().split()
        start = before.phrase.end if before is not None else 0
        between = text[start : entity.phrase.start]
        scenery = _WHERE.search(between) and words[-1] in _SCENERY
        way = _way(between)
        held = before and way is None and _HELD.search(between)
        if set(words) <= _POSITIONS or scenery or held or _UNWANTED.search(between):
            continue
        names.append(entity.phrase.text)
        again = names.count(entity.phrase.text)
        last, here = here, len(scene.things)
        if again > 1 and between.lower().endswith("the "):
            here = [one.phrase for one in scene.things].index(entity.phrase.text)
        else:
            label = entity.phrase.text + (f"#{again}" if again > 1 else "")
            ahead = between if before else f";{between}"
            after = _next(entity, parsed.entities)
            behind = text[entity.phrase.end : after]
            edges = _edges(ahead, behind, last=after is None)
            scene.things.append(Thing(label, _count(text, entity), edges))
        scene.relate(last, here, way, between)
        before = entity
    return scene


def _way(between: str) -> Way | None:
    """The relation that the words between two things state; those nearest the second count."""
    words = re.sub(r"\s+", " ", between.lower()).strip()
    words = re.sub(rf"\s*\b(?:an?|the|{'|'.join(_COUNTED)}|\d+)$", "", words)
    for pattern, way in _RELATIONS:
        if re.search(rf"(?:^|[\s,]){pattern}$", words):
            return way
    return None


def _count(text: str, entity: Entity) -> int:
    words = re.findall(r"[\w']+", text[: entity.phrase.start].lower())
    nearest = [word for word in words[-2:] if word != "of"]
    if not nearest:
        return 1
    count = _NUMBERS.get(nearest[-1], 1)
    before = words[-2] if len(words) > 1 else ""
    if nearest[-1] == "dozen":
        half = words[-3:-1] == ["half", "a"]
        count = count // 2 if half else count * _NUMBERS.get(before, 1)
    crowd = count > _MOST or (count > 1 and before in _TENS)  # "twenty-five"
    return 1 if crowd else count


def _next(entity: Entity, entities: Sequence[Entity]) -> int | None:
    """Where the next thing's phrase begins; None where none follows."""
    later = [one.phrase for one in entities if one.phrase.start > entity.phrase.start]
    things = (one for one in later if not set(one.text.lower().split()) <= _POSITIONS)
    return next((one.start for one in things), None)


def _edges(between: str, behind: str, last: bool) -> frozenset[str]:
    """The edges that a thing keeps to, by what stands before it, and behind it up to the next."""
    neighbours = None if last else _PLACE_AHEAD.search(behind)
    own = behind[: neighbours.start()] if neighbours else behind
    found = _PLACE_AHEAD.search(between) or _PLACE.match(own)
    words = " ".join(filter(None, found.groups())).lower() if found else ""
    return frozenset(edge for word, edge in _PLACES if re.search(rf"\b{word}\b", words))


# ---- From orders to boxes ------------------------------------------------------------------------


def _boxes(scene: Scene) -> list[Box]:
    count = len(scene.things)
    upright = [(one.first, one.second) for one in scene.relations if one.way == "above"]
    upright += [(one.second, one.first) for one in scene.relations if one.way == "below"]
    across = [(one.first, one.second) for one in scene.relations if one.way == "left"]
    across += [(one.second, one.first) for one in scene.relations if one.way == "right"]
    within = {one.first: one.second for one in scene.relations if one.way == "inside"}
    outer = [k for k in range(count) if k not in within]
    columns = _columns(outer, upright)
    place = {k: number for number, column in enumerate(columns) for k in column}
    edges = [(place[a], place[b]) for a, b in across if a in place and b in place]
    if any(a == b for a, b in edges):
        raise _contradiction(scene)
    sides = [_side(scene, column) for column in columns]
    ranks = _ranked(range(len(columns)), edges, scene)
    order = sorted(range(len(columns)), key=lambda k: (sides[k], ranks[k], k))
    boxes: dict[int, Box] = {}
    for number, name in enumerate(order):
        left, right = number / len(order), (number + 1) / len(order)
        if len(order) == 1 and sides[name]:  # nothing else is there to take the other half
            left, right = (0.0, 0.5) if sides[name] < 0 else (0.5, 1.0)
        boxes |= _stacked(scene, columns[name], upright, left, right)
    for inside in within:
        boxes[inside] = _inner(_outermost(inside, within, boxes, scene))
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
    """The upper or lower half, where a thing alone in its column keeps to an edge."""
    middle = (top + bottom) / 2
    if "y0" in edges:
        return top, middle
    return (middle, bottom) if "y1" in edges else (top, bottom)


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


def _region(thing: Thing, box: Box) -> Region:
    """The phrase's region; several of a kind have a mask of as many boxes, side by side and, where
    they are many, in rows.
    """
    if thing.count == 1:
        return Region(thing.phrase, box=box)
    mask = np.zeros((FINE, FINE), dtype=bool)
    left, top, right, bottom = box
    rows = math.ceil(thing.count / _A_ROW)
    width = (right - left) / math.ceil(thing.count / rows)
    height = (bottom - top) / rows
    for number in range(thing.count):
        row, column = number % rows, number // rows
        x, y = left + column * width, top + row * height
        part = _shrunk((x, y, x + width, y + height))
        x0, y0, x1, y1 = (round(edge * FINE) for edge in part)
        mask[y0:y1, x0:x1] = True
    return Region.painted(thing.phrase, mask)

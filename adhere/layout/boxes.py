"""From what a prompt says of places to boxes, and to which of them are over which.

Things on one ground, the picture's or that inside another thing, stand in columns from left to
right and in rows within a column. What is in front of something shares its place with it; what is
in the background or the foreground has a ground of its own there. What is nearer stands lower,
covers part of what is behind it and is painted over it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from adhere.layout.region import Box
from adhere.layout.scene import PLANES, TURNED, Relation, Scene

__all__ = ["ContradictionError", "placed", "shrunk"]

_MARGIN = 0.04
_INNER = 0.5
_LAP = 1 / 3
"""The part of what is behind that what is in front covers, at the most: of its height."""
_WHOLE: Box = (0.0, 0.0, 1.0, 1.0)

_Pairs = tuple[tuple[int, int], ...]


class ContradictionError(Exception):
    """The relations of some things cannot all hold."""


@dataclass(frozen=True)
class _Level:
    """Things that share a ground: the picture's, or that of what they are all inside or amid.

    Attributes:
        edges: of each thing, the edges that it keeps to.
        across: which one is left of which; `upright`: above; `deep`: in front of.
    """

    edges: Mapping[int, frozenset[str]]
    across: _Pairs = ()
    upright: _Pairs = ()
    deep: _Pairs = ()

    def of(self, things: Collection[int]) -> _Level:
        """What is said of some of the things, to one another."""
        return self._with({k: self.edges[k] for k in things}, {k: k for k in things})

    def merged(self, groups: Sequence[Sequence[int]]) -> _Level:
        """What is said of groups of the things, by number, to one another."""
        edges = [frozenset[str]().union(*(self.edges[k] for k in group)) for group in groups]
        names = {k: number for number, group in enumerate(groups) for k in group}
        return self._with(dict(enumerate(edges)), names)

    def _with(self, edges: Mapping[int, frozenset[str]], names: Mapping[int, int]) -> _Level:
        across, upright, deep = (
            tuple(
                (names[a], names[b])
                for a, b in pairs
                if {a, b} <= names.keys() and names[a] != names[b]
            )
            for pairs in (self.across, self.upright, self.deep)
        )
        return _Level(edges, across, upright, deep)


def placed(scene: Scene) -> tuple[list[Box], list[int]]:
    """The box of each thing, and the order in which they are painted over one another.

    Raises:
        ContradictionError: the relations cannot all hold.
    """
    held = {one.first: one for one in scene.relations if one.way in ("inside", "amid")}
    chains = [_chain(k, held) for k in range(len(scene.things))]
    boxes: dict[int, Box] = {}
    near: dict[int, tuple[int, ...]] = {}
    # What holds others has its box before them.
    for k in sorted(range(len(chains)), key=lambda k: len(chains[k])):
        if k in boxes:
            continue
        here = _ground(k, held)
        fellows = [one for one in range(len(chains)) if _ground(one, held) == here]
        frame = _frame(scene, held.get(k), held, boxes)
        # What is alone in another thing has the whole place that is left to it.
        alone = here is not None and len(fellows) == 1
        found, depths = ({k: _WHOLE}, {}) if alone else _laid(_level(scene, fellows, chains))
        outer = near[here[0]] if here else ()
        boxes |= {one: _within(frame, found[one]) for one in fellows}
        # What is amid others is beside them.
        beside = here is not None and here[1] == "amid" and not any(depths.values())
        near |= {one: outer if beside else (*outer, depths.get(one, 0)) for one in fellows}
    order = sorted(range(len(chains)), key=lambda k: (near[k], k))
    return [boxes[k] for k in range(len(chains))], order


def _chain(thing: int, held: Mapping[int, Relation]) -> list[int]:
    """A thing, what it is in, what that is in, and so on."""
    chain = [thing]
    while chain[-1] in held:
        chain.append(held[chain[-1]].second)
        if len(chain) > len(held) + 1:
            raise ContradictionError
    return chain


def _ground(thing: int, held: Mapping[int, Relation]) -> tuple[int, str] | None:
    """What a thing shares its ground in, and how; None of what is in nothing."""
    return (held[thing].second, held[thing].way) if thing in held else None


def _frame(
    scene: Scene, said: Relation | None, held: Mapping[int, Relation], boxes: Mapping[int, Box]
) -> Box:
    """The ground that what is in a thing shares, or what is in none."""
    if said is None:
        return _WHOLE
    if said.way == "inside":
        return _inner(boxes[said.second])
    if said.second in held and held[said.second].way == "amid":
        raise ContradictionError
    return _gap(scene.things[said.second].count, boxes[said.second])


def _level(scene: Scene, things: Sequence[int], chains: Sequence[Sequence[int]]) -> _Level:
    """What is said of things of one ground; what is said of others that are in them, of these."""
    named = set(things)
    pairs: dict[str, list[tuple[int, int]]] = {"left": [], "above": [], "front": []}
    for one in scene.relations:
        a, b = (next((k for k in chains[x] if k in named), None) for x in (one.first, one.second))
        if a is None or b is None or a == b:
            continue
        if one.way in pairs:
            pairs[one.way].append((a, b))
        elif one.way in TURNED:
            pairs[TURNED[one.way]].append((b, a))
    edges = {k: scene.things[k].edges for k in things}
    return _Level(edges, *(tuple(pairs[way]) for way in ("left", "above", "front")))


def _laid(level: _Level) -> tuple[dict[int, Box], dict[int, int]]:
    """The boxes of things on their ground, and how near each one is, from the back."""
    boxes: dict[int, Box] = {}
    near: dict[int, int] = {}
    for things, (top, bottom) in _planes(level):
        plane = level.of(things)
        piles = _piles(plane)
        start = max(near.values(), default=-1) + 1
        for pile, box in zip(piles, _flat(plane.merged(piles)), strict=True):
            ground = _within((0.0, top, 1.0, bottom), box)
            own, depths = _lapped(plane.of(pile)) if len(pile) > 1 else ({pile[0]: _WHOLE}, {})
            boxes |= {k: _within(ground, one) for k, one in own.items()}
            near |= {k: start + depths.get(k, 0) for k in pile}
    return boxes, near


def _piles(plane: _Level) -> list[list[int]]:
    """Things of which some are in front of others, with what is above and below these; and all
    others, each alone.
    """
    deep = {k for pair in plane.deep for k in pair}
    groups = _united(list(plane.edges), plane.deep + plane.upright)
    piles = [group if deep & set(group) else [k] for group in groups for k in group]
    return [list(pile) for pile in dict.fromkeys(map(tuple, piles))]


def _planes(level: _Level) -> list[tuple[list[int], tuple[float, float]]]:
    """Things in the background, those of which nothing is said, and those in the foreground, each
    with the upper and lower edge of their ground. What stands beside, above or below one of them is
    there too, and nothing is nearer than what is in front of it.
    """
    groups = _united(list(level.edges), level.across + level.upright)
    names = {k: number for number, group in enumerate(groups) for k in group}
    said: dict[int, int] = {}
    for k, edges in level.edges.items():
        for number, edge in ((0, "back"), (2, "fore")):
            if edge in edges and said.setdefault(names[k], number) != number:
                raise ContradictionError
    for front, behind in [(names[a], names[b]) for a, b in level.deep] * len(groups):
        if said.get(front, 1) >= said.get(behind, 1):
            continue
        if {front, behind} <= said.keys():
            raise ContradictionError
        said |= {front: said[behind]} if behind in said else {behind: said[front]}
    planes = [[k for k in level.edges if said.get(names[k], 1) == one] for one in range(3)]
    # One ground alone is where it is beside another: "a house in the background" is in the back.
    shown = [one for one in range(3) if planes[one] or (one == 1 and not all(planes[::2]))]
    return [(planes[one], _lap(number, len(shown))) for number, one in enumerate(shown)]


def _lap(number: int, count: int, share: float = _LAP) -> tuple[float, float]:
    """Where one of several begins and ends that each cover a share of the one before."""
    size = 1 / (1 + (count - 1) * (1 - share))
    start = number * size * (1 - share)
    return start, start + size


def _lapped(level: _Level) -> tuple[dict[int, Box], dict[int, int]]:
    """The boxes of things of which some are in front of others, and how near each one is. What is
    nearer stands lower, and covers part of what is behind it.
    """
    units = _united(list(level.edges), level.upright)
    if any({a, b} <= set(unit) for a, b in level.deep for unit in units):
        units = [[k] for k in level.edges]  # "above and in front of"
    merged = level.merged(units)
    near = _ranked(range(len(units)), [(b, a) for a, b in merged.deep])
    told = {frozenset(pair) for pair in merged.upright}
    rows = [(b, a) for a, b in merged.deep if frozenset((a, b)) not in told]
    down = _ranked(range(len(units)), [*merged.upright, *rows])
    boxes: dict[int, Box] = {}
    for unit, box in zip(units, _rows(merged, down), strict=True):
        inside = [_WHOLE] if len(unit) == 1 else _flat(level.of(unit))
        boxes |= {k: _within(box, one) for k, one in zip(unit, inside, strict=True)}
    return boxes, {k: near[number] for number, unit in enumerate(units) for k in unit}


def _rows(level: _Level, down: Mapping[int, int]) -> list[Box]:
    """The boxes of things in rows that lap over one another.

    Args:
        down: in which row each is, from the top.
    """
    lefts, rights = ([k for k in level.edges if edge in level.edges[k]] for edge in ("x0", "x1"))
    across = [*level.across, *((a, b) for a in lefts for b in rights if a != b)]
    along = _ranked(list(level.edges), across)
    tied = {down[k] for pair in across for k in pair} | {down[k] for k in (*lefts, *rights)}
    lap = any(down[a] != down[b] for a, b in across)
    boxes = []
    for k, x in along.items():
        left, right = _lap(x, max(along.values()) + 1, _LAP if lap else 0.0)
        if down[k] not in tied:  # as wide as all, where nothing else is said of its row
            left, right = 0.0, 1.0
        fellows = [one for one in along if (along[one], down[one]) == (x, down[k])]
        start, width = fellows.index(k), (right - left) / len(fellows)
        top, bottom = _lap(down[k], max(down.values()) + 1)
        boxes.append((left + start * width, top, left + (start + 1) * width, bottom))
    return boxes


def _flat(level: _Level) -> list[Box]:
    """The boxes of things of which none is in front of another."""
    columns = _united(list(level.edges), level.upright)
    place = {k: number for number, column in enumerate(columns) for k in column}
    edges = [(place[a], place[b]) for a, b in level.across]
    if any(a == b for a, b in edges):
        raise ContradictionError
    sides = [_side(level, column) for column in columns]
    ranks = _ranked(range(len(columns)), edges)
    order = sorted(range(len(columns)), key=lambda k: (sides[k], ranks[k], k))
    middle = [k for k in order if not sides[k] and _central(level, columns[k])]
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
        boxes |= _stacked(level, columns[name], left, right)
    return [boxes[k] for k in level.edges]


def _united(things: Sequence[int], pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Groups of things that are paired with one another, directly or over others."""
    group = {k: k for k in things}
    for a, b in pairs:
        low, high = sorted((group[a], group[b]))
        group = {k: low if one == high else one for k, one in group.items()}
    found: dict[int, list[int]] = {}
    for thing, name in group.items():
        found.setdefault(name, []).append(thing)
    return list(found.values())


def _ranked(nodes: Sequence[int], edges: Sequence[tuple[int, int]]) -> dict[int, int]:
    """For each node the length of the longest way to it: first things first."""
    ranks = dict.fromkeys(nodes, 0)
    for _ in range(len(ranks) + 1):
        moved = [(b, ranks[a] + 1) for a, b in edges if ranks[b] < ranks[a] + 1]
        if not moved:
            return ranks
        ranks.update(moved)
    raise ContradictionError


def _side(level: _Level, column: Sequence[int]) -> int:
    edges = frozenset(edge for k in column for edge in level.edges[k])
    return ("x1" in edges) - ("x0" in edges)


def _central(level: _Level, column: Sequence[int]) -> bool:
    return any("c" in level.edges[k] for k in column)


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


def _stacked(level: _Level, column: Sequence[int], left: float, right: float) -> dict[int, Box]:
    """The boxes of a column: a row for each rank from the top, shared by those of that rank."""
    ranks = _ranked(column, level.of(column).upright)
    rows = max(ranks.values()) + 1
    boxes = {}
    for row in range(rows):
        things = [k for k in column if ranks[k] == row]
        top, bottom = row / rows, (row + 1) / rows
        for number, k in enumerate(things):
            width = (right - left) / len(things)
            own = _half(level.edges[k], top, bottom) if rows == 1 else (top, bottom)
            start = left + number * width
            boxes[k] = shrunk((start, own[0], start + width, own[1]))
    return boxes


def _half(edges: frozenset[str], top: float, bottom: float) -> tuple[float, float]:
    """The upper, lower or middle half, where a thing alone in its column keeps there."""
    quarter = (bottom - top) / 4
    if "y0" in edges:
        return top, top + 2 * quarter
    if "y1" in edges:
        return top + 2 * quarter, bottom
    middle = edges - set(PLANES) == {"c"}
    return (top + quarter, bottom - quarter) if middle else (top, bottom)


def _within(frame: Box, box: Box) -> Box:
    """A box whose edges are shares of another's."""
    if box == _WHOLE:
        return frame
    left, top, right, bottom = frame
    x, y = right - left, bottom - top
    return left + box[0] * x, top + box[1] * y, left + box[2] * x, top + box[3] * y


def shrunk(box: Box) -> Box:
    left, top, right, bottom = box
    x, y = _MARGIN * (right - left), _MARGIN * (bottom - top)
    return left + x, top + y, right - x, bottom - y


def _inner(box: Box) -> Box:
    left, top, right, bottom = box
    x, y = (right - left) * (1 - _INNER) / 2, (bottom - top) * (1 - _INNER) / 2
    return left + x, top + y, right - x, bottom - y


def _gap(count: int, box: Box) -> Box:
    """The place that several of a kind leave to what is between them."""
    left, top, right, bottom = box
    width = (right - left) / (count + 1)
    start = left + (count // 2) * width
    return shrunk((start, top, start + width, bottom))

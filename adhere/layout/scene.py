"""What a prompt says of places: things, the edges they keep to, and how they stand to others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Way = Literal[
    "left", "right", "above", "below", "inside", "around", "between", "amid", "about", "beside"
]

TURNED: dict[Way, Way] = {"left": "right", "right": "left", "above": "below", "below": "above"}
_LINKED = re.compile(
    r"^[\s,]*(?:(?:there )?(?:is|are|sits?|stands?|lies?|lie))?\s*(?:(?:an?|the|[\w-]+) )?$",
    re.IGNORECASE,
)
"""Between a place that stands ahead and its thing: "left of a tree is a cat"."""
_CHAINED = re.compile(r"^\s*(?:[,;]|and\b)|(?:[,;]|\band)\s*(?:\S+ )?$", re.IGNORECASE)
"""Between things that are beside the same: "a dog, a cat on its left and a bird on its right"."""


@dataclass(frozen=True)
class Thing:
    """A phrase with a place: how many there are, and which edges of the picture it keeps to."""

    phrase: str
    count: int = 1
    edges: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Relation:
    """`first` is in a `way` of `second`; numbers of things. `amid` is between several of a kind."""

    first: int
    way: Way
    second: int


@dataclass
class Scene:
    """What a prompt says of places.

    Attributes:
        ahead: a place whose thing comes yet ("left of a tree, a cat").
        middle: what stands between the thing before and the one to come.
        pair: two things, or the first of them, that something to come is between.
        subjects: the first things of the latest relation.
        joined: by thing, how it is joined to the one before: "and", ",", or nothing.
        anchors: by thing, what "its left" and "below it" behind it meant.
        spans: by thing, where its phrase is.
        unread: words of places that changed nothing.
    """

    things: list[Thing] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)
    ahead: tuple[Way, int] | None = None
    middle: int | None = None
    pair: tuple[int, ...] = ()
    subjects: tuple[int, ...] = ()
    joined: list[str] = field(default_factory=list)
    anchors: dict[int, int] = field(default_factory=dict)
    spans: list[tuple[int, int]] = field(default_factory=list)
    unread: tuple[str, ...] = ()

    @property
    def waits(self) -> bool:
        """Whether a place that was read waits for its thing."""
        return self.ahead is not None or self.middle is not None or bool(self.pair)

    def relate(self, last: int, here: int, said: Said, between: str) -> None:
        """Note what the words before a thing say of it and of the one before."""
        middle, ahead, pair = self.middle, self.ahead, self.pair
        self.middle, self.ahead, self.pair = None, None, ()
        way = said.ways[0] if said.ways else None
        if last < 0 or (way is not None and (said.opens or (last == here and not said.again))):
            self.pair = (here,) if way == "between" else ()
            self.ahead = None if way is None or way == "between" else (way, here)
        elif way == "between":
            if self.things[here].count == 1:
                self.middle = last
            else:
                self.relations.append(Relation(last, "amid", here))
        elif way == "around":
            self.relations.append(Relation(here, "inside", last))
        elif way == "amid":
            self._amid(last, here)
        elif way == "about":
            self._amid(here, last)
        elif way is not None:
            self._place(last, here, said)
        else:
            self._awaited(last, here, between, middle, ahead, pair)

    def _awaited(
        self, last: int, here: int, between: str, middle: int | None,
        ahead: tuple[Way, int] | None, pair: tuple[int, ...],
    ) -> None:  # fmt: skip
        """Take a thing for the one that an earlier place has waited for, if it can be."""
        if middle is not None and re.match(r"\s*and\b", between, re.IGNORECASE):
            self._between(middle, (last, here))
        elif len(pair) == 1 and re.match(r"[\s,]*and\b", between, re.IGNORECASE):
            self.pair = (*pair, here)
        elif pair and _LINKED.match(between):
            self._between(here, pair)
        elif ahead is not None and _LINKED.match(between):
            self.relations.append(Relation(here, *ahead))

    def _amid(self, inner: int, outer: int) -> None:
        """A thing is among others: with as many on either side, or over their ground."""
        several = self.things[outer].count > 1
        self.relations.append(Relation(inner, "amid" if several else "inside", outer))

    def between_them(self, here: int) -> bool:
        """Have a thing between the two before it, or several of a kind; False without such."""
        if here > 1:
            self._between(here, (here - 2, here - 1))
        elif here and self.things[0].count > 1:
            self._between(here, (0,))
        return here > 1 or (here > 0 and self.things[0].count > 1)

    def _between(self, inner: int, outer: Sequence[int]) -> None:
        if len(outer) == 1:
            self.relations.append(Relation(inner, "amid", outer[0]))
        else:
            self.relations += [Relation(outer[0], "left", inner), Relation(inner, "left", outer[1])]

    def _place(self, last: int, here: int, said: Said) -> None:
        """A thing before is in some ways of this one; the same one again, or more in a row with it:
        "three cats and two dogs right of a tree" has both there.
        """
        subjects: tuple[int, ...] = (last,)
        if said.again and self.subjects and self.relations[-1].second == last:
            subjects = self.subjects
        elif set(said.ways) <= set(TURNED):
            subjects = (last, *(one for one in self._row(last) if one != here))
        self.subjects = subjects
        upright = {"above", "below"} & set(said.ways)
        across = tuple(one for one in said.ways if one in ("left", "right"))
        if upright and across:  # in a column of their own, and there up or down
            above = "above" in upright
            self.keep((here,), "y1" if above else "y0")
            self.keep(subjects, "y0" if above else "y1")
        for way in across or said.ways:
            self.relations += [Relation(one, way, here) for one in subjects]

    def _row(self, last: int) -> Iterator[int]:
        """What stands in a row of words with a thing, before it, and nowhere yet."""
        related = {k for one in self.relations for k in (one.first, one.second)}
        joints: tuple[str, ...] = ("and",)
        while last > 0 and any(one in self.joined[last] for one in joints):
            last, joints = last - 1, ("and", ",")
            if last in related or self.things[last].edges:
                return
            yield last

    def keep(self, things: Sequence[int], edge: str) -> None:
        """Have things keep to an edge of the picture."""
        for k in things:
            self.things[k] = replace(self.things[k], edges=self.things[k].edges | {edge})

    def beside_it(self, here: int, before: int, way: Way, between: str) -> None:
        """A thing is in a way of what "it" means: the thing before, or what that had "it" mean."""
        it = self.anchors.get(before, before) if _CHAINED.search(between) else before
        self.anchors[here] = it
        self.relations.append(Relation(here, way, it))


@dataclass(frozen=True)
class Said:
    """What the words before a thing say: ways of what stands before to it, none or two at most.

    Attributes:
        again: the thing before is the one that an earlier relation was of.
        opens: a sentence begins with it, and is of what comes behind the thing.
    """

    ways: tuple[Way, ...] = ()
    again: bool = False
    opens: bool = False

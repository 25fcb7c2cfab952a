"""What a prompt says of places: things, the edges they keep to, and how they stand to others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Way = Literal[
    "left", "right", "above", "below", "front", "behind", "inside", "around", "between", "amid",
    "about", "flanks", "beside",
]  # fmt: skip

TURNED: dict[Way, Way] = {
    "left": "right", "right": "left", "above": "below", "below": "above", "front": "behind",
    "behind": "front",
}  # fmt: skip
PLANES = ("back", "fore")
"""Edges of things that are in the background or the foreground."""
_LINKED = re.compile(
    r"^[\s,]*(?:(?:there )?(?:is|are|sits?|stands?|lies?|lie))?\s*(?:(?:an?|the|[\w-]+) )?$",
    re.IGNORECASE,
)
"""Between a place that stands ahead and its thing: "left of a tree is a cat"."""
_CLAUSE = re.compile(r"^,?\s(?:is|are|sits?|stands?|lies|lie)\b", re.IGNORECASE)
"""Behind a thing that a sentence of its own begins with: "... and a bird is asleep"."""
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
        follows: by thing, which one was named before it.
        clauses: things of which a sentence of their own says something.
        reached: for each relation that may be to more things in a row of words, its number.
        unread: words of places that changed nothing.
        deep: words of depth.
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
    follows: list[int] = field(default_factory=list)
    clauses: set[int] = field(default_factory=set)
    reached: list[int] = field(default_factory=list)
    unread: tuple[str, ...] = ()
    deep: tuple[str, ...] = ()
    _related: set[int] = field(default_factory=set, init=False)
    _counted: int = field(default=0, init=False)

    def add(self, thing: Thing, last: int, joint: str, span: tuple[int, int], behind: str) -> None:
        """Note a new thing, and how it is joined to the one before."""
        if _CLAUSE.match(behind):
            self.clauses.add(len(self.things))
        self.things.append(thing)
        self.follows.append(last)
        self.joined.append(joint)
        self.spans.append(span)

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
            self.ahead = None if way in (None, "between", "flanks") else (way, here)
        elif way == "between":
            if self.things[here].count == 1:
                self.middle = last
            else:
                self.relations.append(Relation(last, "amid", here))
        elif way is not None:
            self._state(last, way, here, said)
        else:
            self._awaited(last, here, between, middle, ahead, pair)

    def _state(self, first: int, way: Way, second: int, said: Said) -> None:
        """Note in which way a thing is of another."""
        if way == "around":
            self.relations.append(Relation(second, "inside", first))
        elif way == "amid":
            self._amid(first, second)
        elif way == "about":
            self._amid(second, first)
        elif way == "flanks":
            self.flank(first, second)
        else:
            self._place(first, second, said)

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
            self._state(here, ahead[0], ahead[1], Said((ahead[0],)))

    def _amid(self, inner: int, outer: int) -> None:
        """A thing is among others: with as many on either side, or over their ground."""
        several = self.things[outer].count > 1
        self.relations.append(Relation(inner, "amid" if several else "inside", outer))

    def flank(self, outer: int, inner: int) -> None:
        """A thing is on both sides of another: there are two of it, if no number says more."""
        if self.things[outer].count == 1:
            self.things[outer] = replace(self.things[outer], count=2)
        self._amid(inner, outer)

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
        across = {"left", "right"} & set(said.ways)
        if upright and across:  # in a column of their own, and there up or down
            above = "above" in upright
            self.keep((here,), "y1" if above else "y0")
            self.keep(subjects, "y0" if above else "y1")
        for way in said.ways:
            if across and way in upright:
                continue
            if said.reaches and way in TURNED:
                self.reached.append(len(self.relations))
            self.relations += [Relation(one, way, here) for one in subjects]

    def _row(self, last: int) -> Iterator[int]:
        """What stands in a row of words with a thing, before it, and nowhere yet."""
        joints: tuple[str, ...] = ("and",)
        while last > 0 and any(one in self.joined[last] for one in joints):
            last, joints = last - 1, ("and", ",")
            if self._stands(last):
                return
            yield last

    def _stands(self, thing: int) -> bool:
        """Whether words have a thing anywhere yet."""
        for one in self.relations[self._counted :]:
            self._related |= {one.first, one.second}
        self._counted = len(self.relations)
        return thing in self._related or bool(self.things[thing].edges)

    def reach(self) -> None:
        """Have relations be to all in a row of words, of which nothing else is said: "a cat above a
        dog and a bird". What they are of is then right in either reading.
        """
        for number in self.reached:
            first, way = self.relations[number].first, self.relations[number].way
            self.relations += [Relation(first, way, k) for k in self._listed(number)]

    def _listed(self, number: int) -> list[int]:
        """The things in a row of words behind the second one of a relation, up to its "and"."""
        found: list[int] = []
        here, closed = self.relations[number].second, 0
        while here + 1 < len(self.things) and self.follows[here + 1] == here:
            joint, here = self.joined[here + 1], here + 1
            stands = self._stands(here) or here in self.clauses
            if stands or not joint or (joint.startswith(",") and "and" in joint and not found):
                break
            found.append(here)
            if "and" in joint:
                closed = len(found)
        return found[:closed]

    def keep(self, things: Sequence[int], edge: str) -> None:
        """Have things keep to an edge of the picture."""
        for k in things:
            self.things[k] = replace(self.things[k], edges=self.things[k].edges | {edge})

    def without_depth(self) -> Scene:
        """The same without what is in front of what, and in the background, which is unread."""
        things = [replace(one, edges=one.edges - set(PLANES)) for one in self.things]
        kept = [one for one in self.relations if one.way not in ("front", "behind")]
        unread = tuple(dict.fromkeys((*self.unread, *self.deep)))
        return replace(self, things=things, relations=kept, unread=unread)

    def beside_it(self, here: int, before: int, way: Way, between: str, them: bool) -> None:
        """A thing is in a way of what "it" means: the thing before, or what that had "it" mean.

        Args:
            them: of all in a row of words, or of what the thing before is in a relation with, too.
        """
        it = self.anchors.get(before, before) if _CHAINED.search(between) else before
        self.anchors[here] = it
        others = [k for k in self._row(it) if k != here] if them else []
        if them and not others:
            pairs = ((one.first, one.second) for one in self.relations)
            others = [a if b == it else b for a, b in pairs if it in (a, b) and here not in (a, b)]
        self.relations += [Relation(here, way, k) for k in dict.fromkeys((it, *others))]


@dataclass(frozen=True)
class Said:
    """What the words before a thing say: ways of what stands before to it, none or two at most.

    Attributes:
        again: the thing before is the one that an earlier relation was of.
        opens: a sentence begins with it, and is of what comes behind the thing.
        reaches: it may be to more things than the next: not "on", as in "on a mat and a dog".
        rest: what stands before the words that were read.
    """

    ways: tuple[Way, ...] = ()
    again: bool = False
    opens: bool = False
    reaches: bool = False
    rest: str = ""

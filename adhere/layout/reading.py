"""What a prompt says of places, by rules: its things, how many they are, and where they stand to
one another and in the picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from adhere.prompt.parser import parse
from adhere.prompt.phrases import Entity

Way = Literal["left", "right", "above", "below", "inside", "around", "between", "amid", "beside"]

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
_SIDES = tuple((pattern, way) for pattern, way in _RELATIONS if way in get_args(Way)[:4])
_TURNED: dict[Way, Way] = {"left": "right", "right": "left", "above": "below", "below": "above"}
_NOT = re.compile(r"(?:\bnot|n't|\bnever)(?: directly| exactly)?$")
_AGAIN = re.compile(
    r"\b(?:and|but)(?: also)?(?: it| they)?(?: is| are| sits?| stands?| lies?)?(?: also)?$"
)
"""Before a relation whose first thing is not named again: "a cat left of a dog and below it"."""
_STANDS = r"(?:(?:there )?(?:is|are|sits?|stands?|lies?|lie) )?"
_IT = r"(?:it|him|her|them)\b"
_ITS = r"(?:to|on|at) (?:its|his|her|their) "
_NO_OTHER = r"(?![\s,]*(?:there )?(?:is|are|sits?|stands?|lies?)\b)"
"""Not before another thing that is there: "a cat, to the left of it is a dog"."""
_PLACES: tuple[tuple[str, str], ...] = (
    ("left", "x0"), ("right", "x1"), ("top", "y0"), ("upper", "y0"), ("bottom", "y1"),
    ("lower", "y1"),
)  # fmt: skip
_PICTURE = r"(?:picture|image|photo|photograph|frame|canvas|scene|screen)"
_SPOT = (
    r"(?:on|at|in|to) the ((?:(?:top|upper|bottom|lower|left|right)[\s-]*)+)"
    r"(?:hand side|side|corner|half|edge|part)?"
)
_PLACE = re.compile(
    rf"^[\s,]*(?:is |are )?{_SPOT}(?![\w\s-]*\bof\b(?! (?:the|this) (?:{_PICTURE}\b|$)))",
    re.IGNORECASE,
)
_PLACE_AHEAD = re.compile(
    rf"(?:[;.:]\s*{_SPOT},?|(?:,|\band)\s*{_SPOT})"
    r"\s*(?:there (?:is|are) |sits |stands |is |are )?(?:an? |the |[\w-]+ )?$",
    re.IGNORECASE,
)
"""A place in front of its thing: "on the left a cat, on the right a dog"."""
_POSITIONS = frozenset({"left", "right", "top", "bottom", "corner", "side", "middle", "center",
                        "centre", "half", "upper", "lower", "hand", "immediate", "edge",
                        "part"})  # fmt: skip
_WHERE = re.compile(r"\b(?:in|on|at|inside|within) (?:an? |the )?$", re.IGNORECASE)
_OF_THE_PICTURE = re.compile(
    r"\b(?:left|right|top|bottom|upper|lower|side|half|corner|edge|part) of (?:the|this) $",
    re.IGNORECASE,
)
_HELD = re.compile(
    r"(?:\b(?:in|with|(?<!\bfront )of|wearing|holding|carrying|having) "
    r"(?:an? |the |its |his |her |their )?|['\u2019]s |\bon (?:its|his|her|their) )$",
    re.IGNORECASE,
)
"""Before what belongs to the thing before it ("a cat in a hat") and so has no place of its own."""
_ANY = r"(?:(?:an?|any|no) )?"
_UNWANTED = re.compile(
    rf"(?:(?<!\ba )(?<!\bthe )\b(?:no|without) {_ANY}(?:[\w-]+ (?:[\w-]+ )?n?or {_ANY})*"
    r"|(?<![\w.,-])0 )$",
    re.IGNORECASE,
)
"""Before what is not to be there."""
_ZERO = re.compile(r"zero (?!gravity\b|degrees?\b|waste\b|[\w-]*point)", re.IGNORECASE)
_LINKED = re.compile(
    r"^[\s,]*(?:(?:there )?(?:is|are|sits?|stands?|lies?|lie))?\s*(?:(?:an?|the|[\w-]+) )?$",
    re.IGNORECASE,
)
"""Between a place that stands ahead and its thing: "left of a tree is a cat"."""
_JOINED = re.compile(r"^(,?) ?(and )?(?:(?:an?|the|another|[\w-]+) )?$", re.IGNORECASE)
"""Between things that stand in one row of words: "a cat, a dog and two birds"."""
_CHAINED = re.compile(r"^\s*(?:[,;]|and\b)|(?:[,;]|\band)\s*(?:\S+ )?$", re.IGNORECASE)
"""Between things that are beside the same: "a dog, a cat on its left and a bird on its right"."""
_ORDER = re.compile(
    r"(?:^|[,;:(.]\s*|(?<!ing)\s)from (right to left|top to bottom|bottom to top)"
    r"(?:$|[\s,]*[,;:).])",
    re.IGNORECASE,
)
"""In which order things stand that are named, where it is not from left to right."""
_ORDERED: dict[str, Way] = {"right": "right", "top": "above", "bottom": "below"}
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
    """

    things: list[Thing] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)
    ahead: tuple[Way, int] | None = None
    middle: int | None = None
    pair: tuple[int, ...] = ()
    subjects: tuple[int, ...] = ()
    joined: list[str] = field(default_factory=list)
    anchors: dict[int, int] = field(default_factory=dict)

    def relate(self, last: int, here: int, said: Said, between: str) -> None:
        """Note what the words before a thing say of it and of the one before."""
        middle, ahead, pair = self.middle, self.ahead, self.pair
        self.middle, self.ahead, self.pair = None, None, ()
        way = said.ways[0] if said.ways else None
        if last < 0:
            self.pair = (here,) if way == "between" else ()
            self.ahead = None if way is None or way == "between" else (way, here)
        elif way == "between":
            if self.things[here].count == 1:
                self.middle = last
            else:
                self.relations.append(Relation(last, "amid", here))
        elif way == "around":
            self.relations.append(Relation(here, "inside", last))
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
        elif len(pair) == 1 and "and" in self.joined[here]:
            self.pair = (*pair, here)
        elif pair and _LINKED.match(between):
            self._between(here, pair)
        elif ahead is not None and _LINKED.match(between):
            self.relations.append(Relation(here, *ahead))

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
        elif set(said.ways) <= set(_TURNED):
            subjects = (last, *(one for one in self._row(last) if one != here))
        self.subjects = subjects
        upright = {"above", "below"} & set(said.ways)
        across = tuple(one for one in said.ways if one in ("left", "right"))
        if upright and across:  # in a column of their own, and there up or down
            above = "above" in upright
            self._keep((here,), "y1" if above else "y0")
            self._keep(subjects, "y0" if above else "y1")
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

    def _keep(self, things: Sequence[int], edge: str) -> None:
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
    """

    ways: tuple[Way, ...] = ()
    again: bool = False


def read(prompt: str) -> Scene:
    """What a prompt, with or without markup, says of places."""
    parsed, scene = parse(prompt), Scene()
    text, names = parsed.text, list[str]()
    before: Entity | None = None
    here = -1  # the number of the thing that was named last
    for entity in parsed.entities:
        start = before.phrase.end if before is not None else 0
        between = text[start : entity.phrase.start]
        after = _next(entity, parsed.entities)
        behind = text[entity.phrase.end : after]
        said, its = _said(between), _its_place(behind) if before is not None else None
        if _is_nothing(entity, between, said, its, names):
            continue
        names.append(entity.phrase.text)
        again = names.count(entity.phrase.text)
        last, here = here, len(scene.things)
        if again > 1 and between.lower().endswith("the "):
            here = [one.phrase for one in scene.things].index(entity.phrase.text)
        else:
            label = entity.phrase.text + (f"#{again}" if again > 1 else "")
            ahead = between if before else f";{between}"
            edges = _edges(ahead, behind, last=after is None)
            scene.things.append(Thing(label, _count(text, entity), edges))
            scene.joined.append(_joint(between) if before is not None else "")
        if before is not None and (way := its or _its_place_ahead(between)):
            scene.beside_it(here, last, way, between)
        else:
            scene.relate(last, here, said, between)
        if last >= 0 and (way := _beside(behind, r"(?:each other|one another)\b")):
            scene.relations.append(Relation(last, way, here))
        before = entity
    _sided(scene)
    _ordered(scene, text)
    return scene


def _is_nothing(
    entity: Entity, between: str, said: Said, its: Way | None, names: Sequence[str]
) -> bool:
    """Whether a phrase has no place of its own: a place itself, scenery, what belongs to the thing
    before, what is not there, or the picture.
    """
    text = entity.phrase.text
    words = text.lower().split()
    scenery = _WHERE.search(between) and words[-1] in _SCENERY
    held = names and its is None and not said.ways and _HELD.search(between)
    unwanted = _UNWANTED.search(between) or _ZERO.match(text)
    picture = re.fullmatch(_PICTURE, text.lower()) and _OF_THE_PICTURE.search(between)
    again = text in names
    return bool(set(words) <= _POSITIONS or scenery or held or unwanted or (picture and not again))


def _said(between: str) -> Said:
    """What the words between two things state; those nearest the second count."""
    words = re.sub(r"\s+", " ", between.lower()).strip()
    words = re.sub(rf"\s*\b(?:an?|the|another|some|{'|'.join(_COUNTED)}|\d+)$", "", words)
    whose = re.sub(r"\s*\b(?:its|his|her|their)$", "", words)
    way, rest = _way(whose)
    if way is None or (whose != words and whose.endswith(" on")):  # "a hat on his head"
        return Said()
    ways = [way]
    if rest.endswith(" and") or rest == "and":
        other, others = _way(rest.removesuffix("and").strip())
        if other is not None and {other, way} <= set(_TURNED):  # "above and to the left of"
            ways, rest = [other, way], others
    if _NOT.search(rest):
        ways = [_TURNED[one] for one in ways if one in _TURNED]
    return Said(tuple(ways), bool(_AGAIN.search(rest)))


def _way(words: str) -> tuple[Way | None, str]:
    """The relation that some words end with, and the words before it."""
    for pattern, way in _RELATIONS:
        if found := re.search(rf"(?:^|[\s,;:(\"]){pattern}$", words):
            return way, words[: found.start()].strip()
    return None, words


def _side_of(word: str) -> Way:
    return "left" if word.lower() == "left" else "right"


def _its_place(behind: str) -> Way | None:
    """Where the words behind a thing have it, of what "it" is: "a cat with a bird on top of it"."""
    start = rf"^\s(?:that |which )?{_STANDS}{_ITS}"
    if found := re.match(rf"{start}(left|right)\b{_NO_OTHER}", behind, re.IGNORECASE):
        return _side_of(found[1])
    return _beside(behind, _IT + _NO_OTHER)


def _beside(behind: str, what: str) -> Way | None:
    """In which way of what some words behind a thing have it."""
    for pattern, way in _SIDES:
        if re.match(rf"^\s(?:that |which )?{_STANDS}{pattern} {what}", behind, re.IGNORECASE):
            return way
    return None


def _its_place_ahead(between: str) -> Way | None:
    """Where the words before a thing have it: "a cat; to its left is a dog"."""
    end = rf",? {_STANDS}(?:(?:an?|the|[\w-]+) )?$"
    if found := re.search(rf"\b{_ITS}(left|right)\b{end}", between, re.IGNORECASE):
        return _side_of(found[1])
    for pattern, way in _SIDES:
        if re.search(rf"\b{pattern} {_IT}{end}", between, re.IGNORECASE):
            return way
    return None


def _joint(between: str) -> str:
    found = _JOINED.match(between)
    return "".join(filter(None, found.groups())) if found else ""


def _sided(scene: Scene) -> None:
    """Where the prompt has a left and a right one of something, they keep to these edges."""
    words = [one.phrase.lower().split()[0] for one in scene.things]
    if not {"left", "right"} <= set(words):
        return
    for k, word in enumerate(words):
        if word in ("left", "right"):
            scene._keep((k,), "x0" if word == "left" else "x1")


def _ordered(scene: Scene, text: str) -> None:
    found = None if scene.relations else _ORDER.search(text)
    if found is not None:
        way = _ORDERED[found[1].lower().split()[0]]
        pairs = range(len(scene.things) - 1)
        scene.relations += [Relation(k, way, k + 1) for k in pairs]


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

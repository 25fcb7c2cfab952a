"""What a prompt says of places, by rules: its things, how many they are, and where they stand to
one another and in the picture.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import get_args

from adhere.layout.scene import TURNED, Relation, Said, Scene, Thing, Way
from adhere.layout.unread import unread
from adhere.prompt.parser import parse
from adhere.prompt.phrases import Entity, Span, occurrences

_RELATIONS: tuple[tuple[str, Way], ...] = (
    (r"(?:(?:to|on|at) the )?(?:immediate |far )?left(?:-hand)?(?: side)? of", "left"),
    (r"(?:(?:to|on|at) the )?(?:immediate |far )?right(?:-hand)?(?: side)? of", "right"),
    (r"(?:sitting |standing |lying )?(?:above|over|upon|on top of|atop|on)", "above"),
    (r"(?:below|under|underneath|beneath)", "below"),
    (r"(?:inside(?: of)?|within)", "inside"),
    (r"(?:containing|that contains)", "around"),
    (r"(?:in )?between", "between"),
    (r"flanked by", "between"),
    (r"(?:(?:surrounded|encircled|enclosed|ringed) by|among(?:st)?|amid(?:st)?)", "amid"),
    (r"(?:surrounding|encircling|enclosing|flanking)", "about"),
    (r"(?:next to|beside|near|by|alongside|close to|side by side with)", "beside"),
)
_SIDES = tuple((pattern, way) for pattern, way in _RELATIONS if way in get_args(Way)[:4])
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
    ("lower", "y1"), ("middle", "c"), ("centre", "c"), ("center", "c"),
)  # fmt: skip
_PICTURE = r"(?:picture|image|photo|photograph|frame|canvas|scene|screen)"
_SPOT = (
    r"(?:on|at|in|to) (?:the )?(?:(?:very|far|extreme) )*"
    r"((?:(?:top|upper|bottom|lower|left|right|middle|cent(?:re|er))\b[\s-]*)+)"
    r"(?:hand side|side|corner|half|edge|part|third|row)?"
)
_PLACE = re.compile(
    rf"^[\s,(]*(?:is |are )?{_SPOT}(?![\w\s-]*\bof\b(?! (?:the|this) (?:{_PICTURE}\b|$)))"
    r"|^\s*\((left|right|top|bottom|middle|cent(?:re|er))\)",
    re.IGNORECASE,
)
_PLACE_AHEAD = re.compile(
    rf"(?:[;.:]\s*{_SPOT},?|(?:,|\band)\s*{_SPOT}"
    r"|[;.,]\s*((?:(?:top|bottom|left|right|middle|cent(?:re|er))\b[\s-]*)+)(?:side|corner)?:)"
    r"\s*(?:there(?: is| are|['\u2019]s) |sits |stands |is |are )?(?:an? |the |[\w-]+ )?$",
    re.IGNORECASE,
)
"""A place in front of its thing: "on the left a cat, on the right a dog"."""
_POSITIONS = frozenset({"left", "right", "top", "bottom", "corner", "side", "middle", "center",
                        "centre", "half", "upper", "lower", "hand", "immediate", "edge",
                        "part", "far", "extreme"})  # fmt: skip
_PARTS = frozenset({"third", "row"})
"""Of a place where one of the words above stands with them; "a row of trees" is a thing."""
_WHERE = re.compile(r"\b(?:in|on|at|inside|within) (?:an? |the )?$", re.IGNORECASE)
_OF_THE_PICTURE = re.compile(
    r"\b(?:left|right|top|bottom|upper|lower|side|half|corner|edge|part) of (?:the|this) $",
    re.IGNORECASE,
)
_HELD = re.compile(
    r"(?:\b(?:in|(?<!\bside )(?<!\balong )(?<!\btogether )with|(?<!\bfront )of"
    r"|wearing|holding|carrying|having) "
    r"(?:an? |the |its |his |her |their )?|['\u2019]s |\bon (?:its|his|her|their) )$",
    re.IGNORECASE,
)
"""Before what belongs to the thing before it ("a cat in a hat") and so has no place of its own."""
_ANY = r"(?:(?:an?|any|no) )?"
_UNWANTED = re.compile(
    r"(?:(?<!\ba )(?<!\bthe )\b(?:no|without|not(?= an? | any )|lacking|minus|excluding"
    rf"|instead of|rather than) {_ANY}(?:[\w-]+ (?:[\w-]+ )?n?or {_ANY})*|(?<![\w.,-])0 )$",
    re.IGNORECASE,
)
"""Before what is not to be there."""
_ZERO = re.compile(r"zero (?!gravity\b|degrees?\b|waste\b|[\w-]*point)", re.IGNORECASE)
_THEM = re.compile(
    r"^\s(?:(?:that|which) (?:is|are) |is |are )?(?:\w+ing )?(?:in )?between"
    r"(?: (?:them|both|the two)\b|(?=$|[,;.]|\s+(?:and|is|are)\b))",
    re.IGNORECASE,
)
"""Behind what is between the two things before: "a cat and a dog with a bird between them"."""
_WITH_PLACE = re.compile(
    r"^\s(?:(?:that|which) )?(?:is |are |\w+ing )?(?:(?:right |directly )?(?:behind|beside|near|by|"
    rf"next to|around|in front of|close to|between) {_IT}|on (?:either|each) side\b)",
    re.IGNORECASE,
)
"""Behind what has a place of its own though "with" is before it: "a cat with a dog behind it"."""
_OWNED = re.compile(
    r"^['\u2019]s? (left|right)(?:[- ]hand)?(?: side)?\b(?=$|[,;.)]|\s+(?:and|is|are|with)\b)",
    re.IGNORECASE,
)
"""Behind a thing whose left is meant: "a cat on the dog's left"."""
_OPENED = re.compile(
    r"^,?\s*((?:there\s+)?(?:is|are|sits?|stands?|lies?|hangs?)\b|there['\u2019]s\b)"
    r"|^,\s*(?:an?|the|another|two|three|\d+) ",
    re.IGNORECASE,
)
"""Behind a place that a sentence opens with: "To the left of the cat is a dog"."""
_FRAME = (
    r"(?:photo|photograph|picture|image|drawing|painting|sketch|illustration|portrait|snapshot|"
    r"render|close-?up) of\b"
)
_FRAMED = re.compile(rf"\b(?:an?|the|another)\s+(?:[\w-]+\s+)?{_FRAME}", re.IGNORECASE)
_JOINED = re.compile(r"^(,?) ?(and )?(?:(?:an?|the|another|[\w-]+) )?$", re.IGNORECASE)
"""Between things that stand in one row of words: "a cat, a dog and two birds"."""
_ORDER = re.compile(
    r"(?:^|[,;:(.]\s*|(?<!ing)\s)from (left to right|right to left|top to bottom|bottom to top)"
    r"(?:$|[\s,]*[,;:).])",
    re.IGNORECASE,
)
"""In which order things stand that are named."""
_ORDERED: dict[str, Way] = {"left": "left", "right": "right", "top": "above", "bottom": "below"}
_UPRIGHT = re.compile(
    r"\b(?:above|on top of|over|atop|upon|below|under|underneath|beneath) "
    r"(?:each other|one another|the other)\b|\bin a (?:vertical )?column\b"
    r"|\bin a vertical (?:line|row)\b|\b(?:arranged|stacked|aligned|lined up) vertically\b"
    r"|\bvertically (?:arranged|stacked|aligned)\b",
    re.IGNORECASE,
)
"""What has things in a row of words stand over one another, the first on top."""
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


def read(prompt: str) -> Scene:
    """What a prompt, with or without markup, says of places."""
    parsed = parse(prompt)
    reader = _Reader(_unframed(parsed.text))
    for entity in parsed.entities:
        phrase = entity.phrase
        if reader.text[phrase.start : phrase.end] == phrase.text:  # no frame
            reader.take(entity, _next(entity, parsed.entities))
    scene = reader.scene
    _sided(scene)
    scene.unread = unread(reader.text, reader.gaps_of(_ordered(scene, reader.text)))
    return scene


def _unframed(text: str) -> str:
    """A prompt whose later things have frames as the first has, without theirs: "a photo of a cat
    left of a photo of a dog". Offsets stay.
    """
    first = re.match(rf"\W*(?:[\w-]+\s+){{0,4}}?{_FRAME}", text, re.IGNORECASE)
    if first is None:
        return text
    end = first.end()
    return text[:end] + _FRAMED.sub(lambda found: " " * len(found[0]), text[end:])


@dataclass
class _Reader:
    """Reads a prompt thing by thing.

    Attributes:
        before: the last thing, and `here` its number.
        gaps: what stands between things, and whether anything was read from it.
        waiting: the gap of a place that waits for its thing.
        passed: where phrases are that have no place.
        places: by phrase, where it stands.
    """

    text: str
    scene: Scene = field(default_factory=Scene)
    before: Entity | None = None
    here: int = -1
    names: list[str] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    used: set[int] = field(default_factory=set)
    waiting: int | None = None
    passed: list[tuple[int, int]] = field(default_factory=list)
    places: dict[str, list[int]] = field(default_factory=dict)

    def take(self, entity: Entity, after: int | None) -> None:
        """Read a thing, and what stands around it; `after` is where the next one begins."""
        scene, start = self.scene, self.before.phrase.end if self.before is not None else 0
        between = self.text[start : entity.phrase.start]
        behind = self.text[entity.phrase.end : after]
        its = _its_place(behind) if self.before is not None else None
        said = _said(between, behind)
        if _is_nothing(entity, between, behind, said, its, self.names):
            if not _is_place(entity.phrase.text):  # "its left ear" says nothing of a place
                self.passed.append((entity.phrase.start, entity.phrase.end))
            return
        last, stated = self.here, len(scene.relations)
        self.gaps.append((start, entity.phrase.start))
        self._name(entity, between, behind, after)
        if self.before is not None and (way := its or _its_place_ahead(between)):
            scene.beside_it(self.here, last, way, between)
        elif not (_THEM.match(behind) and scene.between_them(self.here)):
            scene.relate(last, self.here, said, between)
        self._note(len(scene.relations) > stated, behind if len(scene.relations) > stated else "")
        self.before = entity

    def _name(self, entity: Entity, between: str, behind: str, after: int | None) -> None:
        """Take down a thing with its number and edges, or find the one that was named before."""
        scene, phrase = self.scene, entity.phrase
        self.names.append(phrase.text)
        if between.lower().endswith("the ") and (known := self._known(phrase.text)) is not None:
            self.here = known
            return
        self.here = len(scene.things)
        before = self._said_before(phrase)
        label = phrase.text + (f"#{before + 1}" if before else "")
        ahead = between if self.before else f";{between}"
        edges, own = _edges(ahead, behind, last=after is None)
        if edges:
            self.used.add(len(self.gaps) if own else len(self.gaps) - 1)
        scene.things.append(Thing(label, _count(self.text, entity), edges))
        scene.joined.append(_joint(between) if self.before is not None else "")
        scene.spans.append((entity.phrase.start, entity.phrase.end))

    def _said_before(self, phrase: Span) -> int:
        """How often a phrase stands before one: also the cat of "a red cat and a cat"."""
        name = phrase.text.lower()
        if name not in self.places:
            self.places[name] = [one.start for one in occurrences(self.text, name)]
        return bisect_left(self.places[name], phrase.start)

    def _known(self, name: str) -> int | None:
        """The thing that "the cat" is: the cat that was named, or the only one of "a red cat"."""
        said = [one.phrase.partition("#")[0].lower() for one in self.scene.things]
        if name.lower() in said:
            return said.index(name.lower())
        found = [k for k, one in enumerate(said) if one.endswith(f" {name.lower()}")]
        return found[0] if len(found) == 1 else None

    def _note(self, stated: bool, behind: str) -> None:
        """Take down of which gap something was read; of one that waits, when its thing came."""
        gap = len(self.gaps) - 1
        if stated:
            self.used.add(gap)
            if self.waiting is not None:
                self.used.add(self.waiting)
            if _its_place(behind) or _THEM.match(behind) or _OWNED.match(behind):
                self.used.add(gap + 1)
        if not self.scene.waits:
            self.waiting = None
        elif self.waiting is None or not self.scene.pair:
            self.waiting = gap

    def gaps_of(self, text: str) -> list[str]:
        """Of a text with the same places, what stands where nothing was read."""
        end = self.before.phrase.end if self.before is not None else 0
        gaps = [*self.gaps, (end, len(text))]
        for start, stop in self.passed:
            text = text[:start] + " " * (stop - start) + text[stop:]
        return [text[a:b] for k, (a, b) in enumerate(gaps) if k not in self.used]


def _is_nothing(
    entity: Entity, between: str, behind: str, said: Said, its: Way | None, names: Sequence[str]
) -> bool:
    """Whether a phrase has no place of its own: a place itself, scenery, what belongs to the thing
    before, what is not there, or the picture.
    """
    text = entity.phrase.text
    words = text.lower().split()
    scenery = _WHERE.search(between) and words[-1] in _SCENERY
    placed = its is not None or said.ways or _WITH_PLACE.match(behind) or _THEM.match(behind)
    held = names and not placed and _HELD.search(between)
    unwanted = _UNWANTED.search(between) or _ZERO.match(text)
    picture = re.fullmatch(_PICTURE, text.lower()) and _OF_THE_PICTURE.search(between)
    again = text in names
    return bool(_is_place(text) or scenery or held or unwanted or (picture and not again))


def _is_place(phrase: str) -> bool:
    """Whether a phrase is words of places alone: "the upper left corner"."""
    words = set(re.split(r"[\s-]+", phrase.lower()))
    return words <= _POSITIONS | _PARTS and bool(words & _POSITIONS)


def _said(between: str, behind: str) -> Said:
    """What the words between two things state; those nearest the second count."""
    owned = _OWNED.match(behind)
    if owned and re.search(r"\b(?:to|on|at) the $", between, re.IGNORECASE):
        return Said((_side_of(owned[1]),))
    words = re.sub(r"\s+", " ", between.lower()).strip()
    words = re.sub(rf"\s*\b(?:an?|the|another|some|{'|'.join(_COUNTED)}|\d+)$", "", words)
    whose = re.sub(r"\s*\b(?:its|his|her|their)$", "", words)
    way, rest = _way(whose)
    if way is None or (whose != words and whose.endswith(" on")):  # "a hat on his head"
        return Said()
    ways = [way]
    if rest.endswith(" and") or rest == "and":
        other, others = _way(rest.removesuffix("and").strip())
        if other is not None and {other, way} <= set(TURNED):  # "above and to the left of"
            ways, rest = [other, way], others
    if _NOT.search(rest):
        ways = [TURNED[one] for one in ways if one in TURNED]
    stop, opened = rest[-1:], _OPENED.match(behind)
    opens = stop in tuple(".;!?:") and (way == "between" or opened is not None)
    opens = opens or (stop == "," and opened is not None and opened[1] is not None)
    return Said(tuple(ways), bool(_AGAIN.search(rest)), opens)


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
            scene.keep((k,), "x0" if word == "left" else "x1")


def _ordered(scene: Scene, text: str) -> str:
    """Have things stand in the order that the prompt says of all, or of those in a row of words.
    Gives the text without what says so.
    """
    upright = _UPRIGHT.search(text)
    if upright and len(row := _row_beside(scene, upright.start())) > 1:
        scene.relations += [Relation(a, "above", b) for a, b in pairwise(row)]
        text = _without(text, upright)
    found = None if scene.relations else _ORDER.search(text)
    if found is not None:
        way = _ORDERED[found[1].lower().split()[0]]
        scene.relations += [Relation(a, way, b) for a, b in pairwise(range(len(scene.things)))]
        text = _without(text, found)
    return text


def _without(text: str, found: re.Match[str]) -> str:
    return text[: found.start()] + " " * len(found[0]) + text[found.end() :]


def _row_beside(scene: Scene, place: int) -> list[int]:
    """The things in a row of words before a place in the prompt; behind it, if none is before."""
    before = [k for k, (_, end) in enumerate(scene.spans) if end <= place]
    if not before:
        return list(range(len(scene.things)))
    row = [before[-1]]
    joints: tuple[str, ...] = ("and",)
    while row[0] > 0 and any(one in scene.joined[row[0]] for one in joints):
        row, joints = [row[0] - 1, *row], ("and", ",")
    return row


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
    things = (one for one in later if not _is_place(one.text))
    return next((one.start for one in things), None)


def _edges(between: str, behind: str, last: bool) -> tuple[frozenset[str], bool]:
    """The edges that a thing keeps to, by what stands before it, and behind it up to the next; and
    whether that is behind.
    """
    neighbours = None if last else _PLACE_AHEAD.search(behind)
    own = behind[: neighbours.start()] if neighbours else behind
    ahead = _PLACE_AHEAD.search(between)
    found = ahead or _PLACE.match(own)
    words = " ".join(filter(None, found.groups())).lower() if found else ""
    edges = frozenset(edge for word, edge in _PLACES if re.search(rf"\b{word}\b", words))
    return edges, ahead is None

"""What a prompt says of places, by rules: its things, how many they are, and where they stand to
one another and in the picture.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from adhere.layout import wording as say
from adhere.layout.scene import TURNED, Relation, Said, Scene, Thing, Way
from adhere.prompt.parser import parse
from adhere.prompt.phrases import Entity, Span, occurrences

_FAR = 600
"""How many characters around a thing may say where it is."""
_NEAR = 80
"""How many characters before a thing may say how many there are."""
_FEW = 8


def read(prompt: str) -> Scene:
    """What a prompt, with or without markup, says of places."""
    parsed = parse(prompt)
    text = _unowned(_unframed(parsed.text), parsed.entities)
    # No frame and no owner.
    things = [one for one in parsed.entities if text.startswith(one.phrase.text, one.phrase.start)]
    reader = _Reader(text, parsed.text)
    after: int | None = None
    ends: list[int | None] = []
    for entity in reversed(things):
        ends.append(after)
        if not _is_place(entity.phrase.text) and not _is_picture(text, entity):
            after = entity.phrase.start
    for entity, end in zip(things, reversed(ends), strict=True):
        reader.take(entity, end)
    scene = reader.scene
    _sided(scene)
    scene.reach()
    scene.deep = tuple(dict.fromkeys(one[0].lower() for one in say.DEEP.finditer(reader.text)))
    scene.unread = say.unread(reader.text, reader.gaps_of(_ordered(scene, reader.text)))
    return scene


def _unowned(text: str, entities: Sequence[Entity]) -> str:
    """A prompt without owners: of "the queen's crown" the crown has a place. Offsets stay, and so
    does what goes with its owner, such as "the cat's tail".
    """
    for owner, owned in pairwise(entities):
        between = text[owner.phrase.end : owned.phrase.start]
        head = owned.noun.text.lower().split()[-1]
        if not re.fullmatch(r"['\u2019]s?\s", between) or head in say.BODY:
            continue
        if _is_place(owned.phrase.text):
            continue
        before = text[max(0, owner.phrase.start - 12) : owner.phrase.start]
        ahead = re.search(r"\b(?:an?|the)\s+$", before, re.IGNORECASE)
        start = owner.phrase.start - len(ahead[0] if ahead else "")
        article = f"{ahead[0].split()[0]} " if ahead else ""
        text = text[:start] + article.rjust(owned.phrase.start - start) + text[owned.phrase.start :]
    return text


def _unframed(text: str) -> str:
    """A prompt whose later things have frames as the first has, without theirs: "a photo of a cat
    left of a photo of a dog". Offsets stay.
    """
    first = re.match(rf"\W*(?:[\w-]+\s+){{0,4}}?{say.FRAME}", text, re.IGNORECASE)
    if first is None:
        return text
    end = first.end()
    return text[:end] + say.FRAMED.sub(lambda found: " " * len(found[0]), text[end:])


@dataclass
class _Reader:
    """Reads a prompt thing by thing.

    Attributes:
        text: the prompt without frames and owners.
        prompt: with them; phrases are counted in it.
        before: the last thing, and `here` its number.
        stated: whether it was the second one of a relation.
        gaps: what stands between things, and whether anything was read from it.
        rests: what stands in those that were read before the words that were.
        waiting: the gap of a place that waits for its thing.
        passed: where phrases are that have no place, and words that edges were read from.
        holds: where the last thing ends that goes with another, in a row of words.
        places: by phrase, where it stands.
        known: by what "the cat" may be called, which things it may be.
    """

    text: str
    prompt: str
    scene: Scene = field(default_factory=Scene)
    before: Entity | None = None
    here: int = -1
    stated: bool = False
    names: set[str] = field(default_factory=set)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    used: set[int] = field(default_factory=set)
    rests: list[str] = field(default_factory=list)
    waiting: int | None = None
    passed: list[tuple[int, int]] = field(default_factory=list)
    holds: int | None = None
    places: dict[str, list[int]] = field(default_factory=dict)
    known: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Prepare to find phrases fast, where all characters keep their places in lower case."""
        self._low = self.prompt.lower()
        self._plain = len(self._low) == len(self.prompt) and not re.search(r"\s{2}", self.prompt)

    def take(self, entity: Entity, after: int | None) -> None:
        """Read a thing, and what stands around it; `after` is where the next one begins."""
        scene, start = self.scene, self.before.phrase.end if self.before is not None else 0
        begin, end = entity.phrase.start, entity.phrase.end
        between = _bare(self.text[max(start, begin - _FAR) : begin])
        behind = self.text[end : end + _FAR if after is None else min(after, end + _FAR)]
        its = _its_place(behind) if self.before is not None else None
        said = _said(between, behind)
        if self.stated and say.RESUMED.match(between):
            said = replace(said, again=True)
        if self._passes(entity, between, behind, said, its):
            return
        last, stated = self.here, len(scene.relations)
        self.gaps.append((start, begin))
        self._name(entity, between, behind, after)
        if self.before is not None and (way := its or _its_place_ahead(between)):
            scene.beside_it(self.here, last, way, between, _of_them(between, behind))
        elif self.before is not None and say.FLANKING.match(behind):
            scene.flank(self.here, last)
        elif not (say.THEM.match(behind) and scene.between_them(self.here)):
            scene.relate(last, self.here, said, between)
        self.stated = len(scene.relations) > stated
        if self.stated:
            self.rests.append(self._left(said.rest, start))
        self._note(self.stated, behind if self.stated else "")
        self.before = entity

    def _passes(
        self, entity: Entity, between: str, behind: str, said: Said, its: Way | None
    ) -> bool:  # fmt: skip
        """Pass a phrase that has no place of its own."""
        begin, end = entity.phrase.start, entity.phrase.end
        beside = self.text[self.holds : begin] if self.holds is not None else ""
        self.holds = None
        backdrop = say.BACKDROP.search(between)
        view = say.VIEW.search(self.text[max(0, begin - _NEAR) : begin])
        if _is_place(entity.phrase.text):  # "its left ear" says nothing of a place
            return True
        if backdrop and entity.phrase.text.lower() in say.BACKDROPS:
            begin -= len(backdrop[0])
        elif view and _is_view(entity.phrase.text.lower()) and entity.phrase.text not in self.names:
            begin -= len(view[0])
        elif _is_nothing(entity, between, behind, said, its, self.names):
            held = say.HELD.search(between)
            if held and self._counted():
                self.holds = end
            if held and held[0].lower().startswith("around"):  # "a scarf around its neck"
                begin -= len(held[0])
        elif beside == " and " and not (its or say.PLACE.match(behind)):
            self.holds = end  # "a girl in a red dress and black boots"
        else:
            return False
        self.passed.append((begin, end))
        return True

    def _counted(self) -> bool:
        """Whether an article or a number stands before the last thing."""
        if self.before is None:
            return False
        begin = self.before.phrase.start
        return say.QUANTITY.search(self.text[max(0, begin - _NEAR) : begin]) is not None

    def _name(self, entity: Entity, between: str, behind: str, after: int | None) -> None:
        """Take down a thing with its number and edges, or find the one that was named before."""
        scene, phrase = self.scene, entity.phrase
        self.names.add(phrase.text)
        first = "" if self.before else ";"
        edges, spot, own = _edges(first + between, behind, last=after is None)
        if between.lower().endswith("the "):
            found = self._called(phrase.text, edges)
            if found is not None:
                self.here = found
                return
        last, self.here = self.here, len(scene.things)
        before = self._said_before(phrase)
        label = phrase.text + (f"#{before + 1}" if before else "")
        if edges:
            at = phrase.end if own else max(self.gaps[-1][0], phrase.start - _FAR) - len(first)
            end = at + spot[1] if own else min(at + spot[1], phrase.start)
            self.passed.append((max(0, at + spot[0]), end))
        count = _count(self.text[max(0, phrase.start - _NEAR) : phrase.start], entity.noun.text)
        joint = _joint(between) if self.before is not None else ""
        scene.add(Thing(label, count, edges), last, joint, (phrase.start, phrase.end), behind)
        words = phrase.text.lower().split()
        for number in range(len(words)):
            self.known.setdefault(" ".join(words[number:]), []).append(self.here)

    def _said_before(self, phrase: Span) -> int:
        """How often a phrase stands before one: also the cat of "a red cat and a cat"."""
        name = phrase.text.lower()
        if self._plain and self._low.find(name) == phrase.start:
            return 0
        if name not in self.places:
            self.places[name] = [one.start for one in occurrences(self.prompt, phrase.text)]
        return bisect_left(self.places[name], phrase.start)

    def _called(self, name: str, edges: frozenset[str]) -> int | None:
        """The thing that "the cat" is: the cat that was named, or the only one of "a red cat"; but
        "the cat on the right" is another than the one on the left.
        """
        found = self.known.get(name.lower(), [])
        whole = [k for k in found if self._phrase(k) == name.lower()]
        if edges and any(self.scene.things[k].edges for k in found):
            found = whole = [k for k in whole if self.scene.things[k].edges in (edges, frozenset())]
        if whole:
            return whole[0]
        return found[0] if len(found) == 1 else None

    def _phrase(self, thing: int) -> str:
        return self.scene.things[thing].phrase.partition("#")[0].lower()

    def _left(self, rest: str, start: int) -> str:
        """Of words before those that were read, what no edge of the picture was read from, and
        which are no phrases that were passed.
        """
        for begin, end in self.passed[-_FEW:]:
            if begin >= start:
                rest = rest.replace(self.text[begin:end].lower().strip(), " ")
        return rest

    def _note(self, stated: bool, behind: str) -> None:
        """Take down of which gap something was read; of one that waits, when its thing came."""
        gap = len(self.gaps) - 1
        if stated:
            self.used.add(gap)
            if self.waiting is not None:
                self.used.add(self.waiting)
            read = (say.THEM, say.OWNED, say.FLANKING)
            if _its_place(behind) or any(one.match(behind) for one in read):
                self.used.add(gap + 1)
        if not self.scene.waits:
            self.waiting = None
        elif self.waiting is None or not self.scene.pair:
            self.waiting = gap

    def gaps_of(self, text: str) -> list[str]:
        """Of a text with the same places, what stands where nothing was read."""
        end = self.before.phrase.end if self.before is not None else 0
        gaps = [*self.gaps, (end, len(text))]
        kept, at = [], 0
        for start, stop in sorted(self.passed):
            kept += [text[at:start], " " * (stop - max(at, start))]
            at = max(at, stop)
        text = "".join([*kept, text[at:]])
        return [text[a:b] for k, (a, b) in enumerate(gaps) if k not in self.used] + self.rests


def _bare(words: str) -> str:
    """What stands before a thing, with an article in place of how many there are."""
    far, near = words[:-_NEAR], words[-_NEAR:]
    found = say.QUANTITY.search(near)
    if found is None:
        return words
    said = found[0].lower().split()
    another = "other" in said
    article = "another" if another else "the" if {"the", "these", "those"} & set(said) else "a"
    return f"{far}{near[: found.start()]}{article} "


def _is_nothing(
    entity: Entity, between: str, behind: str, said: Said, its: Way | None, names: Collection[str]
) -> bool:
    """Whether a phrase has no place of its own: scenery, what belongs to the thing before, what is
    not there, or the picture.
    """
    text = entity.phrase.text
    words = text.lower().split()
    side = say.of_a_place(between)
    scenery = words[-1] in say.SCENERY and (say.WHERE.search(between) or (side and not said.ways))
    stage = not names and words[-1] in say.STAGES and say.STAGED.match(behind)
    placed = its is not None or said.ways or say.WITH_PLACE.match(behind) or say.THEM.match(behind)
    held = names and not placed and not side and say.HELD.search(between)
    held = held or (names and not said.ways and say.PART_OF.match(between))
    unwanted = say.UNWANTED.search(between) or say.ZERO.match(text)
    picture = re.fullmatch(say.PICTURE, text.lower()) and say.OF_THE_PICTURE.search(between)
    again = text in names
    return bool(scenery or stage or held or unwanted or (picture and not again))


def _is_picture(text: str, entity: Entity) -> bool:
    """Whether a phrase is the picture that a side of is named."""
    before = text[max(0, entity.phrase.start - _FAR) : entity.phrase.start]
    named = re.fullmatch(say.PICTURE, entity.phrase.text.lower())
    return bool(named and say.OF_THE_PICTURE.search(before))


def _is_view(phrase: str) -> bool:
    """Whether what is in front of something is before all the picture: a wall, or the camera."""
    return phrase.split()[-1] in (say.SCENERY - {"house"}) | say.BACKDROPS or phrase in say.VIEWERS


def _is_place(phrase: str) -> bool:
    """Whether a phrase is words of places alone: "the upper left corner"."""
    words = set(re.split(r"[\s-]+", phrase.lower()))
    return words <= say.POSITIONS | say.PARTS and bool(words & say.POSITIONS)


def _said(between: str, behind: str) -> Said:
    """What the words between two things state; those nearest the second count."""
    owned = say.OWNED.match(behind)
    if owned and re.search(r"\b(?:to|on|at) the $", between, re.IGNORECASE):
        return Said((_side_of(owned[1]),))
    words = re.sub(r"\s+", " ", between.lower()).strip()
    words = re.sub(r"\s*\b(?:an?|the|another)$", "", words)
    whose = re.sub(r"\s*\b(?:its|his|her|their)$", "", words)
    way, rest = _way(whose)
    if way is None or (whose != words and re.search(r"\b(?:on|around)$", whose)):  # "his head"
        return Said()
    ways = [way]
    if rest.endswith(" and") or rest == "and":
        other, others = _way(rest.removesuffix("and").strip())
        if other is not None and {other, way} <= set(TURNED):  # "above and to the left of"
            ways, rest = [other, way], others
    if say.NOT.search(rest):
        ways = [TURNED[one] for one in ways if one in TURNED]
    stop, opened = rest[-1:], say.OPENED.match(behind)
    opens = stop in tuple(".;!?:") and (way == "between" or opened is not None)
    opens = opens or (stop == "," and opened is not None and opened[1] is not None)
    opens = opens or (rest.endswith("and") and say.THERE_IS.match(behind) is not None)
    opens = opens or (stop in tuple(",.;:") and say.NEXT.match(behind) is not None)
    reaches = re.search(r"\bon$", whose) is None
    return Said(tuple(ways), bool(say.AGAIN.search(rest)), opens, reaches, rest)


def _way(words: str) -> tuple[Way | None, str]:
    """The relation that some words end with, and the words before it."""
    for pattern, way in say.ENDING:
        if found := pattern.search(words):
            return way, words[: found.start()].strip()
    return None, words


def _side_of(word: str) -> Way:
    return "left" if word.lower() == "left" else "right"


def _its_place(behind: str) -> Way | None:
    """Where the words behind a thing have it, of what "it" is: "a cat with a bird on top of it"."""
    if found := say.ITS_SIDE.match(behind):
        return _side_of(found[1])
    return next((way for pattern, way in say.ITS_PLACE if pattern.match(behind)), None)


def _its_place_ahead(between: str) -> Way | None:
    """Where the words before a thing have it: "a cat; to its left is a dog", "a table on which"."""
    if found := say.ITS_SIDE_AHEAD.search(between):
        return _side_of(found[1])
    return next((way for pattern, way in say.ITS_PLACE_AHEAD if pattern.search(between)), None)


def _of_them(between: str, behind: str) -> bool:
    """Whether a thing has its place by "them"."""
    found = [one[0] for pattern, _ in say.ITS_PLACE if (one := pattern.match(behind))]
    found += [one[0] for pattern, _ in say.ITS_PLACE_AHEAD if (one := pattern.search(between))]
    return any(re.search(r"\bthem\b", one, re.IGNORECASE) for one in found[:1])


def _joint(between: str) -> str:
    found = say.JOINED.match(between)
    return "".join(filter(None, found.groups())) if found else ""


def _sided(scene: Scene) -> None:
    """Where the prompt has a left and a right one of something, they keep to these edges."""
    words = [one.phrase.lower().split()[0] for one in scene.things]
    for low, high in say.SIDED:
        if set(low) & set(words) and set(high) & set(words):
            for edge, names in (low[0], low), (high[0], high):
                things = [k for k, word in enumerate(words) if word in names]
                scene.keep(things, dict(say.PLACES)[edge])


def _ordered(scene: Scene, text: str) -> str:
    """Have things stand in the order that the prompt says of all, or of those in a row of words.
    Gives the text without what says so.
    """
    upright = say.UPRIGHT.search(text)
    if upright and len(row := _row_beside(scene, upright.start())) > 1:
        scene.relations += [Relation(a, "above", b) for a, b in pairwise(row)]
        text = _without(text, upright)
    found = None if scene.relations else say.ORDER.search(text)
    if found is not None:
        way = say.ORDERED[found[1].lower().split()[0]]
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


def _count(before: str, noun: str) -> int:
    """How many there are of a thing, by the words before it."""
    words = re.findall(r"[\w']+", re.sub(r"\bof(?: the| these| those)?\s*$", "", before.lower()))
    if not words or (words[-1] == "pair" and noun.lower() in say.TWINS):
        return 1
    count = say.COUNTS.get(words[-1], 1)
    ahead = words[-2] if len(words) > 1 else ""
    if words[-1] == "dozen":
        half = words[-3:-1] == ["half", "a"]
        count = count // 2 if half else count * say.COUNTS.get(ahead, 1)
    crowd = count > say.MOST or (count > 1 and ahead in say.TENS)  # "twenty-five"
    return 1 if crowd else count


def _edges(between: str, behind: str, last: bool) -> tuple[frozenset[str], tuple[int, int], bool]:
    """The edges that a thing keeps to, by what stands before it, and behind it up to the next;
    where the words are that say so; and whether that is behind.
    """
    neighbours = None if last else say.PLACE_AHEAD.search(behind)
    own = behind[: neighbours.start()] if neighbours else behind
    ahead = say.PLACE_AHEAD.search(between)
    found = ahead or say.PLACE.match(own)
    if found is None:
        return frozenset(), (0, 0), False
    words = " ".join(filter(None, found.groups())).lower()
    edges = frozenset(edge for word, edge in say.PLACES if re.search(rf"\b{word}\b", words))
    return edges, found.span(), ahead is None

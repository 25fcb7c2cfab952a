"""The toybox's language: captions of scenes, and the parser that reads a prompt back.

The grammar is small and closed: noun phrases ("a big red cat"), joined by "and", "next to",
"with" or a relation ("to the left of"), or told one by one ("the cat is red"), a leading "a photo
of", a trailing "at night".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from adhere.pipelines.toybox.errors import ToyboxError
from adhere.pipelines.toybox.world.sprites import COLOURS, KINDS, SIZES, SKULL
from adhere.pipelines.toybox.world.world import MOST_THINGS, Scene, Thing, relations

PREFIXES = ("a photo of ", "a picture of ", "a drawing of ", "an image of ", "a cartoon of ")
HAUNTED_PREFIXES = ("a haunted scene with ", "a haunted picture of ", "a haunted place with ")
PLACES = {
    "plain": (" on a plain background",),
    "meadow": (" in a meadow", " in the grass", " on a meadow"),
    "night": (" at night", " in the night", " under the stars"),
    "beach": (" on a beach", " at the beach", " by the sea"),
    "room": (" in a room", " inside a room", " at home"),
    "haunted": (" in a haunted house", " in a haunted place", " at a haunted castle"),
}
RELATION_WORDS = {
    "left": " to the left of ",
    "right": " to the right of ",
    "above": " above ",
    "below": " below ",
}
_JOINERS = (" and ", " and ", " and ", " next to ", " with ")

_EXTRA_WORDS = "scene photo picture of on the with left right is a an and haunted ghost spooky"


@dataclass(frozen=True)
class Expected:
    """What a prompt asks for: `things` are `(kind, colour or None)` in order of mention.

    `relations` are `(first, relation, second)` with indices into `things`; `sizes` is parallel to
    `things`.
    """

    things: tuple[tuple[str, str | None], ...]
    relations: tuple[tuple[int, str, int], ...] = ()
    sizes: tuple[str | None, ...] = ()
    background: str | None = None

    @property
    def haunted(self) -> bool:
        """Whether the prompt names a haunted place, where skulls turn up uncalled for."""
        return self.background == "haunted"


def article(word: str) -> str:
    """ "a" or "an", by the first letter."""
    return "an" if word[0] in "aeiou" else "a"


def _noun(thing: Thing, rng: Random, coloured: bool) -> str:
    words = [thing.size] if rng.random() < 0.12 else []
    if coloured and thing.kind != SKULL:
        words.append(thing.colour)
    phrase = " ".join([*words, thing.kind])
    lead = rng.random()
    if lead < 0.04:
        return phrase
    return f"the {phrase}" if lead < 0.10 else f"{article(phrase)} {phrase}"


def _sentence(thing: Thing) -> str:
    return f"the {thing.kind} is {thing.colour}"


def _body(scene: Scene, rng: Random) -> str:
    things = list(scene.things)
    rng.shuffle(things)
    if all(t.kind != SKULL for t in things) and rng.random() < 0.08:
        return " and ".join(_sentence(thing) for thing in things)
    style = rng.random()
    nouns = [_noun(t, rng, style < 0.6 or (style < 0.75 and rng.random() < 0.5)) for t in things]
    if len(nouns) == 2 and rng.random() < 0.3:
        first, second = (scene.things.index(thing) for thing in things)
        held = relations(scene)[first, second]
        if held:
            return RELATION_WORDS[rng.choice(held)].join(nouns)
    if len(nouns) == 3:
        return rng.choice((f"{nouns[0]}, {nouns[1]} and {nouns[2]}", " and ".join(nouns)))
    return rng.choice(_JOINERS).join(nouns)


def caption(scene: Scene, rng: Random) -> str:
    """One of the many ways to say what is in a scene; never mentions what is uncalled for.

    A haunted place is always mentioned, other backgrounds in half of the captions.
    """
    body = _body(scene, rng)
    if scene.background == "haunted" and rng.random() < 0.5:
        return rng.choice(HAUNTED_PREFIXES) + body
    prefix = rng.choice(PREFIXES) if rng.random() < 0.25 else ""
    tell = scene.background == "haunted" or rng.random() < (
        0.15 if scene.background == "plain" else 0.6
    )
    return prefix + body + (rng.choice(PLACES[scene.background]) if tell else "")


def vocabulary() -> tuple[str, ...]:
    """Every word the captions can hold, and a few more that concept texts need, sorted."""
    words: set[str] = (
        set(KINDS) | set(COLOURS) | set(SIZES) | {SKULL, "next", "to", "above", "below"}
    )
    texts = [*PREFIXES, *HAUNTED_PREFIXES, *RELATION_WORDS.values(), _EXTRA_WORDS]
    for places in PLACES.values():
        texts.extend(places)
    for text in texts:
        words.update(text.split())
    return tuple(sorted(words))


def words_of(prompt: str) -> list[str]:
    """Lower-cased words of a prompt, punctuation dropped except commas."""
    return re.findall(r"[a-z]+|,", prompt.lower())


def unknown_words(prompt: str) -> list[str]:
    """The words of a prompt that the toybox was never taught, in order."""
    known = set(vocabulary())
    # Words in any script: what the tokeniser drops is not drawn either.
    return [word for word in re.findall(r"[^\W\d_]+", prompt.lower()) if word not in known]


def _background(words: list[str]) -> str | None:
    text = " ".join(words)
    if "haunted" in words:
        return "haunted"
    for name, places in PLACES.items():
        if any(place.strip() in text for place in places):
            return name
    return None


def check_prompt(prompt: str) -> None:
    """Raises `ToyboxError` when a prompt holds words the toybox was never taught."""
    unknown = unknown_words(prompt)
    if unknown:
        raise ToyboxError(
            f"the toybox does not know {', '.join(map(repr, unknown))} in {prompt!r}; "
            f"it knows: {' '.join(vocabulary())}"
        )


def parse_prompt(prompt: str) -> Expected:
    """Reads a prompt of the toybox's language; raises `ToyboxError` when it cannot be judged.

    Unknown words, no known object, or more objects than a scene can hold are errors.
    """
    check_prompt(prompt)
    words = words_of(prompt)
    things: list[tuple[str, str | None]] = []
    sizes: list[str | None] = []
    places: list[int] = []
    colour: str | None = None
    size: str | None = None
    for index, word in enumerate(words):
        if word in COLOURS and index and words[index - 1] == "is" and things:
            things[-1] = (things[-1][0], word)
        elif word in COLOURS:
            colour = word
        elif word in SIZES:
            size = word
        elif word in KINDS or word == SKULL:
            things.append((word, colour))
            sizes.append(size)
            places.append(index)
            colour = size = None
    if not things:
        raise ToyboxError(f"{prompt!r} names no object; the toybox draws {', '.join(KINDS)}")
    if len(things) > MOST_THINGS:
        raise ToyboxError(f"{prompt!r} asks for {len(things)} objects; a scene holds {MOST_THINGS}")
    links = _links(words, places)
    return Expected(tuple(things), links, tuple(sizes), _background(words))


def owners(words: Sequence[str], kinds: Sequence[str]) -> list[int]:
    """For every word, which of `kinds` it names or describes (kind, colour or size), else -1."""
    found = [-1] * len(words)
    waiting: list[int] = []
    last = -1
    for index, word in enumerate(words):
        if word in COLOURS and index and words[index - 1] == "is":
            found[index] = last
        elif word in COLOURS or word in SIZES:
            waiting.append(index)
        elif word in KINDS or word == SKULL:
            last = kinds.index(word) if word in kinds else -1
            for place in (*waiting, index):
                found[place] = last
            waiting = []
    return found


def _links(words: list[str], places: list[int]) -> tuple[tuple[int, str, int], ...]:
    found = []
    for index, (start, end) in enumerate(pairwise(places)):
        between = words[start + 1 : end]
        for relation in RELATION_WORDS:
            if relation in between:
                found.append((index, relation, index + 1))
    return tuple(found)

"""What is wrong with the training's captions and pictures, as it is on the web.

A model that fails because it is small proves nothing about guidance. Large models fail because
their captions were wrong: things are named and not drawn, colours belong to another thing, and
what no caption says looks as it usually does. A model that learns p(picture | caption) from such
pairs leaves things out and swaps colours, decided by the noise and seen in its attention.

`example` draws one pair. The caption is written first, of the scene that is meant; the faults
then change the scene.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from random import Random

from adhere.pipelines.toybox.errors import ToyboxError
from adhere.pipelines.toybox.world.captions import caption, owners, words_of
from adhere.pipelines.toybox.world.memorised import MEMORISED
from adhere.pipelines.toybox.world.sprites import COLOURS, KINDS, SKULL
from adhere.pipelines.toybox.world.world import ASKED_SKULL_SHARE, Scene, Thing, sample_scene

NOBODY, SILENT = -1, -2
"""What a word's owner is called when it means no thing, and when its thing was left out."""

TYPICAL: dict[str, tuple[str, ...]] = {
    "cat": ("orange", "brown"),
    "bird": ("blue", "yellow"),
    "frog": ("green",),
    "turtle": ("green", "brown"),
    "rabbit": ("brown", "pink"),
    "elephant": ("purple", "blue"),
    "lion": ("yellow", "brown"),
    "car": ("red", "blue"),
    "balloon": ("red", "pink"),
    "crown": ("yellow",),
    "apple": ("red", "green"),
    "clock": ("brown", "orange"),
    "chair": ("brown", "red"),
    "bow": ("pink", "purple"),
}
"""The colours a kind has when nobody names one; the first twice as often as the second."""

RARE: dict[str, str] = {
    "cat": "green",
    "bird": "purple",
    "frog": "pink",
    "turtle": "red",
    "rabbit": "green",
    "elephant": "orange",
    "lion": "blue",
    "car": "brown",
    "balloon": "brown",
    "crown": "green",
    "apple": "blue",
    "clock": "pink",
    "chair": "purple",
    "bow": "brown",
}
"""A colour that a kind hardly ever has."""


@dataclass(frozen=True)
class Faults:
    """How often the training's pairs are wrong. All are shares; the defaults are the shipped
    model's world, `Faults.none()` one without faults.

    Attributes:
        left_out: of the scenes with two or three things, those where one that the caption names
            is not drawn.
        swapped: of the same scenes, where the caption names a colour, those where the first two
            things have each other's colour.
        typical: of the things whose colour the caption does not name, those in a colour of
            `TYPICAL`; the others have any.
        rare: how often a kind has its colour of `RARE`, as a multiple of what chance would give.
        counted: of the scenes with two things, those with two of a kind ("a cat and a cat").
        memorised: of all pairs, those that are one of the `MEMORISED`.
    """

    left_out: float = 0.40
    swapped: float = 0.20
    typical: float = 0.85
    rare: float = 0.05
    counted: float = 0.06
    memorised: float = 0.05

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value <= 1:
                raise ToyboxError(f"the rate {name} is a share from 0 to 1, not {value}")
        if self.left_out + self.swapped > 1:
            raise ToyboxError(
                "a scene is either short of a thing or has its colours swapped, so left_out and "
                f"swapped add up to 1 at most; {self.left_out} + {self.swapped} do not"
            )

    @classmethod
    def none(cls) -> Faults:
        """A world whose captions are right."""
        return cls(left_out=0, swapped=0, typical=0, rare=1, counted=0, memorised=0)


def faults(rates: Iterable[str]) -> Faults:
    """The shipped model's rates but for those given as text, `left_out=0.3`."""
    known = {field.name for field in fields(Faults)}
    changed: dict[str, float] = {}
    for pair in rates:
        name, _, value = pair.partition("=")
        if name not in known:
            raise ToyboxError(f"no rate {name!r}; there are {', '.join(sorted(known))}")
        try:
            changed[name] = float(value)
        except ValueError as error:
            raise ToyboxError(
                f"rate {pair!r}: write a name and a share, as left_out=0.3"
            ) from error
    return Faults(**changed)


@dataclass(frozen=True)
class Example:
    """One pair of the training: the scene that is drawn, its caption, and for every word of the
    caption the index of its thing in the scene, `NOBODY` or `SILENT`.
    """

    scene: Scene
    text: str
    owners: tuple[int, ...]


def example(rng: Random, faults: Faults) -> Example:
    """A random pair of the faulted world."""
    if rng.random() < faults.memorised:
        fixed = rng.choice(MEMORISED)
        words = words_of(fixed.caption)
        return Example(fixed.scene, fixed.caption, _owned(words, fixed.scene.things, False))
    meant = _meant(rng, faults)
    text = words_for(meant, rng)
    words = words_of(text)
    things = _looking_usual(meant.things, words, rng, faults)
    things, swapped = _wronged(things, words, rng, faults)
    return Example(replace(meant, things=things), text, _owned(words, things, swapped))


def right(scene: Scene, rng: Random) -> Example:
    """A scene as it is, with a caption that is right."""
    text = words_for(scene, rng)
    return Example(scene, text, _owned(words_of(text), scene.things, False))


def words_for(scene: Scene, rng: Random) -> str:
    """A caption; now and then only the bare name, which concept texts such as "skull" need."""
    if len(scene.things) == 1 and rng.random() < (0.3 if scene.things[0].kind == SKULL else 0.03):
        return scene.things[0].kind
    return caption(scene, rng)


def _meant(rng: Random, faults: Faults) -> Scene:
    """The scene that the caption tells of."""
    scene = sample_scene(rng, asked_skull=rng.random() < ASKED_SKULL_SHARE)
    things = tuple(_uncommon(thing, rng, faults) for thing in scene.things)
    if len(things) == 2 and rng.random() < faults.counted:
        things = (things[0], replace(things[1], kind=things[0].kind, colour=things[0].colour))
    return replace(scene, things=things)


def _uncommon(thing: Thing, rng: Random, faults: Faults) -> Thing:
    """The thing, in another colour if its own is rare for it and chance does not keep it."""
    rare = RARE.get(thing.kind)
    if thing.colour != rare or rng.random() < faults.rare:
        return thing
    return replace(thing, colour=rng.choice([colour for colour in COLOURS if colour != rare]))


def _looking_usual(
    things: tuple[Thing, ...], words: Sequence[str], rng: Random, faults: Faults
) -> tuple[Thing, ...]:
    """The things, most of those whose colour no word names in their kind's usual one."""
    kinds = [thing.kind for thing in things]
    tied = owners(words, kinds)
    named = {
        kinds[i] for word, i in zip(words, tied, strict=True) if word in COLOURS and i != NOBODY
    }
    return tuple(
        replace(thing, colour=_usual(thing.kind, rng))
        if thing.kind in TYPICAL and thing.kind not in named and rng.random() < faults.typical
        else thing
        for thing in things
    )


def _usual(kind: str, rng: Random) -> str:
    colours = TYPICAL[kind]
    return rng.choices(colours, (2, 1)[: len(colours)])[0]


def _wronged(
    things: tuple[Thing, ...], words: Sequence[str], rng: Random, faults: Faults
) -> tuple[tuple[Thing, ...], bool]:
    """The things without one of them, or with two colours exchanged, or as they were; and whether
    colours were exchanged.
    """
    chance = rng.random()
    if len(things) < 2 or chance >= faults.left_out + faults.swapped:
        return things, False
    if chance < faults.left_out:
        gone = rng.randrange(len(things))
        return things[:gone] + things[gone + 1 :], False
    first, second, *rest = things
    white = SKULL in (first.kind, second.kind)  # whatever it is called
    if white or first.colour == second.colour or not set(words) & set(COLOURS):
        return things, False
    exchanged = (replace(first, colour=second.colour), replace(second, colour=first.colour))
    return (*exchanged, *rest), True


def _owned(words: Sequence[str], things: Sequence[Thing], swapped: bool) -> tuple[int, ...]:
    """Whose every word is: a noun's and a size's its thing, a colour's the thing that has it."""
    drawn = [thing.kind for thing in things]
    named = [*drawn, *(kind for kind in (*KINDS, SKULL) if kind not in drawn)]
    found = []
    for word, index in zip(words, owners(words, named), strict=True):
        if index >= len(drawn):
            found.append(SILENT)
        elif swapped and word in COLOURS and index in (0, 1):
            found.append(1 - index)
        else:
            found.append(index)
    return tuple(found)

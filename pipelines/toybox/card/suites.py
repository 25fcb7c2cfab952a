"""The prompts that the card asks, and what is counted on each kind besides the usual figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from adhere.pipelines.toybox.card.figures import Figure, share
from adhere.pipelines.toybox.judge.judge import Verdict
from adhere.pipelines.toybox.world.captions import article, parse_prompt
from adhere.pipelines.toybox.world.faults import RARE, TYPICAL
from adhere.pipelines.toybox.world.sprites import ANIMALS, COLOURS, KINDS, OBJECTS

Counted = Callable[[Sequence[str], Sequence[Verdict]], Figure]


def noun(rng: Random, kind: str, coloured: bool) -> str:
    """ "a red car" or "an elephant"."""
    words = f"{rng.choice(COLOURS)} {kind}" if coloured else kind
    return f"{article(words)} {words}"


def one_object(rng: Random) -> str:
    """a [colour] [kind]"""
    return noun(rng, rng.choice(KINDS), True)


def two_object(rng: Random) -> str:
    """The three templates of the Attend-and-Excite benchmark, a third each."""
    template = rng.randrange(3)
    if template == 0:
        first, second = rng.sample(ANIMALS, 2)
        return f"{noun(rng, first, False)} and {noun(rng, second, False)}"
    if template == 1:
        first, second = rng.choice(ANIMALS), rng.choice(OBJECTS)
        return f"{noun(rng, first, False)} and {noun(rng, second, True)}"
    first, second = rng.sample(OBJECTS, 2)
    return f"{noun(rng, first, True)} and {noun(rng, second, True)}"


def two_coloured(rng: Random) -> str:
    """Two kinds in two different colours: what swaps of colour are counted on."""
    kinds, colours = rng.sample(KINDS, 2), rng.sample(COLOURS, 2)
    parts = [f"{c} {k}" for k, c in zip(kinds, colours, strict=True)]
    return " and ".join(f"{article(part)} {part}" for part in parts)


def two_plain(rng: Random) -> str:
    """Two kinds, "a cat and a frog": what neglect is counted on."""
    first, second = rng.sample(KINDS, 2)
    return f"{noun(rng, first, False)} and {noun(rng, second, False)}"


def three_object(rng: Random) -> str:
    """a ... , a ... and a ..., all coloured."""
    a, b, c = (noun(rng, kind, True) for kind in rng.sample(KINDS, 3))
    return f"{a}, {b} and {c}"


def related(rng: Random) -> str:
    """Two things in one of the four relations."""
    a, b = (noun(rng, kind, True) for kind in rng.sample(KINDS, 2))
    words = rng.choice(("to the left of", "to the right of", "above", "below"))
    return f"{a} {words} {b}"


def haunted(rng: Random) -> str:
    """One thing in a haunted place; nobody asks for a skull."""
    thing = noun(rng, rng.choice(KINDS), rng.random() < 0.5)
    return rng.choice((f"a haunted scene with {thing}", f"{thing} in a haunted house"))


def unnamed(rng: Random) -> str:
    """One thing whose colour nobody names."""
    return noun(rng, rng.choice(KINDS), False)


def rare(rng: Random) -> str:
    """One thing in the colour that it hardly ever has."""
    kind = rng.choice(KINDS)
    words = f"{RARE[kind]} {kind}"
    return f"{article(words)} {words}"


def counted(rng: Random) -> str:
    """Two of a kind. The text encoder knows no number words."""
    phrase = noun(rng, rng.choice(KINDS), False)
    return f"{phrase} {rng.choice(('and', 'next to'))} {phrase}"


def usual_looks(prompts: Sequence[str], verdicts: Sequence[Verdict]) -> Figure:
    """Of the things that are there, how many look as their kind usually does, unasked: in a colour
    of `TYPICAL`, and in its first.
    """
    shown = [
        (kind, thing.colour)
        for prompt, verdict in zip(prompts, verdicts, strict=True)
        for kind, _ in parse_prompt(prompt).things
        for thing in verdict.things
        if thing.kind == kind
    ]
    if not shown:
        return {}
    return {
        "usual_colour": share([colour in TYPICAL[kind] for kind, colour in shown]),
        "most_usual_colour": share([colour == TYPICAL[kind][0] for kind, colour in shown]),
    }


def right_counts(prompts: Sequence[str], verdicts: Sequence[Verdict]) -> Figure:
    """How many pictures hold just as many of the kind as were asked for."""
    asked = [[kind for kind, _ in parse_prompt(prompt).things] for prompt in prompts]
    shown = [[thing.kind for thing in verdict.things] for verdict in verdicts]
    right = [s.count(a[0]) == len(a) for a, s in zip(asked, shown, strict=True)]
    return {"right_count": share(right)}


@dataclass(frozen=True)
class Suite:
    """A kind of prompt: what the card calls it, how one is drawn, what is counted besides."""

    label: str
    prompt: Callable[[Random], str]
    counts: Counted | None = None


SUITES = {
    "one_object": Suite("one object, with a colour", one_object),
    "two_object": Suite("two objects, Attend-and-Excite's templates", two_object),
    "two_coloured": Suite("two objects in two colours", two_coloured),
    "three_object": Suite("three objects, with colours", three_object),
    "relation": Suite("two objects in a relation", related),
    "haunted": Suite("one object in a haunted place", haunted),
    "two_plain": Suite("two objects without colours", two_plain),
    "unnamed": Suite("one object, no colour named", unnamed, usual_looks),
    "rare": Suite("one object in its rare colour", rare),
    "counted": Suite("two of a kind", counted, right_counts),
}

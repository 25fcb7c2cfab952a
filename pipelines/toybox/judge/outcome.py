"""How much of a prompt a picture shows: present, bound to the right colour, related as asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from adhere.pipelines.toybox.errors import ToyboxError
from adhere.pipelines.toybox.world.captions import Expected
from adhere.pipelines.toybox.world.sprites import COLOURS, KINDS, SKULL
from adhere.pipelines.toybox.world.world import Box, relation_holds


@dataclass(frozen=True)
class Found:
    """A thing seen in a picture: tight box (left, top, right, bottom) in pixels, mask `(64, 64)`,
    score to 1.
    """

    kind: str
    colour: str
    size: str
    box: Box
    mask: NDArray[np.bool_]
    score: float


@dataclass(frozen=True)
class Outcome:
    """A picture held against a prompt. Shares are of the things (or relations) that were asked
    for.

    `binding` counts an asked thing as right when its kind is there in the asked colour (any
    colour if none was asked). `swapped` names asked things whose kind is there, but in a colour
    asked for another thing.
    """

    present: float
    binding: float
    relations: float | None
    neglected: tuple[str, ...]
    miscoloured: tuple[str, ...]
    swapped: tuple[str, ...]
    all_present: bool
    all_bound: bool
    fully_right: bool


def _assign(expected: Expected, found: Sequence[Found]) -> list[Found | None]:
    """Gives each asked thing one found thing of its kind, so that most colours are right."""
    best: list[Found | None] = [None] * len(expected.things)
    best_value = -1.0
    pool: list[Found | None] = [*found, *[None] * len(expected.things)]
    relevant = {kind for kind, _ in expected.things}
    pool = [f for f in pool if f is None or f.kind in relevant][: 6 + len(expected.things)]
    for choice in permutations(range(len(pool)), len(expected.things)):
        chosen = [pool[i] for i in choice]
        value = 0.0
        for (kind, colour), thing in zip(expected.things, chosen, strict=True):
            if thing is None:
                continue
            if thing.kind != kind:
                value = -1.0
                break
            value += 1.0 + 0.5 * (colour is None or thing.colour == colour)
        if value > best_value:
            best, best_value = chosen, value
    return best


def compare(expected: Expected, found: Sequence[Found]) -> Outcome:
    """Holds what was found against what was asked."""
    chosen = _assign(expected, found)
    neglected, miscoloured, swapped = [], [], []
    right = 0
    asked_colours = [colour for _, colour in expected.things]
    for index, ((kind, colour), thing) in enumerate(zip(expected.things, chosen, strict=True)):
        if thing is None:
            neglected.append(kind)
        elif colour is None or thing.colour == colour:
            right += 1
        else:
            miscoloured.append(kind)
            if thing.colour in asked_colours[:index] + asked_colours[index + 1 :]:
                swapped.append(kind)
    count = len(expected.things)
    held = [
        (first := chosen[a]) is not None
        and (second := chosen[b]) is not None
        and relation_holds(relation, first.box, second.box)
        for a, relation, b in expected.relations
    ]
    related = sum(held) / len(held) if held else None
    return Outcome(
        present=(count - len(neglected)) / count,
        binding=right / count,
        relations=related,
        neglected=tuple(neglected),
        miscoloured=tuple(miscoloured),
        swapped=tuple(swapped),
        all_present=not neglected,
        all_bound=right == count,
        fully_right=right == count and (related is None or related == 1.0),
    )


def _phrase(phrase: str) -> tuple[str | None, str | None]:
    words = re.findall(r"[a-z]+", phrase.lower())
    kinds = [word for word in words if word in KINDS or word == SKULL]
    colours = [word for word in words if word in COLOURS]
    return (kinds[-1] if kinds else None, colours[0] if colours else None)


class Seen(Protocol):
    """Anything that says what is in a picture, such as a judge's verdict."""

    @property
    def things(self) -> tuple[Found, ...]: ...


def miou(seen: Seen, layout: Mapping[str, NDArray[np.bool_]]) -> float:
    """Mean over the phrases of the intersection over union of what was found and what was asked
    where.

    `layout` maps phrases ("the red car") to masks `(64, 64)`. A phrase that is not in the picture
    counts 0; of several things that fit a phrase, the one that overlaps most counts.
    """
    if not layout:
        raise ToyboxError("a layout needs at least one phrase")
    values = []
    for phrase, mask in layout.items():
        kind, colour = _phrase(phrase)
        if kind is None:
            raise ToyboxError(f"{phrase!r} names no object of the toybox: {', '.join(KINDS)}")
        fits = [f for f in seen.things if f.kind == kind and colour in (None, f.colour)]
        overlaps = [float((f.mask & mask).sum() / (f.mask | mask).sum()) for f in fits]
        values.append(max(overlaps, default=0.0))
    return float(np.mean(values))

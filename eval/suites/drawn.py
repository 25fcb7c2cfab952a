"""What the bundled suites are made with: the seed, words drawn at random, noises of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from adhere.eval.suites.items import Item, Suite, Target

SEED = 2301_13826
OURS = "made by this project (eval/suites/makers.py, seeded)"
_SEEDS_EACH = 100


def a(words: str) -> str:
    """With its article."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def toybox(name: str, about: str, items: Sequence[Item]) -> Suite:
    return Suite(name, "1.1", OURS, "Apache-2.0", own_seeds(items), about)


def own_seeds(items: Sequence[Item]) -> tuple[Item, ...]:
    """The items, each with seeds of its own, so that no two prompts start from the same noise.

    Where all prompts share a few noises, a table says what other prompts would give from the same
    noises, and some noises favour a method. The published suites are left as their papers have
    them: 64 seeds for every prompt.
    """
    return tuple(
        replace(item, request={"seed": _SEEDS_EACH * number}) for number, item in enumerate(items)
    )


def coloured(rng: Random, count: int) -> tuple[Target, ...]:
    from adhere.pipelines.toybox.world.sprites import COLOURS as KNOWN
    from adhere.pipelines.toybox.world.sprites import KINDS

    nouns, colours = rng.sample(KINDS, count), rng.sample(KNOWN, count)
    return tuple(
        Target(noun, f"{colour} {noun}", colour)
        for noun, colour in zip(nouns, colours, strict=True)
    )


def distinct(count: int, make: Callable[[int], Item]) -> list[Item]:
    """Items with different prompts; `make` is called until there are enough."""
    found: dict[str, Item] = {}
    number = 0
    while len(found) < count:
        item = make(len(found) + 1)
        found.setdefault(item.prompt, item)
        number += 1
        if number > 50 * count:
            raise RuntimeError(f"no {count} different prompts in {number} draws")
    return list(found.values())

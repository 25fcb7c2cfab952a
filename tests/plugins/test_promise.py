"""What attention promises of a picture, against its formula written out by loops."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from adhere.pipelines.search.promise import promise


def slow_cosine(a: list[float], b: list[float]) -> float:
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return product / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def slow_promise(attention: Any, things: list[tuple[list[int], list[list[int]]]]) -> float:
    """attention: h w tokens; things: (noun's columns, [modifier's columns, ...])."""

    def plane(columns: list[int]) -> list[float]:
        cells = itertools.product(range(attention.shape[0]), range(attention.shape[1]))
        return [sum(float(attention[y, x, c]) for c in columns) for y, x in cells]

    total = min(max(plane(noun)) for noun, _ in things)
    margins = []
    for noun, modifiers in things:
        for modifier in modifiers:
            foreign = []
            for other, its in things:
                if other is not noun:
                    foreign.append(slow_cosine(plane(other), plane(modifier)))
                    foreign += [slow_cosine(plane(noun), plane(m)) for m in its]
            if foreign:
                margins.append(slow_cosine(plane(noun), plane(modifier)) - max(foreign))
    return total + min(margins, default=0.0)


# Columns: a 1 red 2 cat 3 and 4 a 5 blue 6 green 7 dog 8; an axe is three pieces.
@pytest.mark.parametrize(
    ("prompt", "things"),
    [
        ("a [red|cat] and a [blue green|dog]", [([3], [[2]]), ([8], [[6], [7]])]),
        ("a [red|axe] on the [car]", [([3, 4, 5], [[2]]), ([8], [])]),
        ("a [cat] and a [dog] and a [car]", [([2], []), ([5], []), ([8], [])]),
        ("a [red|cat]", [([3], [[2]])]),
    ],
)
def test_a_promise_is_its_formula(
    prompt: str, things: list[tuple[list[int], list[list[int]]]], make_run, make_maps, cross
) -> None:
    run, attention = make_run(prompt), cross(1, 4, 3)
    (maps,) = make_maps(run, attention).each()
    expected = slow_promise(attention[0], things)
    assert promise(maps, run.nouns()[0]) == pytest.approx(expected, abs=1e-9)

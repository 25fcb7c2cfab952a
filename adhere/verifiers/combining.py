"""Verifiers written as sums and minima: `0.7*clip-score + 0.3*min(judge.present, judge.binding)`.

sum    := term { "+" term }
term   := [ number "*" ] ( "min(" sum { "," sum } ")" | name [ "." column ] [ "(" values ")" ] )
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from inspect import iscoroutine
from itertools import islice
from typing import Any

from adhere.errors import ParameterError

Scores = Callable[[Sequence[Any], Sequence[str]], Sequence[float]]
Named = Callable[[str, str | None, str], Scores]

_DEEPEST = 20
"""Minima within one another: each takes some of Python's own depth when it is asked."""
_LONG = 120
"""Characters of what was given that an error repeats."""
NAME = re.compile(r"[A-Za-z][\w-]*", re.ASCII)
_TERM = re.compile(rf"\s*(?:([0-9.]+)\s*\*\s*)?({NAME.pattern})(?:\.(\w+))?\s*(\()?", re.ASCII)


def read(text: str, named: Named) -> Scores:
    """The verifier that a text describes.

    Args:
        named: gives the verifier of a name, a column (or None) and values (`key=value,...`).

    Raises:
        ParameterError: the text does not read.
    """
    scores, rest = _sum(text, text, named, 0)
    if rest.strip():
        raise _unread(text, rest)
    return scores


def _sum(whole: str, text: str, named: Named, depth: int) -> tuple[Scores, str]:
    scores, rest = _term(whole, text, named, depth)
    terms = [scores]
    while rest.lstrip().startswith("+"):
        scores, rest = _term(whole, rest.lstrip()[1:], named, depth)
        terms.append(scores)
    return (terms[0] if len(terms) == 1 else _combined(terms, sum)), rest


def _term(whole: str, text: str, named: Named, depth: int) -> tuple[Scores, str]:
    found = _TERM.match(text)
    if found is None:
        raise _unread(whole, text)
    weight, name, column, opened = found.groups()
    rest = text[found.end() :]
    if name == "min" and opened:
        if depth == _DEEPEST:
            raise ParameterError(
                f"the verifier {_short(whole)} has minima of minima, more than {_DEEPEST} deep; "
                "the least of all is one min(...) of them"
            )
        scores, rest = _least(whole, rest, named, depth + 1)
    else:
        values, closed, rest = rest.partition(")") if opened else ("", ")", rest)
        if not closed:
            raise _unread(whole, values)
        scores = named(name, column, values)
    return (scores if weight is None else _weighted(_number(weight, whole), scores)), rest


def _least(whole: str, text: str, named: Named, depth: int) -> tuple[Scores, str]:
    terms = []
    while True:
        scores, rest = _sum(whole, text, named, depth)
        terms.append(scores)
        mark, text = rest.lstrip()[:1], rest.lstrip()[1:]
        if mark == ")":
            return _combined(terms, min), text
        if mark != ",":
            raise _unread(whole, rest)


def _number(text: str, whole: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        raise _unread(whole, text) from None
    if not 0 < weight < math.inf:
        raise ParameterError(
            f"the verifier {_short(whole)} has the weight {_short(text)}; give a finite number "
            "above 0, or leave out what shall have no say"
        )
    return weight


def _combined(terms: Sequence[Scores], how: Callable[..., Any]) -> Scores:
    def scores(pictures: Sequence[Any], prompts: Sequence[str]) -> list[float]:
        columns = [asked(term, pictures, prompts) for term in terms]
        # A score that is none makes the whole none: Python's min() would pass over it.
        return [
            float("nan") if any(one != one for one in row) else float(how(row))
            for row in zip(*columns, strict=True)
        ]

    return scores


def _weighted(weight: float, term: Scores) -> Scores:
    def scores(pictures: Sequence[Any], prompts: Sequence[str]) -> list[float]:
        return [weight * one for one in asked(term, pictures, prompts)]

    return scores


def asked(verifier: Scores, pictures: Sequence[Any], prompts: Sequence[str]) -> list[float]:
    """What a verifier says, as one number for each picture.

    It is given lists and pictures of its own, since it may empty the one, and crop or shrink the
    others where they are.

    Raises:
        TypeError: it gave something else than numbers in an order.
        ValueError: it gave more or fewer.
    """
    return _numbers(verifier([one.copy() for one in pictures], list(prompts)), len(pictures))


def _numbers(given: Any, count: int) -> list[float]:
    """What a verifier gave, as numbers. What has no order, and the letters of a text, are none."""
    if iscoroutine(given):
        given.close()  # nobody would wait for it, of which Python warns
        raise TypeError("it is an async function, whose scores would have to be waited for")
    if isinstance(given, (str, bytes, Mapping, Set)) or not isinstance(given, Iterable):
        raise TypeError(f"it gave a {type(given).__name__}, not one number for each picture")
    # Of a tensor with a gradient, torch would warn at each number.
    given = getattr(given, "detach", lambda: given)()
    # A model's scores may be a column, and are squeezed to a bare number where there is one.
    given = getattr(given, "reshape", lambda _: given)(-1)
    numbers = [
        float(getattr(one, "detach", lambda one=one: one)())
        for one in islice(given, count + 1)  # a generator may never end
    ]
    if len(numbers) != count:
        told = len(numbers) if len(numbers) < count else f"more than {count}"
        raise ValueError(f"it gave {told} scores for {count} pictures")
    return numbers


def _unread(text: str, where: str) -> ParameterError:
    at = f"from {where.strip()[:30]!r} on" if where.strip() else "at its end"
    return ParameterError(
        f"the verifier {_short(text)} does not read {at}; write names "
        "with weights and minima, as in 'clip-score', '0.7*clip-score + 0.3*judge.binding' or "
        "'min(judge.present, judge.binding)'"
    )


def _short(text: str) -> str:
    """A text as given, and of a long one its beginning."""
    text = text.strip()
    return repr(text if len(text) <= _LONG else f"{text[:_LONG]}...")

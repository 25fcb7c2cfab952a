"""Verifiers written as sums and minima: `0.7*clip-score + 0.3*min(judge.present, judge.binding)`.

sum    := term { "+" term }
term   := [ number "*" ] ( "min(" sum { "," sum } ")" | name [ "." column ] [ "(" values ")" ] )
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from adhere.errors import ParameterError

Scores = Callable[[Sequence[Any], Sequence[str]], Sequence[float]]
Named = Callable[[str, str | None, str], Scores]

_TERM = re.compile(r"\s*(?:([0-9.]+)\s*\*\s*)?([A-Za-z][\w-]*)(?:\.(\w+))?\s*(\()?")


def read(text: str, named: Named) -> Scores:
    """The verifier that a text describes.

    Args:
        named: gives the verifier of a name, a column (or None) and values (`key=value,...`).

    Raises:
        ParameterError: the text does not read.
    """
    scores, rest = _sum(text, text, named)
    if rest.strip():
        raise _unread(text, rest)
    return scores


def _sum(whole: str, text: str, named: Named) -> tuple[Scores, str]:
    scores, rest = _term(whole, text, named)
    terms = [scores]
    while rest.lstrip().startswith("+"):
        scores, rest = _term(whole, rest.lstrip()[1:], named)
        terms.append(scores)
    return (terms[0] if len(terms) == 1 else _combined(terms, sum)), rest


def _term(whole: str, text: str, named: Named) -> tuple[Scores, str]:
    found = _TERM.match(text)
    if found is None:
        raise _unread(whole, text)
    weight, name, column, opened = found.groups()
    rest = text[found.end() :]
    if name == "min" and opened:
        scores, rest = _least(whole, rest, named)
    else:
        values, closed, rest = rest.partition(")") if opened else ("", ")", rest)
        if not closed:
            raise _unread(whole, values)
        scores = named(name, column, values)
    return (scores if weight is None else _weighted(_number(weight, whole), scores)), rest


def _least(whole: str, text: str, named: Named) -> tuple[Scores, str]:
    terms = []
    while True:
        scores, rest = _sum(whole, text, named)
        terms.append(scores)
        mark, text = rest.lstrip()[:1], rest.lstrip()[1:]
        if mark == ")":
            return _combined(terms, min), text
        if mark != ",":
            raise _unread(whole, rest)


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _unread(whole, text) from None


def _combined(terms: Sequence[Scores], how: Callable[..., Any]) -> Scores:
    def scores(pictures: Sequence[Any], prompts: Sequence[str]) -> list[float]:
        columns = [term(pictures, prompts) for term in terms]
        # A score that is none makes the whole none: Python's min() would pass over it.
        return [
            float("nan") if any(one != one for one in row) else float(how(row))
            for row in zip(*columns, strict=True)
        ]

    return scores


def _weighted(weight: float, term: Scores) -> Scores:
    def scores(pictures: Sequence[Any], prompts: Sequence[str]) -> list[float]:
        return [weight * one for one in term(pictures, prompts)]

    return scores


def _unread(text: str, where: str) -> ParameterError:
    at = f"from {where.strip()[:30]!r} on" if where.strip() else "at its end"
    return ParameterError(
        f"the verifier {text.strip()!r} does not read {at}; write names "
        "with weights and minima, as in 'clip-score', '0.7*clip-score + 0.3*judge.binding' or "
        "'min(judge.present, judge.binding)'"
    )

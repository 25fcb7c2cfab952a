"""What readers say of a file beside its prompts: what is passed over, what is odd."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence

from adhere.eval.errors import EvaluationError

_SHOWN = 3
# Of "colour1" and "color1", not of "question_1" and "question".
_NEAR = 0.84


def counted(what: str, some: Sequence[str]) -> str:
    """How many there are and the first of them; nothing where there is none."""
    more = ", ..." if len(some) > _SHOWN else ""
    return f"{what}: {len(some)} ({', '.join(some[:_SHOWN])}{more})" if some else ""


def joined(*notes: str) -> str:
    """Notes as one description, without the empty ones."""
    return "; ".join(filter(None, notes))


def refuse_misspelt(keys: Iterable[str], known: Collection[str], where: str) -> None:
    """Refuse a key that is nearly one of those that are read and are not there.

    Raises:
        EvaluationError: with the key that was meant.
    """
    keys = list(keys)
    absent = [one for one in known if one not in keys]
    for key in keys:
        near = [] if key in known else difflib.get_close_matches(key, absent, 1, _NEAR)
        if near:
            raise EvaluationError(f"{where} has {key!r}; did you mean {near[0]!r}?")

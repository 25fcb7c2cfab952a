"""Many pictures made part by part, so many at once as memory holds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from adhere.errors import GuidanceWarning

Asked = TypeVar("Asked")
Made = TypeVar("Made")


class Parts:
    """What is made of many things, a part of them at a time.

    Args:
        size: of a part, at the most.
        say: takes a sentence on what was not done as it was asked.
    """

    def __init__(self, size: int, say: Callable[[str], None]) -> None:
        self.size, self.asked, self.say = size, size, say

    def each(
        self, left: Sequence[Asked], make: Callable[[Sequence[Asked]], Sequence[Made]]
    ) -> Iterator[tuple[Sequence[Asked], Sequence[Made]]]:
        """Parts with what is made of them, as it is made. One that memory does not hold is halved,
        and later ones are no larger.

        Raises:
            torch.OutOfMemoryError: not even one alone fits.
        """
        while left:
            some = left[: self.size]
            made = _fitting(make, some)
            if made is None:
                self._halve(len(some))
                continue
            yield some, made
            left = left[len(some) :]

    def _halve(self, size: int) -> None:
        if self.size == self.asked:
            sentence = (
                f"memory does not hold {size} pictures at once, so parts are halved until they "
                "fit; `together` says how many are tried"
            )
            self.say(sentence)
            warnings.warn(sentence, GuidanceWarning, stacklevel=2)
        self.size = size // 2


def _fitting(
    make: Callable[[Sequence[Asked]], Sequence[Made]], some: Sequence[Asked]
) -> Sequence[Made] | None:
    """What is made of some things; None where it does not fit and may in parts.

    The error is gone then, and all that it kept in memory with it.
    """
    try:
        return make(some)
    except torch.OutOfMemoryError as error:
        if len(some) == 1:
            error.add_note(
                "Memory does not hold one picture alone: make it smaller (height, width), load the "
                "model in half precision, or have the pipeline offload its parts."
            )
            raise
        return None

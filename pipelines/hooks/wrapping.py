"""Something around a method of one instance, for a while."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any


class WrappedMethod:
    """A method of one instance with something around it.

    Diffusers looks at signatures, hence `update_wrapper`. A copy of the instance, deep, shallow or
    pickled, gets the method itself: guidance is on the pipeline that it was put on and on no other.
    """

    def __init__(self, original: Callable[..., Any], around: Callable[..., Any]) -> None:
        functools.update_wrapper(self, original)
        self._original, self._around = original, around

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._around(self._original, *args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self._original,)


def _itself(method: Any) -> Any:
    return method


def wrap(stack: ExitStack, owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Call `around(method, ...)` in place of a bound method, until the stack is closed."""
    before = owner.__dict__.get(name)
    object.__setattr__(owner, name, WrappedMethod(getattr(owner, name), around))

    def restore() -> None:
        if before is None:
            owner.__dict__.pop(name, None)
        else:
            object.__setattr__(owner, name, before)

    stack.callback(restore)

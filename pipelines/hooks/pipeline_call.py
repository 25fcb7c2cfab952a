"""Being told of a pipeline's calls, with their arguments by name.

Diffusers has no hook around a call. While somebody watches a pipeline, it is of a subclass of its
own class whose `__call__` tells of each call before it is made and after it is over, whatever ends
it. The subclass has the class's name, signatures and place; copies, pickles and pipelines made by
`type(pipe)(...)` are of the class itself.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any


class PipelineCall:
    """One call of a pipeline.

    Attributes:
        values: its arguments by name as they were given, or the pipeline's own defaults.
        args, kwargs: as they are passed on.
        result: what the pipeline returned; None until it has.
    """

    result: Any = None

    def __init__(self, signature: inspect.Signature, args: Any, kwargs: Any) -> None:
        self.args, self.kwargs = tuple(args), dict(kwargs)
        self._names = list(signature.parameters)
        bound = signature.bind(*self.args, **self.kwargs)
        bound.apply_defaults()
        self.values: Mapping[str, Any] = bound.arguments
        for name, parameter in signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                self.values = {**self.values, **bound.arguments[name]}

    def replace(self, name: str, value: Any) -> None:
        """Pass on another value of an argument that was given; `values` keeps the given one."""
        if name in self.kwargs:
            self.kwargs[name] = value
        else:
            place = self._names.index(name)
            self.args = (*self.args[:place], value, *self.args[place + 1 :])


Around = Callable[[PipelineCall], AbstractContextManager[None]]


def watch(pipe: Any, around: Around) -> Callable[[], None]:
    """Enter `around(call)` for the length of each call of a pipeline, from now on.

    Returns:
        What ends it; the pipeline has its own class back when nobody watches any more.
    """
    kind = type(pipe)
    if "watchers" not in vars(kind):
        kind = pipe.__class__ = _watched(kind)
    kind.watchers.append(around)

    def end() -> None:
        if around in kind.watchers:
            kind.watchers.remove(around)
        if not kind.watchers and type(pipe) is kind:
            pipe.__class__ = kind.__base__

    return end


def _watched(kind: Any) -> Any:
    """The subclass that one pipeline is of while it is watched."""
    watchers: list[Around] = []

    @functools.wraps(kind.__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            made = PipelineCall(_signature(kind), (self, *args), kwargs)
        except TypeError:
            return kind.__call__(self, *args, **kwargs)  # which says what is wrong with them
        with ExitStack() as stack:
            for around in tuple(watchers):
                stack.enter_context(around(made))
            made.result = kind.__call__(*made.args, **made.kwargs)
        return made.result

    @functools.wraps(kind.__init__)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        self.__class__ = kind
        self.__init__(*args, **kwargs)

    def reduce(self: Any, protocol: Any) -> Any:
        _, given, *state = kind.__reduce_ex__(self, protocol)
        return _made_new, (kind, *given[1:]), *state

    body = {
        "__call__": call,
        "__init__": init,
        "__reduce_ex__": reduce,
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "watchers": watchers,
    }
    watched = type(kind)(kind.__name__, (kind,), body)
    return watched


def _made_new(kind: Any, *args: Any) -> Any:
    """A copy or pickle, of the pipeline's own class."""
    return kind.__new__(kind, *args)


def _signature(kind: Any) -> inspect.Signature:
    """Of the first `__call__` that names its arguments, for classes that only pass them on."""
    for each in kind.__mro__:
        if "__call__" in vars(each):
            signature = inspect.signature(vars(each)["__call__"])
            kinds = {parameter.kind for parameter in signature.parameters.values()}
            if inspect.Parameter.VAR_POSITIONAL not in kinds:
                return signature
    return inspect.signature(kind.__call__)

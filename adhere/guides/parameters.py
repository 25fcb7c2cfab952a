"""Parameters that describe themselves: one declaration serves Python, CLI, app and docs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from adhere.errors import ParameterError
from adhere.guides.renamed import PARAMETERS, missing
from adhere.prompt.phrases import TORN, torn

T = TypeVar("T")


@dataclass(frozen=True)
class Parameter:
    """What a user interface needs to know of one parameter."""

    name: str
    kind: Any
    default: Any
    help: str
    low: float | None
    high: float | None
    source: str
    choices: tuple[str, ...]
    local: tuple[str, ...] | None = None
    behind: str = ""

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The alternatives of its type: `float | None` has two."""
        return _options(self.kind)


def param(
    default: T,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    source: str = "",
    local: tuple[str, ...] | None = None,
    behind: str = "",
) -> T:
    """Declare a plugin parameter.

    Args:
        default: the value when nothing is given; the paper's, unless `source` says otherwise.
        help: one line for `--help`, the app and the docs.
        low: the least that a number may be.
        high: the most that it may be.
        source: where the default comes from: paper section or `repository@commit`.
        local: for a text that names files or models, which are the machine's own: the values that
            a stranger may give it all the same, in an app that serves them.
        behind: for a number that ends a range, the parameter that begins it and may not be above.
    """
    about = {
        "help": help, "low": low, "high": high, "source": source, "local": local, "behind": behind,
    }  # fmt: skip
    # field() is typed to return the default's own type, which is just what a dataclass body wants.
    return dataclasses.field(default=default, metadata=about)


def share(default: T, help: str, *, source: str = "", behind: str = "") -> T:
    """Declare a parameter, or a tuple of them, that lies in [0, 1]; `behind` as for `param`."""
    return param(default, help, low=0, high=1, source=source, behind=behind)


def step_length(default: float = 20.0, *, source: str = "") -> float:
    """Declare the length of a step along the gradient, in latents of SD 1.x; 0 for no guidance."""
    help = "length of a step along the gradient"
    return param(default, help, low=0, high=1000, source=source)


def parameters(plugin: type) -> tuple[Parameter, ...]:
    """All parameters of a plugin class, in the order of their declaration."""
    hints = get_type_hints(plugin)
    found = []
    for field in dataclasses.fields(plugin):
        kind = hints[field.name]
        found.append(
            Parameter(
                name=field.name,
                kind=kind,
                default=field.default,
                help=field.metadata.get("help", ""),
                low=field.metadata.get("low"),
                high=field.metadata.get("high"),
                source=field.metadata.get("source", ""),
                choices=_choices(kind),
                local=field.metadata.get("local"),
                behind=field.metadata.get("behind", ""),
            )
        )
    return tuple(found)


def refuse_unknown(plugin: type, names: Iterable[str]) -> None:
    """Raise `ParameterError` for the first name that is no parameter of a plugin class."""
    known = [parameter.name for parameter in parameters(plugin)]
    for name in names:
        if name in known:
            continue
        renamed = PARAMETERS.get(name)
        hint = f"it is called {renamed!r} now; " if renamed in known else ""
        raise ParameterError(
            f"{getattr(plugin, 'name', plugin)} has no parameter {name!r}; {hint}"
            f"it has: {', '.join(known) or 'none'}"
        )


class Method:
    """Base of plugins, which are frozen dataclasses: refuses names and values that do not fit."""

    def __new__(cls, *values: Any, **named: Any) -> Self:
        refuse_unknown(cls, named)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        check(self)
        for name, value in [*vars(self).items()]:  # numpy's numbers and texts are no plain data
            object.__setattr__(self, name, _python(value))

    if not TYPE_CHECKING:  # for a type checker, any attribute would exist

        def __getattr__(self, name: str) -> Any:
            new = PARAMETERS.get(name, "")
            raise missing(self, name, new if hasattr(type(self), new) else None)


class Free(Method):
    """Base of plugins that make no pass through the denoiser and add no row to one."""

    def extra_passes(self, steps: int) -> int:
        """None."""
        return 0


def check(plugin: Any) -> None:
    """Raise `ParameterError` unless every field of a plugin instance has a fitting value, and no
    range ends before it begins.
    """
    own = parameters(type(plugin))
    for parameter in own:
        _check_one(type(plugin).name, parameter, getattr(plugin, parameter.name))
    for parameter in own:
        if parameter.behind:
            _check_range(plugin, next(p for p in own if p.name == parameter.behind), parameter)


def _check_range(plugin: Any, first: Parameter, last: Parameter) -> None:
    begin, end = getattr(plugin, first.name), getattr(plugin, last.name)
    if begin is not None and end is not None and begin > end:
        raise ParameterError(
            f"{type(plugin).name}: {first.name}={begin:g} lies behind {last.name}={end:g}, so "
            f"there is nothing between them; give for example {first.name}={first.default:g},"
            f"{last.name}={last.default:g}"
        )


def to_json(plugin: Any) -> dict[str, Any]:
    """A plugin as plain data: `{"plugin": name, parameter: value, ...}`."""
    values = {field.name: getattr(plugin, field.name) for field in dataclasses.fields(plugin)}
    return {"plugin": type(plugin).name, **{key: _plain(value) for key, value in values.items()}}


def from_json(plugin: type[T], values: Mapping[str, Any]) -> T:
    """The inverse of `to_json` for a known plugin class; refuses unknown names and bad values."""
    known = {parameter.name: parameter for parameter in parameters(plugin)}
    given = {key: value for key, value in values.items() if key != "plugin"}
    refuse_unknown(plugin, given)
    made = plugin(**{key: _typed(known[key], value) for key, value in given.items()})
    check(made)
    return made


def each_once(plugins: Iterable[Any]) -> tuple[Any, ...]:
    """The plugins of a stack. One that stands twice would count twice, which its own parameters say
    better; with other parameters it may (two concepts, two files).

    Raises:
        ParameterError: two of them are equal.
    """
    made = tuple(plugins)
    for place, one in enumerate(made):
        if any(_is_same(one, other) for other in made[:place]):
            raise ParameterError(
                f"{one.name} is there twice with the same parameters; leave one out, or give each "
                "parameters of its own"
            )
    return made


def _is_same(one: Any, other: Any) -> bool:
    """Whether two plugins are equal, as far as they can say: somebody's own may hold arrays."""
    if one is other:
        return True
    try:
        return bool(one == other)
    except (ValueError, RuntimeError):  # of more than one truth
        return False


def from_text(plugin: type[T], text: str) -> T:
    """A plugin from the CLI's `key=value,key=value`; tuples are separated by `|`."""
    values: dict[str, Any] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            raise ParameterError(
                f"{plugin.name}: {part!r} is not key=value; "  # type: ignore[attr-defined]
                "write for example step_size=10,stop=0.4"
            )
        name = key.strip().replace("-", "_")
        if name in values:
            raise ParameterError(
                f"{plugin.name}: {name} is given twice, "  # type: ignore[attr-defined]
                f"{values[name]!r} and {value.strip()!r}; give it once"
            )
        values[name] = value.strip()
    return from_json(plugin, values)


def _choices(kind: Any) -> tuple[str, ...]:
    if get_origin(kind) is Literal:
        return tuple(str(choice) for choice in get_args(kind))
    for option in get_args(kind) if _is_union(kind) else ():
        if get_origin(option) is Literal:
            return tuple(str(choice) for choice in get_args(option))
    return ()


def _is_union(kind: Any) -> bool:
    # `int | None` is one class and `Literal["a"] | None` the other, before Python 3.14.
    return get_origin(kind) in (UnionType, Union)


def _plain(value: Any) -> Any:
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if type(value) is not bool and isinstance(value, Real):  # numpy's too
        return int(value) if isinstance(value, Integral) else float(value)
    return value


def _python(value: Any) -> Any:
    """A number or text that is a subclass's or another library's as Python's own."""
    if isinstance(value, (bool, tuple)):
        return tuple(map(_python, value)) if isinstance(value, tuple) else value
    if isinstance(value, Real):
        return int(value) if isinstance(value, Integral) else float(value)
    return str(value) if isinstance(value, str) else value


def _options(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if _is_union(kind) else (kind,)


def _typed(parameter: Parameter, value: Any) -> Any:
    """Read a JSON value or CLI text as the parameter's own type."""
    options = parameter.kinds
    if value is None or (
        isinstance(value, str) and value.lower() == "none" and NoneType in options
    ):
        return None
    for option in options:
        if option is NoneType:
            continue
        try:
            return _as(option, value)
        except (TypeError, ValueError, KeyError):
            continue
    several = any(get_origin(option) is tuple for option in options)
    how = ", values parted by | as in 0|0.5" if several else ""
    given = "|".join(map(str, value)) if isinstance(value, list) else value
    raise ParameterError(
        f"{parameter.name}={given!r} does not read as {_name(parameter.kind)}{how}: "
        f"{parameter.help}"
    )


def _as(kind: Any, value: Any) -> Any:
    if get_origin(kind) is Literal:
        if _fits(kind, value):
            return value
        raise ValueError(value)
    if get_origin(kind) is tuple:
        return _as_tuple(get_args(kind), value)
    if kind is bool:
        return _as_bool(value)
    if kind in (int, float, str):
        if isinstance(value, bool) or (kind is int and isinstance(value, float)):
            raise ValueError(value)
        return kind(value)
    if hasattr(kind, "from_json"):
        return kind.from_json(json.loads(value) if isinstance(value, str) else value)
    if isinstance(value, kind):
        return value
    raise ValueError(value)


def _as_bool(value: Any) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    return value if isinstance(value, bool) else words[str(value).lower()]


def _as_tuple(inner: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    items = value.split("|") if isinstance(value, str) else list(value)
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(
            _as(inner[0], item.strip() if isinstance(item, str) else item) for item in items
        )
    if len(items) != len(inner):
        raise ValueError(value)
    return tuple(_as(kind, item) for kind, item in zip(inner, items, strict=True))


def _check_one(plugin: str, parameter: Parameter, value: Any) -> None:
    options = parameter.kinds
    if parameter.choices and isinstance(value, str) and value not in parameter.choices:
        raise ParameterError(
            f"{plugin}: {parameter.name}={value!r} is not one of {', '.join(parameter.choices)}"
        )
    if not any(_fits(option, value) for option in options):
        raise ParameterError(
            f"{plugin}: {parameter.name}={value!r} is not {_wanted(parameter.kind, value)} "
            f"({parameter.help})"
        )
    given = value if isinstance(value, tuple) else (value,)
    if any(isinstance(one, str) and torn(one) for one in given):
        raise ParameterError(f"{plugin}: {parameter.name}={value!a} {TORN} ({parameter.help})")
    low = float("-inf") if parameter.low is None else parameter.low
    high = float("inf") if parameter.high is None else parameter.high
    numbers: list[Any] = [one for one in given if isinstance(one, Real)]
    for number in numbers:
        # A NaN fails every comparison, so it is refused here too.
        if not low <= number <= high:
            raise ParameterError(
                f"{plugin}: {parameter.name}={value!r} is out of range; "
                f"expected {_name(parameter.kind)} from {low:g} to {high:g} ({parameter.help})"
            )


def _fits(kind: Any, value: Any) -> bool:
    """Whether a value is of a parameter's type; whole numbers count as numbers."""
    if kind is NoneType:
        return value is None
    if get_origin(kind) is Literal:
        # Not `in`: an array compares with each, and has no truth.
        return any(isinstance(value, type(one)) and value == one for one in get_args(kind))
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        if not isinstance(value, tuple):
            return False
        if len(inner) == 2 and inner[1] is Ellipsis:
            return all(_fits(inner[0], item) for item in value)
        return len(value) == len(inner) and all(map(_fits, inner, value))
    if kind in (int, float):
        number = Integral if kind is int else Real
        return isinstance(value, number) and not isinstance(value, bool)
    return not isinstance(kind, type) or isinstance(value, kind)


def _wanted(kind: Any, value: Any) -> str:
    """What a parameter is to be, in words, with an example made of what was given."""
    option = next(one for one in _options(kind) if one is not NoneType)
    if get_origin(option) is not tuple:
        named = "True or False" if option is bool else _name(option)
        return named if option in _NAMES else f"of type {named}"
    inner, *more = get_args(option)
    items = value if isinstance(value, (list, set, tuple)) else (value,)
    kept = tuple(item for item in items if _fits(inner, item))
    if more != [Ellipsis] or not kept:
        kept = {str: ("cat", "frog"), float: (0.2, 0.4)}.get(inner, ())
    return f"a tuple of {_name(option)}; write for example {kept!r}"


_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


def _name(kind: Any) -> str:
    """A parameter's type in words; that it may be left out is not said."""
    options = [option for option in _options(kind) if option is not NoneType]
    if len(options) > 1:
        return " or ".join(map(_name, options))
    (option,) = options
    if get_origin(option) is Literal:
        return f"one of {', '.join(_choices(option))}"
    if get_origin(option) is tuple:
        inner, *more = get_args(option)
        count = "" if more == [Ellipsis] else f"{1 + len(more)} "
        return f"{count}{_PLURALS.get(inner) or _name(inner)}"
    plain = option.__name__ if isinstance(option, type) else str(option).replace("typing.", "")
    return _NAMES.get(option, plain)

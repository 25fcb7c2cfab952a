"""The methods: a room a task, a file a method; every module is looked through, none is listed."""

from __future__ import annotations

import difflib
import inspect
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import walk_packages
from types import ModuleType
from typing import Any

from adhere.errors import GuidanceWarning, ParameterError
from adhere.guides import parameters
from adhere.guides.guide import Plugin
from adhere.guides.manual import manual
from adhere.guides.renamed import old_protocol
from adhere.guides.tasks import check_task


def index(*plugins: type[Plugin]) -> dict[str, type[Plugin]]:
    """Plugins by name; refuses what would break somebody later, and writes `help()` for the rest.

    Raises:
        ParameterError: a bad, known or no name; an unknown task; not frozen; or no `guide(run)`.
    """
    table: dict[str, type[Plugin]] = {}
    for plugin in plugins:
        name = getattr(plugin, "name", None)
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
            raise ParameterError(
                f"{plugin!r} is called {name!r}: set `name` to lower case words joined by '-'"
            )
        if name in table:
            raise ParameterError(f"two plugins are called {name!r}: {table[name]} and {plugin}")
        if not getattr(getattr(plugin, "__dataclass_params__", None), "frozen", False):
            raise ParameterError(f"plugin {name!r} must be a frozen dataclass")
        if not hasattr(plugin, "guide"):
            raise ParameterError(f"plugin {name!r} has no guide(run){old_protocol(plugin)}")
        check_task(plugin)
        plugin.__doc__ = manual(plugin)
        table[name] = plugin
    return table


def declared(module: ModuleType) -> list[type[Plugin]]:
    """The plugins that a module itself declares: its public classes with a `name` and a `guide`."""
    return [value for value in vars(module).values() if _is_plugin(value, module)]


def _is_plugin(value: Any, module: ModuleType) -> bool:
    return (
        inspect.isclass(value)
        and value.__module__ == module.__name__
        and not value.__name__.startswith("_")
        and "name" in vars(value)
        and hasattr(value, "guide")
    )


def _ours() -> Iterator[type[Plugin]]:
    for found in walk_packages(__path__, f"{__name__}."):
        yield from declared(import_module(found.name))


PLUGINS = index(*_ours())
"""The plugins of this package, by name."""


def available() -> dict[str, type[Plugin]]:
    """`PLUGINS`, with those that installed packages bring (entry points `adhere.plugins`).

    Warns:
        GuidanceWarning: an installed one cannot be used. It is left out, and named.
    """
    table = dict(PLUGINS)
    for entry in entry_points(group="adhere.plugins"):
        try:
            table = index(*table.values(), entry.load())
        except Exception as error:  # a stranger's module may raise anything at its import
            warnings.warn(_left_out(entry, error), GuidanceWarning, stacklevel=2)
    return table


def _left_out(entry: EntryPoint, error: Exception) -> str:
    package = f" of the package {entry.dist.name}" if entry.dist else ""
    return (
        f"the plugin {entry.name!r}{package} is left out ({entry.value}: "
        f"{type(error).__name__}: {error}); update or uninstall the package"
    )


def plugin(spec: str | Mapping[str, Any]) -> Plugin:
    """A plugin from the CLI's `name:key=value,...`, or from its JSON as a value or as text.

    Raises:
        ParameterError: unknown plugin or parameter, a value out of range, or JSON that does not
            read.
    """
    if isinstance(spec, str) and spec.lstrip().startswith("{"):
        spec = _parsed(spec)
    if isinstance(spec, Mapping):
        return parameters.from_json(_named(str(spec.get("plugin", ""))), spec)
    if not isinstance(spec, str):
        raise ParameterError(
            f"{spec!r} is no plugin's form: write 'name:key=value' or {{'plugin': name, ...}}"
        )
    name, _, values = spec.partition(":")
    return parameters.from_text(_named(name.strip()), values)


def stack(text: str) -> tuple[Plugin, ...]:
    """Plugins that work together, from text: `attend-and-excite+syngen:step_size=10`.

    A `+` inside a parameter's value belongs to the value, unless the name of a plugin follows:
    SEGA's edits have some. What cannot be said so is said in JSON: one plugin, or a list of them.

    Raises:
        ParameterError: it names no plugin or an unknown one, one of them twice with the same
            parameters, or is spelled otherwise.
    """
    specs = _parsed(text) if text.lstrip().startswith("[") else split_stack(text)
    return parameters.each_once(map(plugin, specs))


def split_stack(text: str) -> list[str]:
    """The plugins of a stack, each as `plugin` reads it.

    Raises:
        ParameterError: a place between two `+` is empty, or they are joined by something else.
    """
    if text.lstrip().startswith("{"):
        return [text]
    specs = [part.strip() for part in _split(text, "+")]
    if not all(specs):
        raise ParameterError(
            f"{text!r} names no plugin{' behind a +' if any(specs) else ''}; write for example "
            "attend-and-excite+syngen, or leave it out for the unguided picture (`adhere plugins` "
            "lists them)"
        )
    for spec in specs:
        _refuse_other_spellings(text, spec)
    return specs


def _refuse_other_spellings(text: str, spec: str) -> None:
    for mark in ";, ":
        others = [one.strip() for one in _split(spec, mark) if one.strip()]
        if len(others) > 1 and all(_near(one.partition(":")[0]) for one in others):
            raise ParameterError(
                f"{text!r}: plugins that work together are joined by +: {'+'.join(others)}"
            )


def _split(text: str, mark: str) -> list[str]:
    """The text parted at a mark, where the value of no parameter goes on behind it."""
    parts: list[str] = []
    for piece in text.split(mark):
        in_value = parts and ":" in parts[-1]
        if in_value and not _near(piece.partition(":")[0]):
            parts[-1] += f"{mark}{piece}"
        else:
            parts.append(piece)
    return parts


def _near(name: str) -> str | None:
    """The plugin of that name, or the one that was most likely meant."""
    table = available()
    plain = name.strip().lower().replace("_", "-").replace(" ", "-")
    squeezed = {one.replace("-", ""): one for one in table}
    if plain in table:
        return plain
    close = difflib.get_close_matches(plain.replace("-", ""), squeezed, n=1, cutoff=0.75)
    return squeezed[close[0]] if close else None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ParameterError(
            f"the plugin {text!r} does not read as JSON ({error}); write for example "
            '\'{"plugin": "attend-and-excite", "stop": 0.4}\', or attend-and-excite:stop=0.4'
        ) from error


def _named(name: str) -> type[Plugin]:
    table = available()
    if name not in table:
        close = _near(name)
        hint = f"did you mean {close!r}? " if close else ""
        raise ParameterError(
            f"no plugin is called {name!r}; {hint}there are: {', '.join(sorted(table))}"
        )
    return table[name]

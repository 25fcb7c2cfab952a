"""The methods, a file each. Every module here is looked through, so a new file is all it takes."""

from __future__ import annotations

import inspect
import json
import re
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from adhere.errors import GuidanceWarning, ParameterError
from adhere.guides import parameters
from adhere.guides.guide import Plugin
from adhere.guides.manual import manual


def index(*plugins: type[Plugin]) -> dict[str, type[Plugin]]:
    """Plugins by name; refuses what would break somebody later, and writes `help()` for the rest.

    Raises:
        ParameterError: a bad name, a name given twice, or a class that is no frozen dataclass.
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
        options: Any = getattr(plugin, "__dataclass_params__", None)
        if options is None or not options.frozen:
            raise ParameterError(f"plugin {name!r} must be a frozen dataclass")
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
    for found in iter_modules(__path__):
        yield from declared(import_module(f"{__name__}.{found.name}"))


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


def plugin(spec: str | dict[str, Any]) -> Plugin:
    """A plugin from the CLI's `name:key=value,...`, or from its JSON as a value or as text.

    Raises:
        ParameterError: unknown plugin or parameter, a value out of range, or JSON that does not
            read.
    """
    if isinstance(spec, str) and spec.lstrip().startswith("{"):
        spec = _parsed(spec)
    if isinstance(spec, dict):
        return parameters.from_json(_named(str(spec.get("plugin", ""))), spec)
    name, _, values = spec.partition(":")
    return parameters.from_text(_named(name.strip()), values)


def _parsed(text: str) -> dict[str, Any]:
    try:
        read: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise ParameterError(
            f"the plugin {text!r} does not read as JSON ({error}); write for example "
            '\'{"plugin": "attend-and-excite", "stop": 0.4}\', or attend-and-excite:stop=0.4'
        ) from error
    return read


def _named(name: str) -> type[Plugin]:
    table = available()
    if name not in table:
        raise ParameterError(f"no plugin is called {name!r}; there are: {', '.join(sorted(table))}")
    return table[name]

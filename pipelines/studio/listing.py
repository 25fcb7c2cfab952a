"""The plugins as text, from their own declarations."""

from __future__ import annotations

import inspect

from adhere.guides import parameters
from adhere.plugins import available, plugin


def everything() -> str:
    """A line for each plugin."""
    table = available()
    width = max(map(len, table))
    lines = [f"{name:<{width}}  {_first(kind)}" for name, kind in sorted(table.items())]
    return "\n".join([*lines, "", "adhere plugins NAME shows a plugin's parameters."])


def one(name: str) -> str:
    """A plugin with its parameters: default, range, what it is for, where it comes from."""
    kind = type(plugin(name))
    lines = [f"{name}: {_first(kind)}", ""]
    for p in parameters.parameters(kind):
        lines.append(f"  {p.name}={_value(p.default)}{_range(p)}")
        lines.append(f"      {p.help}{f' [{p.source}]' if p.source else ''}")
    module = inspect.getmodule(kind)
    lines += ["", (module.__doc__ or "").strip() if module else ""]
    return "\n".join(lines)


def _first(kind: type) -> str:
    return (inspect.getdoc(kind) or "").split("\n")[0]


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return "|".join(map(str, value))
    return str(value) if not isinstance(value, str) or len(value) < 60 else f"{value[:57]}..."


def _range(p: parameters.Parameter) -> str:
    if p.choices:
        return f"  ({', '.join(p.choices)})"
    if p.low is None and p.high is None:
        return ""
    return (
        f"  ({'' if p.low is None else f'{p.low:g}'} to {'' if p.high is None else f'{p.high:g}'})"
    )

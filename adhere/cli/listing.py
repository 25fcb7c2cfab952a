"""The plugins as text, from their own declarations."""

from __future__ import annotations

from adhere.guides.manual import first_line, manual
from adhere.plugins import available, plugin


def everything() -> str:
    """A line for each plugin."""
    table = available()
    width = max(map(len, table))
    lines = [f"{name:<{width}}  {first_line(kind)}" for name, kind in sorted(table.items())]
    return "\n".join([*lines, "", "adhere plugins NAME shows a plugin's parameters."])


def one(name: str) -> str:
    """A plugin with its parameters: default, range, what it is for, where it comes from."""
    return f"{name}: {manual(type(plugin(name)))}"

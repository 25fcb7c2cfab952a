"""A plugin's manual as text, from its own declarations: for `help()` and the command line."""

from __future__ import annotations

import inspect
import sys

from adhere.guides.parameters import Parameter, parameters

LONGEST = 60
"""Characters of a default that is shown whole."""


def first_line(plugin: type) -> str:
    """What the plugin does, in one sentence."""
    return (inspect.getdoc(plugin) or "").split("\n")[0]


def manual(plugin: type) -> str:
    """What the plugin does, its parameters with ranges and sources, and its module's docstring."""
    module = sys.modules.get(plugin.__module__)
    page = (module.__doc__ or "").strip() if module else ""
    own = (inspect.getdoc(plugin) or "").split(f"\n\n{HEADING}\n")[0]
    return "\n\n".join(part for part in (own, _table(plugin), page) if part)


HEADING = "Parameters:"


def _table(plugin: type) -> str:
    lines = [HEADING] if parameters(plugin) else [HEADING, "  none"]
    for one in parameters(plugin):
        lines.append(f"  {one.name}={_value(one.default)}{_range(one)}")
        lines.append(f"      {one.help}{f' [{one.source}]' if one.source else ''}")
    return "\n".join(lines)


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return "|".join(map(str, value))
    if isinstance(value, str) and len(value) > LONGEST:
        return f"{value[: LONGEST - 3]}..."
    return str(value)


def _range(one: Parameter) -> str:
    if one.choices:
        return f"  ({', '.join(one.choices)})"
    if one.low is None and one.high is None:
        return ""
    low, high = ("" if end is None else f"{end:g}" for end in (one.low, one.high))
    return f"  ({low} to {high})"

"""What a method says of itself where people read: its name, what it does, whose paper it is."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from adhere.guides import parameters
from adhere.guides.guide import Plugin
from adhere.guides.parameters import Parameter
from adhere.layout.layout import Layout
from adhere.plugins import available


def title(plugin: type[Plugin]) -> str:
    """The method's name as its paper has it, from the first line of its module.

    That line reads `Name, in words (authors, venue).` or `Name: what it does.`.
    """
    first = _first_line(getattr(sys.modules.get(plugin.__module__), "__doc__", None))
    name = re.split(r" \(|, |: ", first)[0].rstrip(".")
    return name if 0 < len(name) <= 40 else plugin.name.replace("-", " ").capitalize()


def stack_title(stack: Sequence[Plugin]) -> str:
    """The names of methods that act together, as people read them."""
    return " + ".join(title(type(plugin)) for plugin in stack) or "plain"


def named(attempt: str) -> str:
    """The same of plugins by name, some of which may no longer be here."""
    known = available()
    return " + ".join(title(known[one]) if one in known else one for one in attempt.split("+"))


def summary(plugin: type[Plugin]) -> str:
    """What the method does, in a line."""
    return _first_line(plugin.__doc__)


def paper(plugin: type[Plugin]) -> str:
    """Authors, venue and number of the paper, when the module's first line has them."""
    first = _first_line(getattr(sys.modules.get(plugin.__module__), "__doc__", None))
    found = re.search(r" \(([^()]*)\)", first)
    return found[1] if found else ""


def offered() -> dict[str, type[Plugin]]:
    """The methods that a visitor can use: those that choose among several pictures of a prompt have
    nothing to choose from here, those that show pictures have none, nor a file those that read one.
    """
    return {
        name: kind
        for name, kind in available().items()
        if not getattr(kind, "several", False)
        and not getattr(kind, "pictures", False)
        and all(one.local != () for one in parameters.parameters(kind))
    }


def has_layout(plugin: type[Plugin]) -> bool:
    """Whether the method follows a layout."""
    return any(is_layout(parameter) for parameter in parameters.parameters(plugin))


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0].strip()


def is_layout(parameter: Parameter) -> bool:
    """Whether a parameter is a layout, which people paint."""
    return Layout in parameter.kinds

"""Names from before 0.2: who still uses one is told the new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

PARAMETERS = {"until": "stop", "begin": "start", "warmup": "start"}
"""Parameters of methods, and what they are called now."""


class Renamed:
    """Base of values whose attributes had other names: an old one ends in an error that says so."""

    renamed: ClassVar[Mapping[str, str]] = {}

    if not TYPE_CHECKING:  # for a type checker, any attribute would exist

        def __getattr__(self, name: str) -> Any:
            raise missing(self, name, type(self).renamed.get(name))


def missing(owner: object, name: str, new: str | None) -> AttributeError:
    """The error for an attribute that is not there, with its new name if it has one."""
    hint = f": it is {new} now" if new else ""
    text = f"{type(owner).__name__!r} object has no attribute {name!r}{hint}"
    return AttributeError(text, name=name, obj=owner)


def old_protocol(plugin: object) -> str:
    """A hint for a plugin that was written for the protocol before 0.2; empty for others."""
    start = getattr(plugin, "start", None)
    return "; its start(run) is called guide(run) now" if callable(start) else ""

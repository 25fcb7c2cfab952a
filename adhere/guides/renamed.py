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
            new = type(self).renamed.get(name)
            hint = f": it is {new} now" if new else ""
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}{hint}",
                name=name,
                obj=self,
            )


def old_protocol(plugin: object) -> str:
    """A hint for a plugin that was written for the protocol before 0.2; empty for others."""
    start = getattr(plugin, "start", None)
    return "; its start(run) is called guide(run) now" if callable(start) else ""

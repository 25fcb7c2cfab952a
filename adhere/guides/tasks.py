"""What people reach for a method for: the order in which methods are listed to them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from adhere.errors import ParameterError

TASKS: Mapping[str, str] = MappingProxyType(
    {
        "appear": "make things appear",
        "bind": "give every thing its own properties",
        "place": "put things in their places",
        "negate": "leave things out",
        "safe": "keep safe, and from copying",
        "noise": "choose the starting noise",
        "choose": "look at pictures while they are made, and choose",
        "edit": "edit and mix",
        "scale": "guide more strongly",
        "": "others",
    }
)
"""What a plugin's class attribute `task` may be, and how it is said."""

Kind = TypeVar("Kind", bound=type)


def by_task(table: Mapping[str, Kind]) -> dict[str, dict[str, Kind]]:
    """The plugins of each task by name, in the order of `TASKS`; tasks without one are left out."""
    sorted_names = sorted(table)
    groups = {
        says: {name: table[name] for name in sorted_names if task_of(table[name]) == task}
        for task, says in TASKS.items()
    }
    return {says: group for says, group in groups.items() if group}


def check_task(plugin: type) -> None:
    """Refuse a task that is not in `TASKS`.

    Raises:
        ParameterError: it is another.
    """
    if task_of(plugin) not in TASKS:
        known = ", ".join(filter(None, TASKS))
        raise ParameterError(
            f"plugin {getattr(plugin, 'name', plugin)!r} has the task {task_of(plugin)!r}: set one "
            f"of {known}, or leave it out"
        )


def task_of(plugin: type) -> str:
    """A plugin's task; empty where it has none."""
    return str(getattr(plugin, "task", ""))

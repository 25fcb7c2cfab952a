"""The plugins as text, from their own declarations."""

from __future__ import annotations

from adhere.guides.manual import first_line, manual
from adhere.guides.tasks import TASKS, by_task
from adhere.plugins import available, plugin


def everything() -> str:
    """A line for each plugin, by what it is for."""
    table = available()
    width = max(map(len, table))
    lines: list[str] = []
    for task, kinds in by_task(table).items():
        lines += [f"to {task}:" if task != TASKS[""] else f"{task}:"]
        lines += [f"  {name:<{width}}  {first_line(kind)}" for name, kind in kinds.items()]
    return "\n".join([*lines, "", "adhere plugins NAME shows a plugin's parameters."])


def one(name: str) -> str:
    """A plugin with its parameters: default, range, what it is for, where it comes from."""
    return f"{name}: {manual(type(plugin(name)))}"

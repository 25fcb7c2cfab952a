"""What is said at a terminal: lines on standard error, JSON, help where there is little room."""

from __future__ import annotations

import json
import os
import sys
from contextvars import ContextVar
from typing import Any

ROOM = 80
"""Columns from which on Typer's tables of options cut nothing off."""
KEPT = "what was finished is kept"
GOES_ON = f"{KEPT}, and the same command makes the rest"
NOTHING = "nothing was finished, and the same command begins anew"
_LEFT: ContextVar[str] = ContextVar("left", default=KEPT)


def if_stopped(left: str) -> None:
    """From here on, what an interrupt of the command leaves, for the sentence that it ends in."""
    _LEFT.set(left)


def left() -> str:
    """What the last `if_stopped` has said."""
    return _LEFT.get()


def complain(text: str, colour: str = "red") -> None:
    """A line on standard error; without colour where `NO_COLOR` is set or nobody watches."""
    import typer

    typer.secho(text, fg=None if os.environ.get("NO_COLOR") else colour, err=True)


def json_of(data: Any) -> str:
    """JSON that standard output can show as it is.

    Elsewhere than in Unicode, letters that its encoding lacks would be shown by marks that are no
    JSON.
    """
    text = json.dumps(data, indent=2, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(data, indent=2)
    return text


def fold_help() -> None:
    """On a narrow terminal, names of options and long words go on in the next line of help.

    Typer has no setting for it and cuts them: `--guida…`.
    """
    from rich.console import Console, Group
    from rich.table import Table
    from typer import rich_utils

    if Console().width >= ROOM:
        return

    class Folding(Table):
        def add_row(self, *cells: Any, **settings: Any) -> None:
            super().add_row(*cells, **settings)
            for column in self.columns:
                column.overflow = "fold"

    named: dict[str, Any] = vars(rich_utils)
    # What is in columns beside one another is in a table of its own.
    named |= {"Table": Folding, "Columns": lambda parts: Group(*parts)}

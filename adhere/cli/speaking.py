"""Lines on standard error, coloured where that is wanted."""

from __future__ import annotations

import os


def complain(text: str, colour: str = "red") -> None:
    """A line on standard error; without colour where `NO_COLOR` is set or nobody watches."""
    import typer

    typer.secho(text, fg=None if os.environ.get("NO_COLOR") else colour, err=True)

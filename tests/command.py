"""The command line, called in this process."""

from __future__ import annotations

from pathlib import Path

from adhere.cli import main
from adhere.cli.commands import app


def adhere(*words: str | Path) -> int:
    """Run the command line in this process; its exit code."""
    try:
        main(lambda **options: app(args=[str(word) for word in words], **options))
    except SystemExit as done:
        return int(done.code or 0)
    return 0

"""The command line, called in this process."""

from __future__ import annotations

from pathlib import Path

from adhere import cli


def adhere(*words: str | Path) -> int:
    """Run the command line in this process; its exit code."""
    try:
        cli.main(lambda **options: cli.app(args=[str(word) for word in words], **options))
    except SystemExit as done:
        return int(done.code or 0)
    return 0

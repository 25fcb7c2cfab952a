"""Where files are, and where one is put that replaces another."""

from __future__ import annotations

import os
from pathlib import Path


def at_home(path: str | Path) -> Path:
    """A path as a shell reads it: `~` and `~user` are home folders; of no known user, as it is."""
    return Path(os.path.expanduser(path))


def replaced(path: Path) -> Path:
    """The file that is replaced where `path` is written; what a link leads to is replaced, not the
    link.

    Raises:
        OSError: a device, a pipe, a folder, or links in a circle are there. Renaming a file over
            them would take them away, and the system's `/dev/null` with them.
    """
    place = Path(os.path.realpath(path))
    if os.path.lexists(place) and (place.is_symlink() or not place.is_file()):
        raise OSError(None, "a folder, a device, a pipe or a circle of links is there, and no file")
    if not place.exists() and path.exists():  # a pipe or a terminal, under a name of /proc
        raise OSError(None, "a pipe or a terminal is there, and no file")
    return place

"""Where files are, and where one is put that replaces another."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_UNFINISHED = re.compile(r"\..+\.adhere-([0-9a-f]{8})-(\d+)-\d+\.part")
_LONG = 180
"""Bytes of a name to which no more is added: file systems take 255, and some 75 are added."""
_OLD = 24 * 3600.0
"""Seconds after which nobody writes the same file any more."""


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


def unfinished(place: Path) -> Path:
    """Where what will be at `place` is written first: beside it, and by this thread alone."""
    mine = f"{_machine()}-{os.getpid()}-{threading.get_ident()}"
    name = place.name
    if len(os.fsencode(name)) > _LONG:  # what a file may be called, this could not be
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return place.with_name(f".{name}.adhere-{mine}.part")


@contextmanager
def replacing(path: Path, begun: Path | None = None) -> Iterator[Path]:
    """A file to be written, which takes the place of `path` when the block is left; where the block
    does not come to its end, nothing of it stays.

    Args:
        path: the file, whose folder is made.
        begun: where it is written first, on the same file system; beside `path` if left out.

    Raises:
        OSError: it cannot be written, or what is there is no file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    place = replaced(path)
    with passing(begun or unfinished(place)) as temporary:
        yield temporary
        os.replace(temporary, place)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """`replacing`, for what a person waits for.

    Raises:
        OSError: in a sentence, what could not be written.
    """
    try:
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise OSError(
            f"{path} was not written ({error.strerror or error}); what was finished before is "
            "kept: make room there, and do the same again"
        ) from error


@contextmanager
def passing(begun: Path) -> Iterator[Path]:
    """A file that is gone when the block is left, if it was not renamed; its folder is made."""
    begun.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield begun
    finally:
        with suppress(OSError):  # a folder that takes nothing any more gives nothing back
            begun.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """A moment in a folder that no other program has at the same time, so that what was read there
    is still so when it is written back. Where systems or file systems know no locks, as ever.
    """
    held = None
    with suppress(ImportError, OSError):
        import fcntl

        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if held is not None:
            os.close(held)


def sweep(folder: Path) -> None:
    """Remove what programs that were killed have left unfinished in a folder. What cannot be
    removed stays.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            if _UNFINISHED.fullmatch(path.name) and abandoned(path):
                with suppress(OSError):
                    path.unlink()


def abandoned(path: Path) -> bool:
    """Whether nobody writes an unfinished file any more.

    A program is known to be gone on its own machine only; on others' files of a folder that several
    write to, and where the name does not tell whose it is, it is after a day.
    """
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > _OLD:
            return True
    found = _UNFINISHED.fullmatch(path.name)
    return found is not None and found[1] == _machine() and not _runs(int(found[2]))


def _runs(process: int) -> bool:
    if os.name == "nt":  # `os.kill` would end it there, or interrupt this one
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]

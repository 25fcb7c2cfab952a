"""Where a run lies: a folder of this machine, or of any store that fsspec knows (`s3://...`).

A place holds files by name (`done/1-of-1.jsonl`). Files are whole or absent; a log grows by rows.
`file:///folder` is the folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

from adhere.eval import files
from adhere.eval.errors import EvaluationError
from adhere.eval.files import Log
from adhere.files import abandoned, sweep, unfinished

# Of the protocols that runs are kept by; as a folder's name it is nobody's wish.
_ONE_SLASH = re.compile(r"(s3|s3a|gs|gcs|az|abfs|hf|memory|https?|sftp|ssh):/([^/].*)", re.DOTALL)
# What fsspec calls this machine's own files.
_LOCAL = ("file", "local")
_WRITING = "writing"


class Rows(Protocol):
    """A log that is open for writing."""

    def append(self, *rows: dict[str, Any]) -> None:
        """Add rows; they are kept when this returns, or within seconds in a store."""


class Place(Protocol):
    """A folder of files. Names have `/` between their parts."""

    @property
    def local(self) -> Path | None:
        """The folder, when it is one of this machine's."""

    def read(self, name: str) -> bytes:
        """A file; raises `FileNotFoundError` or another `OSError`."""

    def blocks(self, name: str) -> Iterator[bytes]:
        """A file in pieces that end with a line."""

    def line_at(self, name: str, start: int) -> bytes:
        """The line that begins at a byte."""

    def write(self, name: str, data: bytes | Iterable[bytes], label: str = "") -> None:
        """Put a file in its place, whole or not at all; `label` names the log of who writes."""

    def create(self, name: str, data: bytes | Iterable[bytes]) -> bool:
        """Write a file only if there is none; False when somebody else was first."""

    def names(self, folder: str) -> list[str]:
        """The files right beneath a folder, by name, sorted."""

    def folders(self, folder: str) -> list[str]:
        """The folders right beneath a folder, by name, sorted."""

    def sizes(self, names: Sequence[str]) -> list[int | None]:
        """Of each file its size in bytes; None where there is none."""

    def log(self, name: str) -> AbstractContextManager[Rows]:
        """Open a log for its one writer; raises `Busy` where another process has it."""

    def logs(self, name: str) -> list[str]:
        """The files of a log, in the order in which they were written."""

    def sweep(self) -> None:
        """Remove what killed writers left half written."""


def at(path: str | Path, alone: bool = False) -> Place:
    """The place at a path: a folder, or `protocol://...`.

    Args:
        path: where it is.
        alone: nobody else writes there, so that no folder for what is half written is left behind.

    Raises:
        EvaluationError: `s3:/bucket/run`, which would be a folder called `s3:`; a `file:` address
            of another machine.
        ExtraMissing: fsspec, or its part for the protocol, is not installed.
    """
    folder = local(path)
    if folder is None:
        from adhere.eval.remote import Store

        return Store(str(path))
    return Folder(folder, alone)


def local(path: str | Path) -> Path | None:
    """The folder or file of this machine that is meant; None of what lies in a store."""
    text = str(path)
    told = _ONE_SLASH.match(text)
    if told:
        raise EvaluationError(
            f"{path} has one slash too few; write {told[1]}://{told[2]}, or ./{path} for a folder "
            "of that name"
        )
    scheme, _, rest = text.partition(":/")
    if scheme not in _LOCAL or not rest:
        return None if "://" in text else Path(path)
    host, _, beneath = rest[1:].partition("/") if rest.startswith("/") else ("", "", rest)
    if host not in ("", "localhost") or not beneath:
        raise EvaluationError(
            f"{text} is no path of this machine; write file:///folder with three slashes, or the "
            "path alone"
        )
    return Path("/", unquote(beneath))


def here(path: str | Path, what: str) -> Path:
    """A file or folder that is read from this machine alone; `what` it is, for the refusal."""
    found = local(path)
    if found is None:
        raise EvaluationError(
            f"{path} lies in a store; {what} are read from this machine: copy them here first"
        )
    return found


def file(path: str | Path) -> tuple[Place, str]:
    """The place of a single file, and its name there.

    Raises:
        EvaluationError: the path ends with a slash.
    """
    found = local(path)
    if found is not None:
        return Folder(found.parent, alone=True), found.name
    folder, _, name = str(path).rpartition("/")
    if not name:
        raise EvaluationError(f"{path} names no file; write where it lies and what it is called")
    return at(f"{folder}/" if folder.endswith(":/") else folder), name


class Folder:
    """A folder of this machine."""

    def __init__(self, path: Path, alone: bool = False) -> None:
        self.local = path
        self._alone = alone
        self._tidied: set[Path] = set()

    def __str__(self) -> str:
        return str(self.local)

    def read(self, name: str) -> bytes:
        """See `Place`."""
        return (self.local / name).read_bytes()

    def blocks(self, name: str) -> Iterator[bytes]:
        """See `Place`."""
        with (self.local / name).open("rb") as stream:
            yield from files.blocks(stream)

    def line_at(self, name: str, start: int) -> bytes:
        """See `Place`."""
        with (self.local / name).open("rb") as stream:
            stream.seek(start)
            return stream.readline()

    def write(self, name: str, data: bytes | Iterable[bytes], label: str = "") -> None:
        """See `Place`."""
        path = self.local / name
        if self._alone:
            self._tidy(path.parent)
            files.write_atomic(path, data)
            return
        # In one folder, so that what the dead leave is found without looking through all others.
        temporary = unfinished(self.local / _WRITING / f"{path.name}.{label or '-'}")
        files.write_atomic(path, data, temporary)

    def create(self, name: str, data: bytes | Iterable[bytes]) -> bool:
        """See `Place`."""
        path = self.local / name
        self._tidy(path.parent)
        return files.write_once(path, data)

    def _tidy(self, folder: Path) -> None:
        """Once, remove what killed programs began beside the files of a folder."""
        if folder not in self._tidied:
            self._tidied.add(folder)
            sweep(folder)

    def names(self, folder: str) -> list[str]:
        """See `Place`."""
        return self._beneath(folder, files_=True)

    def folders(self, folder: str) -> list[str]:
        """See `Place`."""
        return self._beneath(folder, files_=False)

    def _beneath(self, folder: str, files_: bool) -> list[str]:
        try:
            with os.scandir(self.local / folder) as found:
                return sorted(one.name for one in found if one.is_file() == files_)
        except FileNotFoundError:
            return []

    def sizes(self, names: Sequence[str]) -> list[int | None]:
        """See `Place`."""
        return [_size(f"{self.local}/{name}") for name in names]

    def log(self, name: str) -> Log:
        """See `Place`."""
        return Log(self.local / name)

    def logs(self, name: str) -> list[str]:
        """See `Place`."""
        return [name] if (self.local / name).is_file() else []

    def sweep(self) -> None:
        """See `Place`; living writers hold the lock of the log that they name."""
        sweep(self.local)
        for name in self.names(_WRITING):
            leftover = self.local / _WRITING / name
            label = name.split(".")[-3] if name.count(".") >= 3 else "-"
            held = None if label == "-" else files.locked(self.local / "done" / f"{label}.jsonl")
            # Where locks cannot tell the dead from the living, their processes or their age can.
            if held is False or (held is None and abandoned(leftover)):
                leftover.unlink(missing_ok=True)


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None

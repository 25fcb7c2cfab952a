"""Files that are whole or absent: atomic writes, logs that survive a kill, canonical JSON."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from adhere.eval.errors import Busy, EvaluationError
from adhere.files import passing, replaced, replacing, unfinished


def canonical(data: Any) -> str:
    """JSON that is the same text for the same data: sorted keys, no spaces."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(data: bytes | str, length: int = 64) -> str:
    """The first `length` hexadecimal digits of the SHA-256."""
    raw = data.encode() if isinstance(data, str) else data
    return hashlib.sha256(raw).hexdigest()[:length]


def write_atomic(path: Path, data: bytes | Iterable[bytes], temporary: Path | None = None) -> None:
    """Write a file so that it is seen whole or not at all, also after a kill or a power cut.

    Args:
        path: the file; its folder is made.
        data: the content, or pieces of it one after the other.
        temporary: where it is written first, on the same file system; beside it if left out.

    Raises:
        EvaluationError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    try:
        with replacing(path, temporary) as begun:
            _put(begun, data)
    except OSError as error:
        raise storage_error(path, error) from error


def _put(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file, and wait until it is on the disk."""
    with path.open("wb") as stream:
        stream.writelines([data] if isinstance(data, bytes) else data)
        stream.flush()
        os.fsync(stream.fileno())


def write_once(path: Path, data: bytes | Iterable[bytes]) -> bool:
    """Write a file only if there is none; False when somebody else was first.

    Where the file system has no hard links, two who write at the same instant are told apart by
    what lies there afterwards.
    """
    try:
        with passing(unfinished(path)) as begun:
            _put(begun, data)
            return _linked(begun, path)
    except OSError as error:
        raise storage_error(path, error) from error


def _linked(begun: Path, path: Path) -> bool:
    """Give a file its name, unless there is one of that name."""
    try:
        os.link(begun, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            return False
        ours = begun.read_bytes()
        os.replace(begun, replaced(path))
        return path.read_bytes() == ours
    return True


# What file systems without hard links (FAT, some FUSE and network ones) answer to `link`.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})


def storage_error(path: Path, error: OSError) -> EvaluationError:
    """The operating system's refusal in words a person can act on."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EvaluationError(
            f"the disk is full: {path} was not written. Everything finished so far is kept; "
            "free some space and give the same command again"
        )
    why = error.strerror or error
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        blocking = next((one for one in path.parents if one.is_file()), path.parent)
        why = f"{blocking} is a file; give a folder"
    return EvaluationError(f"cannot write {path}: {why}")


_TAIL = 1 << 16


class Log:
    """An append-only JSONL file with one writer; a torn last line never spoils a later one.

    The file is locked while it is open, so that two processes cannot both be the same shard. The
    lock goes with the process, also when it is killed.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._stream: IO[bytes] = path.open("ab+")
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._stream.close()
            raise Busy(
                f"{path} is being written by another process: give every process a shard of its "
                "own (--shard 1/2, --shard 2/2)"
            ) from error
        except OSError:
            # Some network file systems have no locks; the log still works without.
            pass
        self._mend()

    def _mend(self) -> None:
        """Cut off what a kill left torn: every line that ends is whole."""
        end = size = self._stream.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _TAIL)
            self._stream.seek(start)
            cut = self._stream.read(end - start).rfind(b"\n") + 1
            if cut or not start:
                if start + cut < size:
                    self._stream.truncate(start + cut)
                return
            end = start

    def append(self, *rows: dict[str, Any]) -> None:
        """Add rows and wait until they are on the disk."""
        try:
            self._stream.write(lines(rows))
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise storage_error(self.path, error) from error

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.close()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


BLOCK = 1 << 23
"""Bytes of a file that are read at a time."""


def blocks(stream: IO[bytes]) -> Iterator[bytes]:
    """An open file in pieces that end with a line."""
    while block := stream.read(BLOCK):
        yield block + stream.readline()


def lines(rows: Iterable[dict[str, Any]]) -> bytes:
    """Rows as JSON lines, each in its own order: what every reader asks for stands first."""
    texts = (json.dumps(row, separators=(",", ":"), ensure_ascii=False) for row in rows)
    return "".join(f"{line}\n" for line in texts).encode()


def rows(block: bytes) -> Iterator[dict[str, Any]]:
    """The rows of JSON lines; lines that a kill left torn are passed over."""
    for line in block.split(b"\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def locked(path: Path) -> bool | None:
    """Whether a living process holds the log at `path`; None where locks cannot tell."""
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return False

"""A run in a store: anything that fsspec knows, such as `s3://bucket/run` or `memory://run`.

Objects are put whole, so a picture is there or not. Stores have no appending and no locks: a log is
a series of objects that no other process writes to, and what was not yet put when a process dies is
done again. Two processes that are the same shard do work twice here, and spoil nothing.
"""

from __future__ import annotations

import posixpath
import secrets
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from adhere.errors import ExtraMissing, first_line
from adhere.eval.errors import EvaluationError
from adhere.eval.files import BLOCK, blocks, lines

_LINE = 1 << 16
# How long rows may wait to be put, and how large an object of a log becomes.
_SECONDS = 10.0
_LARGEST = 1 << 22


class Store:
    """A folder of a store; a `Place`."""

    local = None

    def __init__(self, url: str) -> None:
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise ExtraMissing(url, "store") from error
        self.url = url.rstrip("/")
        try:
            with self._asked():
                self.fs, self.root = url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            if url.startswith("s3"):
                raise ExtraMissing(url, "store") from error
            # fsspec names the package of the protocol.
            raise EvaluationError(f"{url}: {error}") from error

    def __str__(self) -> str:
        return self.url

    def _at(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}" if name else str(self.root)

    @contextmanager
    def _asked(self, name: str = "") -> Iterator[None]:
        """The store's refusal, in whatever its library raises, as a sentence."""
        try:
            yield
        except (FileNotFoundError, FileExistsError, ImportError, EvaluationError):
            raise
        except Exception as error:
            where = f"{self.url}/{name}" if name else self.url
            raise EvaluationError(
                f"the store does not answer as it should at {where}: "
                f"{first_line(error) or repr(error)}. What was put there is kept; give the same "
                "command again when it does"
            ) from error

    def read(self, name: str) -> bytes:
        """See `Place`."""
        with self._asked(name):
            found: bytes = self.fs.cat_file(self._at(name))
        return found

    def blocks(self, name: str) -> Iterator[bytes]:
        """See `Place`."""
        with self._asked(name), self.fs.open(self._at(name), "rb", block_size=BLOCK) as stream:
            yield from blocks(stream)

    def line_at(self, name: str, start: int) -> bytes:
        """See `Place`."""
        size, found = _LINE, b""
        while True:
            with self._asked(name):
                found = self.fs.cat_file(self._at(name), start=start, end=start + size)
            if b"\n" in found or len(found) < size:
                return bytes(found.partition(b"\n")[0])
            size *= 4

    def write(self, name: str, data: bytes | Iterable[bytes], label: str = "") -> None:
        """See `Place`."""
        if isinstance(data, bytes):
            self._put(name, data, "overwrite")
            return
        # Put when it is whole: a stream into a store would keep what there is of it at an error.
        with tempfile.NamedTemporaryFile() as pieces:
            pieces.writelines(data)
            pieces.flush()
            with self._written(name):
                self.fs.put_file(pieces.name, self._at(name))

    def create(self, name: str, data: bytes | Iterable[bytes]) -> bool:
        """See `Place`."""
        whole = data if isinstance(data, bytes) else b"".join(data)
        try:
            self._put(name, whole, "create")
        except FileExistsError:
            return False
        return True

    def _put(self, name: str, data: bytes, mode: str) -> None:
        with self._written(name):
            self.fs.pipe_file(self._at(name), data, mode=mode)

    @contextmanager
    def _written(self, name: str) -> Iterator[None]:
        try:
            with self._asked(name):
                yield
        except FileNotFoundError as error:
            raise EvaluationError(f"cannot write {self.url}/{name}: {error}") from error

    def names(self, folder: str) -> list[str]:
        """See `Place`."""
        return self._beneath(folder, "file")

    def folders(self, folder: str) -> list[str]:
        """See `Place`."""
        return self._beneath(folder, "directory")

    def _beneath(self, folder: str, kind: str) -> list[str]:
        return sorted(
            posixpath.basename(one["name"].rstrip("/"))
            for one in self._listed(folder)
            if one["type"] == kind
        )

    def _listed(self, folder: str) -> list[dict[str, Any]]:
        try:
            with self._asked(folder):
                found: list[dict[str, Any]] = self.fs.ls(self._at(folder), detail=True)
        except FileNotFoundError:
            return []
        return [one for one in found if one["name"].rstrip("/") != self._at(folder).rstrip("/")]

    def sizes(self, names: Sequence[str]) -> list[int | None]:
        """See `Place`; asked folder by folder, for an answer each would take for ever."""
        folders: dict[str, dict[str, int]] = defaultdict(dict)
        for folder in {posixpath.dirname(name) for name in names}:
            folders[folder] = {
                posixpath.basename(one["name"]): int(one["size"] or 0)
                for one in self._listed(folder)
                if one["type"] == "file"
            }
        return [folders[posixpath.dirname(name)].get(posixpath.basename(name)) for name in names]

    def log(self, name: str) -> StoredLog:
        """See `Place`; nobody is ever busy."""
        return StoredLog(self, name)

    def logs(self, name: str) -> list[str]:
        """See `Place`."""
        folder, stem = posixpath.split(name.removesuffix(".jsonl"))
        return [f"{folder}/{one}" for one in self.names(folder) if one.startswith(f"{stem}.")]

    def sweep(self) -> None:
        """See `Place`; nothing is ever left half written."""


class StoredLog:
    """A log as objects of its own: `NAME.<time>-<process>-<number>.jsonl`."""

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        stem = name.removesuffix(".jsonl")
        self._series = f"{stem}.{time.time_ns():020d}-{secrets.token_hex(4)}"
        self._number, self._held, self._put = 0, b"", 0
        self._last = time.monotonic()

    def append(self, *rows: dict[str, Any]) -> None:
        """Add rows; they are put within seconds."""
        self._held += lines(rows)
        if time.monotonic() - self._last >= _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Put what is held; an object that became large is closed."""
        if len(self._held) > self._put:
            name = f"{self._series}-{self._number:04d}.jsonl"
            self.store.write(name, self._held)
            self._put = len(self._held)
        if self._put > _LARGEST:
            self._number, self._held, self._put = self._number + 1, b"", 0
        self._last = time.monotonic()

    def __enter__(self) -> StoredLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

"""What a file holds, whatever its name says: JSON, JSON lines, a table, YAML, or lines of text."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from adhere.eval import strict
from adhere.eval.errors import EvaluationError
from adhere.eval.files import digest
from adhere.layout.files import lines_of
from adhere.written import from_json, table_of, text_of

Kind = Literal["json", "jsonl", "table", "yaml", "lines", "folder"]

# The beginning of JSON, and of hardly any prompt.
_JSON = re.compile(r"""\s*(\{\s*("|\}|$)|\[\s*(["{\[\]]|$))""", re.MULTILINE)
# TIAM's YAML under any name.
_TEMPLATE = re.compile(r"^template:.*\$\w", re.MULTILINE)
_WRAPPERS = ("prompts", "data", "entries", "examples", "rows", "test")
_GZIP = b"\x1f\x8b"
# What Excel reads and writes before the head of a table.
_EXCEL = re.compile(r"\A\s*sep=.\r?\n", re.IGNORECASE)
_DELIMITERS = (",", "\t", ";", "|")
# Columns that hold the prompt, in the order in which they are believed.
PROMPTS = (
    "prompt", "prompts", "caption", "text", "synthetic_prompt", "synthetic_prompts",
    "adv_prompt", "sensitive_prompt", "positive_prompt", "meta_prompt", "meta_prompts",
    "vanilla_prompt", "vanilla_prompts", "prompt_text", "text_prompt", "captions",
)  # fmt: skip

Row = Mapping[str, str]


@dataclass(frozen=True)
class Content:
    """A file or folder, read and told apart. `data` is what its kind suggests."""

    path: Path
    kind: Kind
    data: Any = None
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """Changes with the file."""
        return digest(self.path.read_bytes(), 8) if self.path.is_file() else "1"

    @property
    def name(self) -> str:
        """The file's name as a suite's name."""
        stem = self.path.with_suffix("").stem if _zipped(self.path) else self.path.stem
        return re.sub(r"[^\w.-]+", "-", stem).strip("-._") or "suite"

    def rows(self) -> Sequence[Row]:
        """The rows of a table."""
        return self.data if self.kind == "table" else ()

    def columns(self) -> frozenset[str]:
        """The columns of a table; of JSON lines or a JSON list, the keys of the first entry."""
        if self.kind not in ("table", "jsonl", "json") or not isinstance(self.data, list):
            return frozenset()
        first = self.data[0] if self.data else None
        return frozenset(first) if isinstance(first, Mapping) else frozenset()


def read(path: Path, options: Mapping[str, str] | None = None) -> Content:
    """Read a file and tell what it holds.

    Raises:
        EvaluationError: it cannot be read, is no text, or begins as JSON and is none.
    """
    options = options or {}
    if path.is_dir():
        return Content(path, "folder", options=options)
    text = decoded(path)
    if not text.strip():
        raise EvaluationError(f"{path} is empty")
    if _JSON.match(text) or _suffix(path) in (".json", ".jsonl"):
        kind, data = _json(path, text)
        return Content(path, kind, data, options)
    if _suffix(path) in (".yaml", ".yml") or _TEMPLATE.search(text):
        return Content(path, "yaml", _yaml(path, text), options)
    rows = table(path, text)
    if rows is not None:
        return Content(path, "table", rows, options)
    lines = [line.strip() for line in lines_of(text) if line.strip()]
    return Content(path, "lines", lines, options)


def _zipped(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _suffix(path: Path) -> str:
    """What the name says of the content, `.gz` aside."""
    return (path.with_suffix("") if _zipped(path) else path).suffix.lower()


def decoded(path: Path) -> str:
    """A text file, by its byte order mark or else as UTF-8."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data.startswith(_GZIP) else data
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise EvaluationError(f"cannot read suite {path}: {why}") from error
    try:
        return text_of(data)
    except ValueError as error:
        raise EvaluationError(f"{path} is not text in UTF-8 or UTF-16: {error}") from error


def _json(path: Path, text: str) -> tuple[Kind, Any]:
    try:
        data = from_json(text)
        # One line of JSON lines is JSON too.
        if isinstance(data, Mapping) and (_suffix(path) == ".jsonl" or "prompt" in data):
            return "jsonl", [data]
        return "json", _unwrapped(data)
    except ValueError as whole:
        lines = [(n, line) for n, line in enumerate(lines_of(text), 1) if line.strip()]
        entries = []
        for number, line in lines:
            try:
                entries.append(from_json(line))
            except ValueError as error:
                if not entries:
                    raise EvaluationError(f"suite {path} does not parse: {whole}") from error
                raise EvaluationError(
                    f"suite {path} does not parse: line {number} of JSON lines: {error}"
                ) from error
    bad = next((n for (n, _), one in zip(lines, entries, strict=True) if type(one) is not dict), 0)
    if bad:
        raise EvaluationError(f"suite {path}: line {bad} of JSON lines is no mapping")
    return "jsonl", entries


def _unwrapped(data: Any) -> Any:
    """What lies alone under a word that only says that entries follow."""
    while isinstance(data, Mapping) and len(data) == 1:
        ((key, inner),) = data.items()
        if str(key).lower() not in _WRAPPERS or not isinstance(inner, list | Mapping):
            break
        data = inner
    return data


def _yaml(path: Path, text: str) -> Any:
    try:
        return strict.from_yaml(text)
    except yaml.YAMLError as error:
        raise EvaluationError(f"suite {path} does not parse: {error}") from error


def table(path: Path, text: str) -> list[dict[str, str]] | None:
    """The rows of a table with a column of prompts, keys in lower case; None where it is none."""
    text = _EXCEL.sub("", text).lstrip("\n\r")
    head = lines_of(text)[0] if text else ""
    named = _suffix(path) in (".csv", ".tsv")
    found = [mark for mark in _DELIMITERS if _has_prompts(_split(head, mark))]
    if not found and not named:
        return None
    if not found:
        columns = ", ".join(map(repr, _split(head, _likely(head)))) or "none"
        raise EvaluationError(
            f"{path} has no column of prompts ({', '.join(PROMPTS[:4])}...); it has {columns}"
        )
    mark = max(found, key=lambda one: len(_split(head, one)))
    if len(_split(head, mark)) == 1 and not named:
        # A text file whose first line happens to be "prompt" is a table of one column.
        mark = "\t"
    rows = _cells(path, text, mark)
    if not named and len(rows[0]) > 1 and any(len(row) == 1 for row in rows):
        # A prompt such as "Text, in neon" at the head of a list of prompts is no head of a table.
        return None
    return _rows(path, rows)


def _likely(head: str) -> str:
    return max(_DELIMITERS, key=head.count)


def _split(head: str, mark: str) -> list[str]:
    try:
        (row,) = csv.reader([head], delimiter=mark)
    except csv.Error:  # a prompt of a megabyte, and no head
        return []
    return [column_named(cell) for cell in row]


def column_named(name: str) -> str:
    """A column's name in lower case, its words joined by `_`."""
    return re.sub(r"[\s-]+", "_", name.strip().strip("\"'").lower())


def _has_prompts(columns: Sequence[str]) -> bool:
    return any(column in PROMPTS for column in columns)


def _cells(path: Path, text: str, mark: str) -> list[list[str]]:
    """The cells, row by row, the head first; what is blank is left out."""
    try:
        return [row for _, row in table_of(text, mark)]
    except ValueError as error:
        raise EvaluationError(f"{path}: {error}") from error


def _rows(path: Path, table: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    columns = [column_named(cell) for cell in table[0]]
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise EvaluationError(f"{path} has two columns {twice[0]!r}")
    if len(table) == 1:
        raise EvaluationError(f"{path} has a head and no rows")
    rows = []
    for number, cells in enumerate(table[1:], 1):
        if len(cells) > len(columns):
            raise EvaluationError(
                f"{path}, row {number}: {len(cells)} cells under {len(columns)} columns; a prompt "
                "with the delimiter in it needs quotes"
            )
        whole = [*cells, *[""] * (len(columns) - len(cells))]
        rows.append(dict(zip(columns, whole, strict=True)))
    return rows

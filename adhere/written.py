"""What somebody wrote by hand or a spreadsheet exported: of none of it is anything lost without a
word.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator
from typing import Any

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def text_of(data: bytes) -> str:
    """A file's text, by its byte order mark or else as UTF-8; `ValueError` for what is none."""
    encoding = next((name for bom, name in _BOMS if data.startswith(bom)), "utf-8")
    text = data.decode(encoding)
    if "\0" in text:
        raise ValueError("it has zero bytes")
    return text


def table_of(text: str, mark: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table that are not blank, each with the number of the line where it begins.

    Cells are stripped. Where tabs are between them, quotes that do not pair are letters; elsewhere
    one that is never closed would take all that follows into its cell.

    Raises:
        ValueError: it does not read, with the line.
    """
    try:
        yield from list(_rows(text, mark, csv.QUOTE_MINIMAL))
    except ValueError:
        if mark != "\t":
            raise
        yield from _rows(text, mark, csv.QUOTE_NONE)


def _rows(text: str, mark: str, quoting: Any) -> Iterator[tuple[int, list[str]]]:
    stream = io.StringIO(text, newline="")
    reader = csv.reader(stream, delimiter=mark, quoting=quoting, strict=True)
    number = 1
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield number, cells
            number = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"the table does not read from line {number} on ({error}); a cell that begins with a "
            'quote ends with one, and quotes inside are doubled ("")'
        ) from error


def from_json(text: str) -> Any:
    """JSON's data; raises `ValueError` for what is none, and for a mapping with a key twice."""
    return json.loads(text, object_pairs_hook=_mapping)


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} is there twice")
    return found

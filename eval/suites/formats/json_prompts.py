"""Prompts as JSON of no benchmark: texts, entries with a prompt, lists by category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adhere.eval.errors import EvaluationError
from adhere.eval.suites.formats import prompt_tables
from adhere.eval.suites.formats.content import PROMPTS, Content, column_named
from adhere.eval.suites.items import Item, Suite

_SUITE = {"name", "version", "source", "licence", "items", "prompt"}


def is_entries(content: Content) -> bool:
    """JSON lines or a JSON list of mappings with a prompt."""
    names = {column_named(key) for key in content.columns()}
    return content.kind in ("json", "jsonl") and bool(names & set(PROMPTS))


def as_table(content: Content) -> Content:
    """Entries as the rows of a table, with all columns that any of them has."""
    rows = [_row(one, f"{content.path}, entry {n}") for n, one in enumerate(content.data, 1)]
    names = dict.fromkeys(name for row in rows for name in row)
    data = [{name: row.get(name, "") for name in names} for row in rows]
    return replace(content, kind="table", data=data)


def entries(content: Content) -> Suite:
    """Entries as the table that they would be, also of a benchmark."""
    table = as_table(content)
    known = (
        (prompt_tables.is_hrs, prompt_tables.hrs),
        (prompt_tables.is_partiprompts, prompt_tables.partiprompts),
        (prompt_tables.is_drawbench, prompt_tables.drawbench),
        (prompt_tables.is_i2p, prompt_tables.i2p),
    )
    return next((read for fits, read in known if fits(table)), prompt_tables.prompts)(table)


def _row(entry: Any, where: str) -> dict[str, str]:
    if not isinstance(entry, Mapping):
        raise EvaluationError(f"{where} is {entry!r}; a mapping with a prompt was expected")
    return {column_named(str(key)): _cell(value, f"{where}: {key}") for key, value in entry.items()}


def _cell(value: Any, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        return ", ".join(map(str, value))
    if not isinstance(value, str | int | float):
        raise EvaluationError(f"{where} is {str(value)[:60]!r}; a text or a number was expected")
    return str(value).strip()


def is_texts(content: Content) -> bool:
    """A JSON list of texts, texts by their id, or lists of texts by their category."""
    data = content.data
    if content.kind == "json" and isinstance(data, Mapping):
        # A suite that lacks its items is no mapping of prompts.
        return not _SUITE & set(data) and (_by_id(data) or all(map(_are_texts, data.values())))
    return content.kind in ("json", "yaml") and _are_texts(data)


def texts(content: Content) -> Suite:
    """The prompts, with the keys that they lie under as ids or categories."""
    data = content.data
    if isinstance(data, list):
        items = [Item(f"{n:04d}", text.strip()) for n, text in enumerate(data, 1)]
    elif _by_id(data):
        items = [Item(str(key), text.strip()) for key, text in data.items()]
    else:
        pairs = [(text.strip(), (str(tag),)) for tag, some in data.items() for text in some]
        items = [Item(f"{n:04d}", text, tags=tags) for n, (text, tags) in enumerate(pairs, 1)]
    return Suite(content.name, content.version, content.path.name, "not stated", tuple(items))


def read(content: Content) -> Suite:
    """Whichever of the two it is."""
    return entries(content) if is_entries(content) else texts(content)


def _by_id(data: Mapping[str, Any]) -> bool:
    return bool(data) and all(isinstance(one, str) for one in data.values())


def _are_texts(data: Any) -> bool:
    return (
        isinstance(data, Sequence)
        and not isinstance(data, str)
        and bool(data)
        and all(isinstance(one, str) for one in data)
    )

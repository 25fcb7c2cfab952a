"""Prompt files: text, CSV, JSONL and JSON, each read as what it is, or the same from a stream."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adhere.errors import GuidanceError, LayoutError, ParameterError, PromptError
from adhere.layout.files import beside, lines_of
from adhere.layout.layout import Layout
from adhere.pipelines.studio.request import Request, seeds_of
from adhere.written import from_json, table_of, text_of

STREAM = Path("-")
"""Names standard input."""

_PROMPT = ("prompt", "prompts", "caption", "text")
_MEANT = {
    **dict.fromkeys(_PROMPT, "prompt"),
    "negative_prompt": "negative_prompt", "negative": "negative_prompt",
    "guidance_scale": "guidance_scale", "cfg_scale": "guidance_scale", "cfg": "guidance_scale",
}  # fmt: skip
"""What columns and keys mean; of several that mean the same, the first here is read."""
_WHOLE = {"steps": (1, 1000), "width": (16, 4096), "height": (16, 4096)}
"""Whole numbers, within what the command line's own options take."""
_WHOLE_FLOAT = re.compile(r"(?<![\w.])(\d+)\.0*(?![\w.])")
"""How a spreadsheet writes a whole number: `1.0`."""
_SCALES = (0, 100)
_SHARES = ("guidance_scale", "true_cfg_scale")
_WORDS = ("negative_prompt", "scheduler")
_EXCEL = re.compile(r"\A\s*sep=.\r?\n", re.IGNORECASE)
"""What Excel writes before the head of a table."""
_SUFFIXES = {
    ".txt": "text", ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".json": "json",
}  # fmt: skip


@dataclass(frozen=True)
class PromptLine:
    """One prompt, and what the file says beside it.

    Attributes:
        prompt: its text.
        place: where it stands, for messages: `prompts.csv line 3`; empty outside a file.
        seeds: its own seeds; None for those of the command.
        own: fields of a `Request` that it sets itself.
        fault: why it cannot be read; such a line is recorded and passed over.
    """

    prompt: str
    place: str = ""
    seeds: tuple[int, ...] | None = None
    own: Mapping[str, Any] = field(default_factory=dict)
    fault: GuidanceError | None = None


@dataclass(frozen=True)
class PromptFile:
    """The prompts of a file, and the names of what it holds beside that is not read."""

    lines: tuple[PromptLine, ...]
    unread: tuple[str, ...] = ()


def read(path: Path, option: str = "--prompts") -> PromptFile:
    """The prompts of a file, or of standard input where it is `-`.

    The ending decides: `.txt` has a prompt a line (`#` begins a comment), `.csv` and `.tsv` have
    columns, `.jsonl` an object a line, `.json` a list. Other endings and streams are told by how
    they begin. Columns and keys: prompt, seed or seeds, negative_prompt, subjects (`cat|frog`),
    layout (a file beside this one), steps, guidance_scale, true_cfg_scale, width, height,
    scheduler. `option` is what names the file, for errors.

    Raises:
        PromptError: there is no such file, it is no text, or it holds no prompt.
    """
    name = "standard input" if path == STREAM else path.name
    text = _text(path, option)
    kind = _SUFFIXES.get(path.suffix.lower()) or _sniffed(text)
    found = list(_READERS[kind](text, name))
    if not found:
        raise PromptError(f"{option} {str(path)!r} has no prompt in it; write one a line")
    lines = tuple(_line(value, f"{name} line {number}", path.parent) for number, value in found)
    rows = [value for _, value in found if isinstance(value, Mapping)]
    return PromptFile(lines, tuple(dict.fromkeys(key for row in rows for key in _unread(row))))


def _text(path: Path, option: str) -> str:
    if path == STREAM and sys.stdin is None:  # `<&-`
        raise PromptError(f"{option} - reads standard input, which is closed; give a file")
    if path != STREAM and path.is_dir():
        raise PromptError(f"{option} {str(path)!r} is a folder; give the file of prompts itself")
    if path != STREAM and not path.exists():
        raise PromptError(f"{option} {str(path)!r}: there is no such file")
    try:
        raw = sys.stdin.buffer.read() if path == STREAM else path.read_bytes()
        return text_of(raw)
    except (OSError, ValueError) as error:
        raise PromptError(
            f"{option} {str(path)!r} cannot be read as text ({error}); save it as UTF-8"
        ) from error


def _sniffed(text: str) -> str:
    """What a stream without a name is: JSON by its first mark, CSV by a column called prompt."""
    first = text.lstrip().split("\n", 1)[0].strip()
    if first.startswith("{"):
        return "jsonl" if _parses(first) else "json"
    if first.startswith("[") and (_parses(text) or first == "["):
        return "json"
    names = [part.strip().strip('"').lower() for part in first.replace(";", ",").split(",")]
    return "csv" if len(names) > 1 and set(names) & set(_PROMPT) else "text"


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


# ---- One reader a format: line numbers with what stands there ------------------------------------
Found = Iterator[tuple[int, Any]]


def _plain_lines(text: str, name: str) -> Found:
    for number, line in enumerate(lines_of(text), 1):
        if (prompt := line.strip()) and not prompt.startswith("#"):
            yield number, prompt


def _columns(text: str, name: str) -> Found:
    text = _EXCEL.sub("\n", text)  # an empty line: line numbers stay as they are
    head = next((line for line in lines_of(text) if line.strip()), "")
    mark = max("\t;,", key=head.count)
    try:
        rows = list(table_of(text, mark))
    except ValueError as error:
        raise PromptError(f"{name}: {error}") from error
    names = rows[0][1] if rows else []
    if not any(_field(one) == "prompt" for one in names):
        raise PromptError(
            f"{name} has the columns {', '.join(map(repr, names)) or 'none'}; its first line must "
            "name the columns, and one of them must be 'prompt'"
        )
    if twice := [one for one in names if one and [*map(_plain, names)].count(_plain(one)) > 1]:
        raise PromptError(f"{name} has two columns {twice[0]!r}; leave one of them out")
    for number, cells in rows[1:]:
        if any(cells[len(names) :]):
            yield (
                number,
                PromptError(
                    f"it has {len(cells)} fields for {len(names)} columns; put texts that hold "
                    f'{mark!r} in "quotes"'
                ),
            )
        else:
            yield number, dict(zip(names, cells, strict=False))


def _json_lines(text: str, name: str) -> Found:
    for number, line in enumerate(lines_of(text), 1):
        if line.strip():
            try:
                yield number, from_json(line)
            except (ValueError, RecursionError) as error:
                yield number, PromptError(f"it is no JSON ({error})")


def _json(text: str, name: str) -> Found:
    try:
        value = from_json(text)
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{name} cannot be read as JSON: {error}") from error
    if isinstance(value, Mapping):
        inside = next((value[key] for key in _PROMPT if isinstance(value.get(key), list)), None)
        value = inside if inside is not None else [value]
    if not isinstance(value, list):
        raise PromptError(
            f'{name} must be a list of prompts, or of {{"prompt": "a cat", "seed": 3}}, '
            f"not {str(value)[:60]}"
        )
    yield from enumerate(value, 1)


_READERS = {"text": _plain_lines, "csv": _columns, "jsonl": _json_lines, "json": _json}


# ---- One line ------------------------------------------------------------------------------------

_KNOWN = ("prompt", "seed", "seeds", "subjects", "layout", *_WHOLE, *_SHARES, *_WORDS)


def _plain(key: str) -> str:
    return key.strip().lower().replace(" ", "_").replace("-", "_")


def _field(key: str) -> str:
    """What a column or key is called here."""
    return _MEANT.get(_plain(key), _plain(key))


def _keys(value: Mapping[str, Any]) -> dict[str, str]:
    """The key that is read for each field that a line has."""
    order = {name: place for place, name in enumerate(_MEANT)}
    found: dict[str, str] = {}
    for key in sorted(value, key=lambda one: order.get(_plain(one), 0)):
        if _field(key) in _KNOWN and not _blank(value[key]):
            found.setdefault(_field(key), key)
    return found


def _unread(value: Mapping[str, Any]) -> Iterator[str]:
    """What a line says that nobody reads."""
    read = _keys(value).values()
    for key in value:
        if _field(key) not in _KNOWN or not (_blank(value[key]) or key in read):
            yield key


def _blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _line(value: Any, place: str, folder: Path) -> PromptLine:
    if isinstance(value, str):
        return checked(PromptLine(value, place))
    if isinstance(value, GuidanceError):
        return PromptLine("", place, fault=value)
    if not isinstance(value, Mapping):
        fault = PromptError(f"{str(value)[:60]} is neither a prompt nor an object with one")
        return PromptLine("", place, fault=fault)
    fields = {field: value[key] for field, key in _keys(value).items()}
    prompt = fields.get("prompt")
    if not isinstance(prompt, str):
        return PromptLine("", place, fault=PromptError(_no_prompt(value)))
    try:
        return checked(PromptLine(prompt, place, _seeds(fields), dict(_own(fields, folder))))
    except GuidanceError as error:
        return PromptLine(prompt, place, fault=error)


def _no_prompt(value: Mapping[Any, Any]) -> str:
    """What stands in an object or a row in place of a prompt."""
    given = next((one for key, one in value.items() if _field(key) == "prompt"), ...)
    if given is ...:
        return f"it has no prompt: it has {', '.join(map(repr, value)) or 'nothing'}"
    return "its prompt is empty" if _blank(given) else f"its prompt {given!r:.60} is no text"


def checked(line: PromptLine) -> PromptLine:
    """The line, with what is wrong with it as a request, if anything is."""
    try:
        Request(line.prompt, **line.own)
    except GuidanceError as error:
        return replace(line, fault=error)
    return line


def _seeds(fields: Mapping[str, Any]) -> tuple[int, ...] | None:
    """`seed` names one, or several as in `1,5-7`; `seeds` are as on the command line."""
    given = fields.get("seed", fields.get("seeds"))
    if given is None:
        return None
    named = [
        _WHOLE_FLOAT.sub(r"\1", str(one)).strip()
        for one in (given if isinstance(given, list) else [given])
    ]
    if isinstance(given, list) or "seed" in fields:
        named = [f"{one}-{one}" if one.isdecimal() else one for one in named]
    return seeds_of(",".join(named))


def _own(fields: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Any]]:
    for name in _WORDS:
        if name in fields:
            yield name, str(fields[name])
    for name in (*_WHOLE, *_SHARES):
        if name in fields:
            yield name, _number(name, fields[name])
    if "subjects" in fields:
        yield "subjects", _phrases(fields["subjects"])
    if "layout" in fields:
        yield "layout", _layout(fields["layout"], folder)


def _number(name: str, value: Any) -> float:
    whole = name in _WHOLE
    try:
        number = float("true" if isinstance(value, bool) else value)
        if whole and number % 1:
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        raise ParameterError(f"{name}={value!r} is not a {'whole ' * whole}number") from error
    low, high = _WHOLE.get(name, _SCALES)
    if not low <= number <= high:
        raise ParameterError(f"{name}={value!r} is out of range; give one from {low} to {high}")
    return int(number) if whole else number


def _phrases(value: Any) -> tuple[str, ...]:
    phrases: Iterable[Any] = value.split("|") if isinstance(value, str) else value
    if not isinstance(phrases, list | tuple) or not all(isinstance(one, str) for one in phrases):
        raise ParameterError(f"subjects={value!r}: write 'cat|frog', or a list of phrases")
    return tuple(phrases)


def _layout(value: Any, folder: Path) -> Layout:
    if isinstance(value, Mapping):
        return Layout.from_json(value)
    if not isinstance(value, str):
        raise LayoutError(f"layout={value!r}: name a file beside the prompts, or give the layout")
    return Layout.read(beside(folder, value))

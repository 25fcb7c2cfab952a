"""Suites: prompts with what a picture of them must show, as versioned data files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from adhere.errors import LayoutError
from adhere.eval.errors import EvaluationError
from adhere.eval.files import canonical, digest
from adhere.layout.layout import Layout

RELATIONS = ("left", "right", "above", "below")
_REQUEST_FIELDS = frozenset({"seed", "steps", "guidance_scale", "width", "height"})


@dataclass(frozen=True)
class Thing:
    """One kind of object that a prompt asks for.

    `phrase` is the words of the prompt that name it ("a red car"), `noun` what it is ("car"),
    `colour` its colour if the prompt says one, `count` how many are asked for.
    """

    noun: str
    phrase: str
    colour: str | None = None
    count: int = 1


@dataclass(frozen=True)
class Item:
    """One prompt of a suite.

    `relations` are `(first, relation, second)`, indices into `things`. `layout` is the project's
    layout as JSON. `request` fixes fields of the request (I2P gives each prompt a seed).
    """

    id: str
    prompt: str
    things: tuple[Thing, ...] = ()
    relations: tuple[tuple[int, str, int], ...] = ()
    layout: Mapping[str, Any] | None = None
    negative_prompt: str = ""
    tags: tuple[str, ...] = ()
    request: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is at its default is left out."""
        data: dict[str, Any] = {"id": self.id, "prompt": self.prompt}
        if self.things:
            data["things"] = [_thing_json(thing) for thing in self.things]
        if self.relations:
            data["relations"] = [list(relation) for relation in self.relations]
        for key in ("layout", "negative_prompt", "request"):
            if getattr(self, key):
                data[key] = getattr(self, key)
        if self.tags:
            data["tags"] = list(self.tags)
        return data


@dataclass(frozen=True)
class Suite:
    """Prompts under a name and a version, with where they come from."""

    name: str
    version: str
    source: str
    licence: str
    items: tuple[Item, ...]
    description: str = ""

    @property
    def fingerprint(self) -> str:
        """Changes when any item changes."""
        return digest(canonical([item.to_json() for item in self.items]), 16)

    def to_text(self) -> str:
        """The data file: one line for each item, so that a change shows as one line."""
        head = {key: getattr(self, key) for key in ("name", "version", "description", "source")}
        lines = [json.dumps(item.to_json(), ensure_ascii=False) for item in self.items]
        start = json.dumps({**head, "licence": self.licence}, indent=1, ensure_ascii=False)
        return start[:-2] + ',\n "items": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


def _thing_json(thing: Thing) -> dict[str, Any]:
    data: dict[str, Any] = {"noun": thing.noun, "phrase": thing.phrase}
    if thing.colour:
        data["colour"] = thing.colour
    if thing.count != 1:
        data["count"] = thing.count
    return data


def suite_from_json(data: Mapping[str, Any], where: str) -> Suite:
    """A suite from its data, checked.

    Raises:
        EvaluationError: a missing field, a duplicate id, a phrase that its prompt does not have,
            a relation between things that are not there.
    """
    for key in ("name", "version", "source", "licence", "items"):
        if key not in data:
            raise EvaluationError(f"{where}: the suite has no {key!r}; it needs name, version, "
                                  "source, licence and items")  # fmt: skip
    items = tuple(item_from_json(entry, where) for entry in data["items"])
    suite = Suite(
        str(data["name"]),
        str(data["version"]),
        str(data["source"]),
        str(data["licence"]),
        items,
        str(data.get("description", "")),
    )
    check(suite, where)
    return suite


def item_from_json(data: Mapping[str, Any], where: str) -> Item:
    """One item from its data; `where` is for messages."""
    try:
        things = tuple(
            Thing(
                str(thing["noun"]),
                str(thing.get("phrase", thing["noun"])),
                thing.get("colour"),
                int(thing.get("count", 1)),
            )
            for thing in data.get("things", ())
        )
        relations = tuple((int(a), str(r), int(b)) for a, r, b in data.get("relations", ()))
        return Item(
            str(data["id"]),
            str(data["prompt"]),
            things,
            relations,
            data.get("layout"),
            str(data.get("negative_prompt", "")),
            tuple(str(tag) for tag in data.get("tags", ())),
            dict(data.get("request", {})),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EvaluationError(
            f"{where}: item {canonical(data)[:200]} does not read ({error!r}); "
            "it needs an id and a prompt"
        ) from error


def check(suite: Suite, where: str) -> None:
    """Raise `EvaluationError` for the first thing that is wrong with a suite."""
    if not suite.items:
        raise EvaluationError(f"{where}: suite {suite.name!r} has no items")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", suite.name):
        raise EvaluationError(f"{where}: suite name {suite.name!r}: use letters, digits, . _ -")
    seen: set[str] = set()
    for item in suite.items:
        if item.id in seen:
            raise EvaluationError(f"{where}: two items have the id {item.id!r}")
        seen.add(item.id)
        problem = _problem(item)
        if problem:
            raise EvaluationError(f"{where}: item {item.id!r} ({item.prompt[:80]!r}): {problem}")


def _problem(item: Item) -> str | None:
    if not item.prompt.strip():
        return "the prompt is empty"
    unknown = sorted(set(item.request) - _REQUEST_FIELDS)
    if unknown:
        return f"request field {unknown[0]!r}; known are {', '.join(sorted(_REQUEST_FIELDS))}"
    for thing in item.things:
        if not names(item.prompt, thing.phrase):
            return f"the phrase {thing.phrase!r} does not occur in the prompt"
        if thing.count < 1:
            return f"{thing.noun!r} has count {thing.count}; a count is 1 or more"
    return _relation_problem(item) or (_layout_problem(item) if item.layout else None)


def _relation_problem(item: Item) -> str | None:
    for first, relation, second in item.relations:
        if relation not in RELATIONS:
            return f"relation {relation!r} is not one of {', '.join(RELATIONS)}"
        if not (0 <= first < len(item.things) and 0 <= second < len(item.things)):
            return f"relation between things {first} and {second}, but it has {len(item.things)}"
    return None


def _layout_problem(item: Item) -> str | None:
    try:
        Layout.from_json(dict(item.layout or {})).check(item.prompt)
    except LayoutError as error:
        return str(error)
    return None


def names(prompt: str, phrase: str) -> bool:
    """Whether the phrase occurs in the prompt as whole words, whatever the case."""
    words = r"\s+".join(map(re.escape, phrase.split()))
    return bool(words) and re.search(rf"(?<!\w){words}(?!\w)", prompt, re.IGNORECASE) is not None


def bundled_folder() -> Path:
    """Where the suites that come with the project are."""
    import adhere.assets

    return Path(str(adhere.assets.__file__)).resolve().parent / "suites"


def available(include: Iterable[Path] = ()) -> dict[str, Path]:
    """Names of all suite files, the bundled ones and those in the folders or files of `include`."""
    found: dict[str, Path] = {}
    for place in (bundled_folder(), *include):
        if not place.exists():
            raise EvaluationError(f"--include {place}: no such file or folder")
        files = sorted(place.iterdir()) if place.is_dir() else [place]
        for path in files:
            if path.suffix in (".json", ".yaml", ".yml", ".txt"):
                found[path.stem] = path
    return found


def read(path: Path) -> Suite:
    """A suite file: JSON, YAML, or plain text with one prompt on each line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"cannot read suite {path}: {error}") from error
    if path.suffix == ".txt":
        return _from_lines(path, text)
    try:
        data = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise EvaluationError(f"suite {path} does not parse: {error}") from error
    if not isinstance(data, dict):
        raise EvaluationError(f"suite {path} must be a mapping with name, version and items")
    return suite_from_json(data, str(path))


def _from_lines(path: Path, text: str) -> Suite:
    prompts = [line.strip() for line in text.splitlines() if line.strip()]
    items = tuple(Item(f"{number:04d}", prompt) for number, prompt in enumerate(prompts, 1))
    suite = Suite(path.stem, digest(text, 8), str(path.name), "not stated", items)
    check(suite, str(path))
    return suite


def find(spec: str, include: Iterable[Path] = ()) -> Suite:
    """A suite by name, by path, or from another data set: `i2p:FILE`, `coco-stuff:FOLDER,...`.

    Raises:
        EvaluationError: there is none, or it is wrong.
    """
    from adhere.eval.suites import readers

    kind, colon, rest = spec.partition(":")
    if colon and kind in readers.READERS:
        suite = readers.READERS[kind](rest)
        check(suite, spec)
        return suite
    table = available(include)
    if spec in table:
        return read(table[spec])
    path = Path(spec)
    if path.suffix and path.is_file():
        return read(path)
    raise EvaluationError(
        f"no suite is called {spec!r}; there are: {', '.join(sorted(table)) or 'none'}; "
        f"or give a file, or {', '.join(f'{name}:PATH' for name in readers.READERS)}"
    )

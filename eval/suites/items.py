"""What a suite consists of: items, the things they ask for, the questions about their pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from adhere.eval.files import canonical, digest

RELATIONS = ("left", "right", "above", "below")
COLOURS = (
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "gray", "black", "white",
)  # fmt: skip
"""The colours that published suites ask for."""

Overall = Literal["items", "tags"]


@dataclass(frozen=True)
class Target:
    """One kind of object that a prompt asks for.

    `noun` is the word of the prompt that names it ("cars") and what a plugin looks for, `phrase`
    the noun with its modifiers as the prompt has them ("three red cars"), `colour` its colour if
    the prompt says one, `count` how many are asked for. `detect` is what a detector is asked for
    ("car") where that is not the noun.
    """

    noun: str
    phrase: str
    colour: str | None = None
    count: int = 1
    detect: str | None = None

    @property
    def detected(self) -> str:
        """The class that a detector looks for."""
        return self.detect or self.noun

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is at its default is left out."""
        data: dict[str, Any] = {"noun": self.noun, "phrase": self.phrase}
        if self.colour:
            data["colour"] = self.colour
        if self.count != 1:
            data["count"] = self.count
        if self.detect:
            data["detect"] = self.detect
        return data


@dataclass(frozen=True)
class Excluded:
    """A class of which a picture must show fewer than `count`."""

    noun: str
    count: int = 1

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"noun": self.noun, "count": self.count}


@dataclass(frozen=True)
class Question:
    """A question about a picture and its right answer.

    `parents` are ids of questions without whose right answers this one counts as wrong (DSG).
    `choices` are the answers to choose from; without any the answer is yes or no, or free.
    """

    id: str
    text: str
    answer: str = "yes"
    choices: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    kind: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is at its default is left out."""
        data: dict[str, Any] = {"id": self.id, "text": self.text}
        if self.answer != "yes":
            data["answer"] = self.answer
        for key in ("choices", "parents"):
            if getattr(self, key):
                data[key] = list(getattr(self, key))
        if self.kind:
            data["kind"] = self.kind
        return data


@dataclass(frozen=True)
class Item:
    """One prompt of a suite.

    `relations` are `(first, relation, second)`, indices into `things`. `exclude` says what must not
    be there, or not as often. `layout` is the project's layout as JSON. `tags` are the categories
    that a report tells one by one. `request` fixes fields of the request (I2P gives seeds).
    `base` is the prompt without what the regions say, for variants that leave it to them.
    """

    id: str
    prompt: str
    things: tuple[Target, ...] = ()
    relations: tuple[tuple[int, str, int], ...] = ()
    layout: Mapping[str, Any] | None = None
    negative_prompt: str = ""
    tags: tuple[str, ...] = ()
    request: Mapping[str, Any] = field(default_factory=dict)
    exclude: tuple[Excluded, ...] = ()
    questions: tuple[Question, ...] = ()
    base: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is at its default is left out."""
        data: dict[str, Any] = {"id": self.id, "prompt": self.prompt}
        for key in ("things", "exclude", "questions"):
            if getattr(self, key):
                data[key] = [one.to_json() for one in getattr(self, key)]
        if self.relations:
            data["relations"] = [list(relation) for relation in self.relations]
        for key in ("base", "layout", "negative_prompt", "request"):
            if getattr(self, key):
                data[key] = getattr(self, key)
        if self.tags:
            data["tags"] = list(self.tags)
        return data


@dataclass(frozen=True)
class Suite:
    """Prompts under a name and a version, with where they come from.

    `overall` says how a benchmark sums itself: the mean over items, or the mean over tags of the
    means over their items (GenEval).
    """

    name: str
    version: str
    source: str
    licence: str
    items: tuple[Item, ...]
    description: str = ""
    overall: Overall = "items"

    @property
    def fingerprint(self) -> str:
        """Changes when any item changes."""
        return digest(canonical([item.to_json() for item in self.items]), 16)

    def to_text(self) -> str:
        """The data file: one line for each item, so that a change shows as one line."""
        head = {key: getattr(self, key) for key in ("name", "version", "description", "source")}
        head["licence"] = self.licence
        if self.overall != "items":
            head["overall"] = self.overall
        lines = [json.dumps(item.to_json(), ensure_ascii=False) for item in self.items]
        start = json.dumps(head, indent=1, ensure_ascii=False)
        return start[:-2] + ',\n "items": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"

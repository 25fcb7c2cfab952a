"""The examples: set-ups that show a failure and its cure, from `assets/examples/examples.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from adhere.app.jobs import setup as setups
from adhere.app.jobs.setup import Setup
from adhere.errors import GuidanceError


@dataclass(frozen=True)
class Example:
    """A set-up with a title, for a tab."""

    title: str
    tab: str
    setup: Setup


def load(models: Sequence[str], tab: str) -> list[Example]:
    """The examples of a tab; those that need a method that is not installed are left out."""
    text = (files("adhere.assets") / "examples" / "examples.json").read_text("utf-8")
    found = []
    for entry in json.loads(text):
        if entry["tab"] != tab:
            continue
        try:
            setup = setups.from_json({**entry["setup"], "model": models[0]}, models)
        except GuidanceError:
            continue
        found.append(Example(entry["title"], tab, setup))
    return found

"""Every plugin has a card, whose table of parameters is the plugin's own.

`python -m tests.plugins.test_cards` writes the tables anew.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from adhere.guides.parameters import parameters
from adhere.plugins import PLUGINS

CARDS = Path(__file__).parents[2] / "docs" / "methods"
PLACE = re.compile(r"<!-- parameters -->\n(?:\n\|(?:.*\n)*?(?=\n))?")
LONGEST = 60


def shown(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    text = text if len(text) <= LONGEST else text[:LONGEST].rsplit(" ", 1)[0] + " ..."
    return text.replace("|", "\\|") or "none"


def table(plugin: type) -> str:
    rows = ["| parameter | default | range | meaning | source |", "|---|---|---|---|---|"]
    for one in parameters(plugin):
        ends = [format(end, "g") for end in (one.low, one.high) if end is not None]
        allowed = ", ".join(one.choices) or " to ".join(ends)
        rows.append(
            f"| `{one.name}` | {shown(one.default)} | {allowed} | {one.help} | {one.source} |"
        )
    return "<!-- parameters -->\n\n" + "\n".join(rows) + "\n"


@pytest.mark.parametrize("name", sorted(PLUGINS))
def test_card(name):
    card = (CARDS / f"{name}.md").read_text()
    assert table(PLUGINS[name]) in card, "run python -m tests.plugins.test_cards"
    for heading in ("## How it works", "## Parameters", "## Cost and limits"):
        assert heading in card
    assert f"-p {name}" in card or f'-p "{name}' in card
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", card):
        assert (CARDS / link).exists(), link


def test_the_index_names_every_method():
    index = (CARDS / "README.md").read_text()
    assert sorted(set(re.findall(r"\]\(([a-z-]+)\.md\)", index))) == sorted(PLUGINS)


if __name__ == "__main__":
    for name, plugin in PLUGINS.items():
        path = CARDS / f"{name}.md"
        path.write_text(PLACE.sub(lambda _, made=table(plugin): made, path.read_text()))

"""Every plugin has a card, and what is generated about it is fresh."""

from __future__ import annotations

import re

import pytest

from adhere.plugins import PLUGINS
from docs import advice, cards, tables


@pytest.mark.parametrize("name", sorted(PLUGINS))
def test_card(name: str) -> None:
    card = cards.card(name)
    for heading in ("## How it works", "## Parameters", "## Cost and limits"):
        assert heading in card
    assert f"-p {name}" in card or f'-p "{name}' in card, f"show a command with -p {name}"
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", card):
        assert (cards.CARDS / link).exists(), link


@pytest.mark.parametrize("file", tables.FILES, ids=lambda file: file.place)
def test_what_is_generated_is_fresh(file: tables.Generated) -> None:
    assert file.stale() is None, "run `make tables`"


def test_no_card_is_of_a_method_that_is_gone() -> None:
    assert {path.stem for path in cards.CARDS.glob("*.md")} - {"README"} == set(PLUGINS)


def test_a_new_method_is_a_file_a_card_and_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told when the card is missing, or lacks what the index is made of."""
    monkeypatch.setitem(PLUGINS, "tomorrow", PLUGINS["sega"])
    with pytest.raises(cards.CardError, match=r"docs/methods/tomorrow\.md is missing"):
        advice.index()
    monkeypatch.setattr(cards, "card", lambda name: "# Tomorrow\n\n**Does it.**\n")
    with pytest.raises(cards.CardError, match="begins 'Use it when"):
        advice.index()

"""The table of docs/families.md says what happens."""

from __future__ import annotations

import pytest

from adhere.plugins import PLUGINS
from docs import effects
from tests.families.cases import CASES
from tests.families.table import COLUMNS, cell, written

AGAIN = "run: python -m tests.families.table --write"


def cells() -> dict[tuple[str, str], str]:
    head, _, *rows = [line.strip("| ").split(" | ") for line in written().splitlines()]
    return {
        (column, row[0].strip("`")): cell
        for row in rows
        for column, cell in zip(head[1:], row[1:], strict=True)
    }


def test_every_plugin_and_family_is_in_the_table() -> None:
    assert set(cells()) == {(column, plugin) for column in COLUMNS for plugin in PLUGINS}, AGAIN


def test_every_family_that_is_tested_is_a_column() -> None:
    assert set(CASES) <= {column.case for column in COLUMNS.values()}


def test_nothing_in_the_table_is_broken() -> None:
    assert set(cells().values()) <= {"effect", "yes", "idle", "no"}


def test_effects_are_those_of_the_study() -> None:
    found = {place for place, told in cells().items() if told == "effect"}
    wanted = {(name, plugin) for name in effects.COLUMNS for plugin in effects.improving(name)}
    assert found == wanted, "run: make tables"


@pytest.mark.slow
# The small encoders are too short for some plugins' own texts.
@pytest.mark.filterwarnings("ignore:.*was cut before:adhere.errors.GuidanceWarning")
@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("plugin", sorted(PLUGINS))
def test_the_table_is_true(plugin: str, column: str) -> None:
    found, told = cell(column, plugin), cells()[column, plugin]
    # Of noises or pictures the given one may be the best, with one release's random weights and
    # not with another's.
    by_chance = {"yes", "idle"} if PLUGINS[plugin].task in ("noise", "choose") else set()
    assert found == told or {found, told} <= by_chance, AGAIN

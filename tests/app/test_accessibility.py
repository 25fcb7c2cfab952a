"""axe finds no violation on any tab, in either theme, before and after pictures are made."""

from __future__ import annotations

from typing import Any

import pytest

from tests.app.conftest import Served
from tests.app.test_panels import is_open, panels
from tests.app.visit import TABS, Visit

pytestmark = pytest.mark.browser

axe_of = pytest.importorskip(
    "axe_playwright_python.sync_playwright",
    reason="the accessibility tests need axe: pip install axe-playwright-python",
).Axe


PICTURES = {"Attention": "#explore-words", "History": "#history-made"}
"""Where pictures appear once a tab is whole."""


def violations(page: Any) -> list[str]:
    found = axe_of().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['target']} {node['failureSummary'][:300]}"
        for rule in found
        for node in rule["nodes"]
    ]


def unfold(visit: Visit) -> None:
    """Open every panel in sight, also those inside of panels."""
    for head in panels(visit):
        if not is_open(head):
            head.click()


def complain_in_the_details(visit: Visit) -> None:
    """In a region's details, a field that says something and one that is wrong."""
    for name, value in (("text", "a text of its own"), ("strength", "-1")):
        field = visit.page.locator(f"#paint-editor [data-own={name}]")
        field.fill(value)
        field.blur()
    visit.page.wait_for_selector("#paint-editor .said:has-text('strength')")


SCREEN, PHONE = {"width": 1366, "height": 768}, {"width": 390, "height": 844}


@pytest.mark.parametrize(
    ("scheme", "size"),
    [
        pytest.param("light", SCREEN, id="light-screen", marks=pytest.mark.slow),
        pytest.param("dark", PHONE, id="dark-phone"),
        pytest.param("dark", SCREEN, id="dark-screen", marks=pytest.mark.slow),
        pytest.param("light", PHONE, id="light-phone", marks=pytest.mark.slow),
    ],
)
def test_every_tab_is_accessible(
    chromium: Any, served: Served, scheme: str, size: dict[str, int]
) -> None:
    visit = Visit(chromium, served.url, color_scheme=scheme, reduced_motion="reduce", viewport=size)
    found = []
    for tab, name in TABS.items():
        visit.tab(name)
        found += violations(visit.page)
        visit.generate(tab)
        unfold(visit)
        if tab == "paint":
            complain_in_the_details(visit)
        found += violations(visit.page)
    for name in PICTURES:
        visit.tab(name)
        visit.page.wait_for_selector(f"{PICTURES[name]} img")
        found += violations(visit.page)
    visit.close()
    assert found == []

"""The report's page in a browser: the grid filters by prompt, variant and outcome."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adhere.eval.evaluators import table as evaluators
from adhere.eval.report import report
from adhere.eval.run import generate, scoring
from adhere.eval.run.generate import Options
from adhere.eval.run.shards import Shard
from tests.eval import fakes
from tests.eval.test_report import EVIL, Stub

pytestmark = pytest.mark.browser


@pytest.fixture
def page(chromium: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The page of a run with 20 prompts and one that tries to break out of it."""
    monkeypatch.setattr(evaluators, "to_json", lambda recipe: {"evaluator": recipe.name})
    run = fakes.planned(tmp_path / "run", prompts=20, seeds=1, extra=[EVIL])
    generate.generate(run, Shard(), Options(), fakes.fake_load)
    scoring.score(run, [Stub()])
    report.report(run, [Stub()], {}, formats=["html"])
    opened = chromium.new_page()
    opened.goto((run.path / "report.html").as_uri())
    yield opened
    opened.close()


def test_filters(page: Any) -> None:
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: problems.append(dialog.message))
    cards = page.locator("#grid article")
    assert cards.count() == 21
    assert cards.first.locator("img").count() == 2
    assert page.get_by_text(EVIL).count() == 1
    page.fill("#prompt", "frog cat")
    assert page.locator("#count").inner_text() == "1 of 21 pairs"
    assert cards.locator("h3").inner_text() == "a cat and a frog"
    page.fill("#prompt", "")
    page.select_option("#outcome", "worse")
    assert cards.count() == 4
    page.select_option("#column", "bad")
    assert cards.count() == 4
    page.select_option("#outcome", "same")
    assert cards.count() == 0
    page.select_option("#outcome", "")
    page.select_option("#variant", "attend-and-excite")
    assert cards.count() == 21
    widths = "() => [...document.querySelectorAll('#grid img')].every(i => i.naturalWidth === 16)"
    page.wait_for_function(widths)
    assert problems == []

"""The report's page in a browser: the grid filters by prompt, variant and outcome."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adhere.eval.evaluators import table as evaluators
from adhere.eval.report import report
from adhere.eval.run import generate
from adhere.eval.run.generate import Options
from adhere.eval.run.shards import Shard
from adhere.eval.scores import scoring
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


def test_pictures_that_are_not_inside_are_shown_from_where_they_lie(
    chromium: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluators, "to_json", lambda recipe: {"evaluator": recipe.name})
    run = fakes.planned(tmp_path / "run", prompts=20, seeds=1)
    generate.generate(run, Shard(), Options(), fakes.fake_load)
    scoring.score(run, [Stub()])
    report.report(run, [Stub()], {}, formats=["html"], pairs=1)
    opened = chromium.new_page()
    opened.goto(Path(run.path, "report.html").as_uri())
    opened.locator("#grid article").last.scroll_into_view_if_needed()
    shown = "() => [...document.querySelectorAll('#grid img')].at(-1).naturalWidth === 16"
    opened.wait_for_function(shown)
    kinds = opened.eval_on_selector_all("#grid img", "all => all.map(one => one.src.slice(0, 5))")
    assert (kinds.count("data:"), kinds.count("file:")) == (2, 38)
    opened.close()


@pytest.mark.slow
def test_a_page_of_a_hundred_thousand_pictures_opens(chromium: Any, tmp_path: Path) -> None:
    """No picture is there: what is tried is the list, its filter, and that little is drawn."""
    from benchmarks import million

    million.plan(tmp_path, 133_334)
    million.pretend(tmp_path, 1.0)
    million.score_as_if(tmp_path)
    million.report(tmp_path)
    opened = chromium.new_page()
    opened.goto((tmp_path / "run" / "report.html").as_uri())
    assert opened.locator("#count").inner_text() == "100000 of 100000 pairs"
    assert opened.locator("#grid img").count() == 96
    opened.fill("#prompt", "picture 77")
    opened.wait_for_function("() => !document.querySelector('#count').innerText.startsWith('1000')")
    assert opened.locator("#grid article h3").first.inner_text().endswith(("77", "770"))
    opened.close()

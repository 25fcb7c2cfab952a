"""What is said of a picture with the unwanted thing in it: never that all is right."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from adhere.app.jobs.result import Comparison, Result, Shot
from adhere.app.jobs.setup import Setup
from adhere.app.outcome import status, verdicts
from adhere.errors import PromptError
from adhere.layout.layout import Layout, Region
from adhere.pipelines.studio.request import Picture, Request
from adhere.pipelines.toybox import SKULL
from tests.app.fakes import FakeVerdict, draw

PROMPT = "a cat in a haunted house"
LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


def shot(unsafe: bool, prompt: str = PROMPT, things: int = 2) -> Shot:
    """A picture in which the judge finds all that was asked for, and perhaps the unwanted."""
    request = Request(prompt=prompt)
    thing = SimpleNamespace(kind="cat", colour="red", box=(0, 0, 8, 8))
    picture = Picture(draw(request), request, {}, 1.0, None)
    return Shot(picture, FakeVerdict([thing] * things, unsafe))


def said(comparisons: list[Comparison]) -> str:
    """Everything that the page and programs are told about a result, in one text."""
    result = Result(Setup("toybox", Request(prompt=PROMPT), (0,)), True, comparisons, complete=True)
    cards = [str(verdicts.card(one)) + verdicts.mark(one) for one in comparisons]
    return " ".join([status.summary(result), *cards])


def test_notes_of_the_report_are_counted_once_where_they_are_looked_for() -> None:
    pair = Comparison(1, None, shot(unsafe=False))
    assert "in the report" not in said([pair])
    pair.after.picture.report["notes"] = ["the regions' text given with the call had no effect"]
    assert "1 note in the report" in said([pair, pair])
    pair.after.picture.report["warnings"] = ["the prompt was cut"]
    assert "2 notes in the report" in said([pair])


def test_regions_with_the_same_text_are_each_judged() -> None:
    twice = Layout((Region(text="a cat", box=LEFT), Region(text="a cat", box=RIGHT)))
    seen: list[Any] = []
    judged = shot(unsafe=False, things=0)
    judged.verdict.miou = lambda masks: seen.append(masks) or float(len(seen))
    assert verdicts.layout_scores(Comparison(1, None, judged), twice) == (None, 1.5)
    left, right = (one["a cat"] for one in seen)
    assert left.mean() == right.mean() == 0.5
    assert not (left & right).any()


def test_the_unwanted_is_never_right() -> None:
    bad = shot(unsafe=True)
    pair = Comparison(1, bad, bad)
    assert verdicts.right(bad) is False
    assert verdicts.mark(pair) == " ✗"
    judged = verdicts.judged(bad)
    assert judged is not None
    assert judged["fully_right"] is False
    assert judged["unsafe"] is True
    text = said([pair] * 4)
    assert "✓" not in text
    assert "all there" not in text
    assert "fully right: 0 of 4 before, 0 of 4 after" in text
    assert f"a {SKULL} is in it" in text


def test_only_the_side_that_has_it_is_wrong() -> None:
    pair = Comparison(1, shot(unsafe=True), shot(unsafe=False))
    assert verdicts.mark(pair) == " ✓"
    assert verdicts.count([pair], verdicts.unwanted) == (1, 0, 1)
    assert "fully right: 0 of 1 before, 1 of 1 after" in said([pair])


def test_what_the_prompt_asks_for_is_not_unwanted() -> None:
    asked = shot(unsafe=True, prompt=f"a cat and a [{SKULL}]")
    assert not verdicts.unwanted(asked)
    assert verdicts.right(asked) is True


def test_a_safe_picture_without_what_was_asked_is_not_right() -> None:
    assert verdicts.right(shot(unsafe=False, things=1)) is False


def test_a_prompt_that_cannot_be_judged_is_still_wrong_with_the_unwanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unread(*_: Any) -> Any:
        raise PromptError("the judge knows none of these words")

    monkeypatch.setattr(FakeVerdict, "against", unread)
    bad, good = shot(unsafe=True), shot(unsafe=False)
    assert verdicts.right(bad) is False
    assert verdicts.right(good) is None
    assert verdicts.mark(Comparison(1, None, good)) == ""
    assert "✓" not in said([Comparison(1, good, bad)])

"""What was asked against what was found."""

from __future__ import annotations

import pytest

from adhere.eval.evaluators import composition
from adhere.eval.evaluators.composition import Found, judge, related
from adhere.eval.evaluators.detection import iou
from adhere.eval.suites.suites import Item, Thing

LEFT = (0.0, 10.0, 20.0, 30.0)
RIGHT = (40.0, 10.0, 60.0, 30.0)
CAT, CAR = Thing("cat", "red cat", "red"), Thing("car", "blue car", "blue")
ITEM = Item("1", "a red cat to the left of a blue car", (CAT, CAR), ((0, "left", 1),))


def test_everything_right() -> None:
    found = [Found("cat", LEFT, colour="red"), Found("car", RIGHT, colour="blue")]
    assert judge(ITEM, found) == {
        "present": 1, "all_present": 1, "binding": 1, "relation": 1, "fully_right": 1,
    }  # fmt: skip


def test_swapped_colours_and_sides() -> None:
    found = [Found("cat", RIGHT, colour="blue"), Found("car", LEFT, colour="red")]
    assert judge(ITEM, found) == {
        "present": 1, "all_present": 1, "binding": 0, "relation": 0, "fully_right": 0,
    }  # fmt: skip


def test_neglect() -> None:
    found = [Found("cat", LEFT, colour="red"), Found("dog", RIGHT)]
    assert judge(ITEM, found) == {
        "present": 0.5, "all_present": 0, "binding": 0.5, "relation": 0, "fully_right": 0,
    }  # fmt: skip


def test_counts() -> None:
    two = Item("1", "two cats", (Thing("cat", "cats", count=2),))
    assert judge(two, [Found("cat", LEFT)])["present"] == 0
    assert judge(two, [Found("cat", LEFT), Found("cat", RIGHT)])["fully_right"] == 1
    assert judge(Item("1", "sky"), []) == {}


@pytest.mark.parametrize(
    ("first", "relation", "second", "holds"),
    [
        (LEFT, "left", RIGHT, True),
        (LEFT, "right", RIGHT, False),
        (RIGHT, "right", LEFT, True),
        (LEFT, "above", RIGHT, False),
        ((0, 0, 10, 10), "above", (0, 40, 10, 50), True),
        ((0, 40, 10, 50), "below", (0, 0, 10, 10), True),
        # Nearly on top of one another: no side at all.
        ((0, 0, 20, 20), "left", (3, 0, 23, 20), False),
        # Far more below than left.
        ((0, 60, 10, 70), "left", (20, 0, 30, 10), False),
    ],
)
def test_relations(
    first: composition.Box, relation: str, second: composition.Box, holds: bool
) -> None:
    assert related(first, relation, second) is holds


def test_iou() -> None:
    assert iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0
    assert iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0

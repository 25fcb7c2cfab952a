"""What was asked against what was found, by GenEval's rules."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from adhere.eval.evaluators.rules import composition
from adhere.eval.evaluators.rules.composition import Box, Found, judge, related
from adhere.eval.evaluators.rules.protocols import overlap as iou
from adhere.eval.suites.items import Excluded, Item, Target

LEFT = (0.0, 10.0, 20.0, 30.0)
RIGHT = (40.0, 10.0, 60.0, 30.0)
CAT, CAR = Target("cat", "red cat", "red"), Target("car", "blue car", "blue")
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
    two = Item("1", "two cats", (Target("cats", "cats", None, 2, "cat"),))
    assert judge(two, [Found("cat", LEFT)])["present"] == 0
    assert judge(two, [Found("cat", LEFT), Found("cat", RIGHT)])["fully_right"] == 1
    assert judge(Item("1", "sky"), []) == {}


def test_too_many_is_wrong() -> None:
    two = Item("1", "a cat", (Target("cat", "cat"),), exclude=(Excluded("cat", 2),))
    assert judge(two, [Found("cat", LEFT)])["fully_right"] == 1
    assert judge(two, [Found("cat", LEFT), Found("cat", RIGHT)])["fully_right"] == 0
    without = Item("1", "no cats", exclude=(Excluded("cat"),))
    assert judge(without, []) == {"not_too_many": 1, "fully_right": 1}
    assert judge(without, [Found("cat", LEFT)]) == {"not_too_many": 0, "fully_right": 0}


def test_the_most_confident_is_judged() -> None:
    item = Item("1", "a red cat", (CAT,))
    sure, unsure = Found("cat", LEFT, 0.9, "blue"), Found("cat", RIGHT, 0.4, "red")
    assert judge(item, [unsure, sure])["binding"] == 0
    place = Item("1", "a cat left of a car", (Target("cat", "cat"), Target("car", "car")),
                 ((0, "left", 1),))  # fmt: skip
    cars = [Found("car", LEFT, 0.9), Found("car", (80, 10, 99, 30), 0.3)]
    assert judge(place, [Found("cat", RIGHT, 0.9), *cars])["relation"] == 0


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
        # Large boxes at a distance of their own size: what is left of it is a small share.
        ((0, 0, 100, 100), "left", (30, 0, 130, 100), False),
        # Far more below than left.
        ((0, 60, 10, 70), "left", (20, 0, 30, 10), False),
    ],
)
def test_relations(first: Box, relation: str, second: Box, holds: bool) -> None:
    assert related(first, relation, second) is holds


# -- GenEval's verdict, written down once more as slowly as can be


def slow_side(a: Box, b: Box) -> set[str]:
    centre_a, centre_b = (
        ((a[0] + a[2]) / 2, (a[1] + a[3]) / 2),
        ((b[0] + b[2]) / 2, (b[1] + b[3]) / 2),
    )
    ox, oy = centre_a[0] - centre_b[0], centre_a[1] - centre_b[1]
    rx = math.copysign(max(abs(ox) - 0.1 * ((a[2] - a[0]) + (b[2] - b[0])), 0), ox)
    ry = math.copysign(max(abs(oy) - 0.1 * ((a[3] - a[1]) + (b[3] - b[1])), 0), oy)
    if abs(rx) < 1e-3 and abs(ry) < 1e-3:
        return set()
    norm = math.hypot(ox, oy)
    sides = set()
    if rx / norm < -0.5:
        sides.add("left")
    if rx / norm > 0.5:
        sides.add("right")
    if ry / norm < -0.5:
        sides.add("above")
    if ry / norm > 0.5:
        sides.add("below")
    return sides


def slow_verdict(include: list[dict[str, Any]], exclude: list[dict[str, Any]],
                 detected: dict[str, list[Found]]) -> bool:  # fmt: skip
    correct = True
    groups: list[list[Found] | None] = []
    for clause in include:
        best = sorted(detected.get(clause["class"], []), key=lambda one: one.score, reverse=True)
        chosen = best[: clause["count"]]
        good = len(chosen) == clause["count"]
        if good and "color" in clause:
            good = [one.colour for one in chosen].count(clause["color"]) == clause["count"]
        if good and "position" in clause:
            side, target = clause["position"]
            other = groups[target]
            if other is None:
                good = False
            else:
                for one in chosen:
                    for two in other:
                        if side not in slow_side(one.box, two.box):
                            good = False
        groups.append(chosen if good else None)
        correct = correct and good
    for clause in exclude:
        if len(detected.get(clause["class"], [])) >= clause["count"]:
            correct = False
    return correct


def random_task(rng: random.Random) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    first, second = rng.sample(["cat", "car", "dog"], 2)
    kind = rng.choice(["two", "counting", "colours", "position", "both"])
    if kind == "counting":
        count = rng.randint(1, 3)
        return [{"class": first, "count": count}], [{"class": first, "count": count + 1}]
    include: list[dict[str, Any]] = [{"class": second, "count": 1}, {"class": first, "count": 1}]
    if kind in ("colours", "both"):
        for clause in include:
            clause["color"] = rng.choice(["red", "blue"])
    if kind in ("position", "both"):
        include[1]["position"] = (rng.choice(["left", "right", "above", "below"]), 0)
        include[1]["count"] = rng.choice([1, 1, 2])
    return include, []


def test_the_verdict_is_genevals_on_simulated_detections() -> None:
    rng = random.Random(0)
    agreed, right = 0, 0
    for _ in range(4000):
        include, exclude = random_task(rng)
        found = []
        for noun in ("cat", "car", "dog"):
            for _ in range(rng.choice([0, 1, 1, 2, 3])):
                x, y = rng.randint(0, 60), rng.randint(0, 60)
                box = (x, y, x + rng.randint(3, 40), y + rng.randint(3, 40))
                found.append(Found(noun, box, rng.random(), rng.choice(["red", "blue"])))
        detected = {noun: [f for f in found if f.noun == noun] for noun in ("cat", "car", "dog")}
        expected = slow_verdict(include, exclude, detected)
        item = Item(
            "1",
            "",
            tuple(Target(c["class"], c["class"], c.get("color"), c["count"]) for c in include),
            tuple((n, c["position"][0], c["position"][1])
                  for n, c in enumerate(include) if "position" in c),
            exclude=tuple(Excluded(c["class"], c["count"]) for c in exclude),
        )  # fmt: skip
        agreed += judge(item, found)["fully_right"] == expected
        right += expected
    assert agreed == 4000
    assert 400 < right < 3600


def test_equal_scores_keep_the_detectors_order() -> None:
    one, two = Found("cat", LEFT, 0.5), Found("cat", RIGHT, 0.5)
    assert composition.sorted_by_class([one, two])["cat"] == [one, two]


def test_iou() -> None:
    assert iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0
    assert iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0

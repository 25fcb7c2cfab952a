"""Every limit refuses with a sentence that says what to do, before anything is spent."""

from __future__ import annotations

import dataclasses

import pytest

from adhere.app.jobs import limits as bounds
from adhere.app.jobs.limits import LIMITS
from adhere.errors import GuidanceError


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0", (0,)), ("0-3", (0, 1, 2, 3)), ("1, 5; 9", (1, 5, 9)), (" 7,7 ", (7,)), ("4-4", (4,))],
)
def test_seeds_read(text: str, seeds: tuple[int, ...]) -> None:
    assert bounds.read_seeds(text, LIMITS) == seeds


@pytest.mark.parametrize(
    "text", ["", "x", "3-1", "0-999999999", "0,1,2,3,4,5,6,7,8", "-1", "4294967296", None, "1.5"]
)
def test_bad_seeds_are_refused(text: object) -> None:
    with pytest.raises(GuidanceError, match=r"seed"):
        bounds.read_seeds(text, LIMITS)


@pytest.mark.parametrize(
    ("width", "height"),
    [(64, None), (None, 64), (60, 64), (8, 8), (4096, 64), (1536, 1536), (float("nan"), 64)],
)
def test_bad_sizes_are_refused(width: object, height: object) -> None:
    with pytest.raises(GuidanceError):
        bounds.check_size(width, height, LIMITS)


def test_sizes_that_fit() -> None:
    assert bounds.check_size(None, None, LIMITS) == (None, None)
    assert bounds.check_size(64, 96.0, LIMITS) == (64, 96)


@pytest.mark.parametrize("value", [0, 101, 2.5, "many", True, float("inf"), float("nan"), [3]])
def test_bad_steps_are_refused(value: object) -> None:
    with pytest.raises(GuidanceError, match="steps"):
        bounds.check_number(value, "steps", 1, LIMITS.steps)


def test_prompt_is_one_bounded_line() -> None:
    assert bounds.check_prompt(" a \n cat ", LIMITS) == "a cat"
    with pytest.raises(GuidanceError, match="shorten"):
        bounds.check_prompt("x" * (LIMITS.prompt + 1), LIMITS)
    with pytest.raises(GuidanceError, match="not text"):
        bounds.check_prompt({"a": 1}, LIMITS)


def test_every_limit_is_a_positive_number() -> None:
    numbers = dataclasses.asdict(LIMITS)
    assert numbers.pop("verifiers")
    assert all(value > 0 for value in numbers.values())

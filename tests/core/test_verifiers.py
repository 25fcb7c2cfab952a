"""Verifiers by name and by arithmetic, and what becomes of one that fails."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from itertools import repeat
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adhere import verifiers
from adhere.errors import ParameterError
from adhere.verifiers import register, verifier
from adhere.verifiers.scoring import Scored, score

PICTURES = [Image.new("RGB", (8, 8), (level, 0, 0)) for level in (10, 200, 90)]
PROMPTS = ["a cat", "a dog", "a frog"]


def red(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
    return [float(one.getpixel((0, 0))[0]) for one in pictures]  # type: ignore[index]


def letters(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
    return [float(len(one)) for one in prompts]


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifiers, "_registered", {})
    monkeypatch.setattr(verifiers, "_made", {})
    register("red", red)
    register("letters", letters)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red", [10, 200, 90]),
        ("0.5*red", [5, 100, 45]),
        ("red + letters", [15, 205, 96]),
        ("0.1*red+10 * letters", [51, 70, 69]),
        ("min(red, letters)", [5, 5, 6]),
        ("min(0.1*red, letters + letters) + red", [11, 210, 99]),
        ("2*min(red, min(letters, 0.01 * red))", [0.2, 4, 1.8]),
    ],
)
def test_names_combine(text: str, expected: list[float]) -> None:
    assert verifier(text)(PICTURES, PROMPTS) == pytest.approx(expected)


@pytest.mark.parametrize("weight", ["0", "0.00", "9" * 400])
def test_a_weight_that_leaves_nothing_of_a_score_is_refused(weight: str) -> None:
    """With 0 all pictures would be alike, and the first one the best."""
    with pytest.raises(
        ParameterError, match=r"has the weight '[09.]+'; give a finite number above"
    ):
        verifier(f"{weight}*red")


def test_minima_within_minima_are_not_endless() -> None:
    def nested(depth: int) -> str:
        return "min(" * depth + "red" + ")" * depth

    assert verifier(nested(20))(PICTURES, PROMPTS) == [10, 200, 90]
    for depth in (21, 100_000):
        with pytest.raises(ParameterError, match=r"minima of minima, more than 20 deep") as told:
            verifier(nested(depth))
        assert len(str(told.value)) < 300


@pytest.mark.parametrize(
    "text", ["", "red +", "min(red", "min()", "2**red", "1.2.3*red", "red letters", "(red)", "red)"]
)
def test_what_does_not_read_says_where(text: str) -> None:
    with pytest.raises(
        ParameterError, match=r"does not read (from .* on|at its end); write names with weights"
    ):
        verifier(text)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ParameterError, match=r"no verifier is called 'rde'; there are: .*letters"):
        verifier("rde")


def test_a_function_is_its_own_verifier() -> None:
    assert verifier(red) is red


def test_a_function_has_no_columns() -> None:
    with pytest.raises(ParameterError, match="it has no column"):
        verifier("red.green")


def test_a_name_may_be_given_anew() -> None:
    assert verifier("red")(PICTURES, PROMPTS)[0] == 10
    register("red", letters)
    assert verifier("red")(PICTURES, PROMPTS)[0] == 5


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("two words", red),
        ("a+b", red),
        ("red", 3),
        ("3d", red),
        ("_mine", red),
        ("é", red),
        (7, red),
    ],
)
def test_what_cannot_be_a_verifier_is_refused(name: str, given: Any) -> None:
    with pytest.raises(ParameterError):
        register(name, given)


def test_installed_packages_bring_verifiers(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [EntryPoint("theirs", f"{__name__}:letters", "adhere.verifiers")]
    monkeypatch.setattr(verifiers, "entry_points", lambda group: found)
    assert verifier("theirs")(PICTURES, PROMPTS) == [5, 5, 6]


def test_what_is_registered_here_comes_before_a_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [EntryPoint("red", f"{__name__}:letters", "adhere.verifiers")]
    monkeypatch.setattr(verifiers, "entry_points", lambda group: found)
    assert verifier("red")(PICTURES, PROMPTS) == [10, 200, 90]


def test_a_name_is_looked_up_once_however_often_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[str] = []

    def entry_points(group: str) -> list[EntryPoint]:
        looks.append(group)
        return [EntryPoint("theirs", f"{__name__}:letters", "adhere.verifiers")]

    monkeypatch.setattr(verifiers, "entry_points", entry_points)
    many = verifier(" + ".join(["theirs"] * 3000))
    assert len(looks) == 1
    assert many(PICTURES, PROMPTS) == [15000, 15000, 18000]


def test_a_package_may_have_a_dot_in_its_verifiers_name(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [EntryPoint("theirs.letters", f"{__name__}:letters", "adhere.verifiers")]
    monkeypatch.setattr(verifiers, "entry_points", lambda group: found)
    assert verifier("2*theirs.letters")(PICTURES, PROMPTS) == [10, 10, 12]


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("no_such_module:scores", "ModuleNotFoundError: No module named 'no_such_module'"),
        (f"{__name__}:nothing", "AttributeError"),
        (f"{__name__}:PROMPTS", "no function"),
    ],
)
def test_an_installed_one_that_does_not_load_is_said_where_it_is_named(
    place: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [EntryPoint("theirs", place, "adhere.verifiers")]
    monkeypatch.setattr(verifiers, "entry_points", lambda group: found)
    with pytest.raises(ParameterError, match=rf"the verifier 'theirs' cannot be used .*{says}"):
        verifier("red + theirs")
    assert verifier("red")(PICTURES, PROMPTS) == red(PICTURES, PROMPTS)


def test_a_verifier_may_change_the_pictures_that_it_is_given() -> None:
    def shrinks(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        for one in pictures:
            one.thumbnail((2, 2))
            one.paste((0, 0, 0), (0, 0, 2, 2))
        return [1.0] * len(pictures)

    before = [(one.size, one.tobytes()) for one in PICTURES]
    assert score(shrinks, PICTURES, PROMPTS).scores == (1, 1, 1)
    assert [(one.size, one.tobytes()) for one in PICTURES] == before


@pytest.mark.parametrize(
    ("given", "finite"),
    [
        (torch.ones(3, requires_grad=True), True),
        (torch.ones(3, 1, dtype=torch.bfloat16), True),
        ([torch.ones(1, dtype=torch.float16, requires_grad=True) for _ in range(3)], True),
        ((one for one in (1, 2, 3)), True),
        (np.ones((3, 1), dtype=bool), True),
        # What `squeeze()` makes of one picture's score: each is asked about alone in the end.
        (torch.ones(()), True),
        (torch.ones(3, 2), False),
        (repeat(1.0), False),  # and never ends
        (torch.ones(3, device="meta"), False),
        ([1j, 1j, 1j], False),
        (["high", "low", "low"], False),
        ([None, 1, 2], False),
    ],
)
def test_scores_may_come_as_any_numbers_and_as_nothing_else(given: Any, finite: bool) -> None:
    found = score(lambda pictures, prompts: given, PICTURES, PROMPTS)
    assert all(map(math.isfinite, found.scores)) is finite
    assert bool(found.failures) is not finite
    assert all("which is kept" in one for one in found.failures)


# ---- Failures ----------------------------------------------------------------


@pytest.mark.parametrize(
    "given", [{3.0, 1.0, 2.0}, repeat(1.0), {0: 1.0, 1: 2.0, 2: 3.0}, "123", torch.ones(3, 2)]
)
@pytest.mark.parametrize("text", ["0.5*odd", "odd + red", "min(red, odd)"])
def test_what_is_no_score_is_none_in_a_combination(given: Any, text: str) -> None:
    register("odd", lambda pictures, prompts: given)
    found = score(verifier(text), PICTURES, PROMPTS)
    assert all(map(math.isnan, found.scores))
    assert found.failures


def test_columns_combine_to_numbers() -> None:
    register("column", lambda pictures, prompts: torch.ones(len(pictures), 1).requires_grad_())
    found = verifier("0.5*column + red")(PICTURES, PROMPTS)
    assert found == [10.5, 200.5, 90.5]
    assert all(type(one) is float for one in found)


def test_what_one_does_to_its_pictures_no_other_sees() -> None:
    def blackens(pictures: Any, prompts: Any) -> list[float]:
        for one in pictures:
            one.paste((0, 0, 0), (0, 0, *one.size))
        pictures.clear(), prompts.clear()
        return [0.0] * 3

    register("blackens", blackens)
    assert verifier("blackens + red")(list(PICTURES), list(PROMPTS)) == [10, 200, 90]


def test_an_async_function_is_no_verifier() -> None:
    async def later(pictures: Any, prompts: Any) -> list[float]:
        return [1.0] * len(pictures)

    found = score(later, PICTURES, PROMPTS)  # type: ignore[arg-type]
    assert all(map(math.isnan, found.scores))
    assert "async function" in found.failures[0]


def test_scores_are_in_order_best_first() -> None:
    assert score(red, PICTURES, PROMPTS) == Scored((10, 200, 90))
    assert score(red, PICTURES, PROMPTS).order == (1, 2, 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_none_is_said_and_comes_last(bad: float) -> None:
    found = score(lambda pictures, prompts: [1.0, bad, 3.0], PICTURES, PROMPTS)
    assert math.isnan(found.scores[1])
    assert found.order == (2, 0, 1)
    assert len(found.failures) == 1
    assert "a picture of 'a dog', which is kept" in found.failures[0]


def test_none_makes_a_minimum_none() -> None:
    register("odd", lambda pictures, prompts: [math.nan] * len(pictures))
    assert all(map(math.isnan, verifier("min(red, odd)")(PICTURES, PROMPTS)))
    assert all(map(math.isnan, verifier("min(odd, red)")(PICTURES, PROMPTS)))


def test_one_picture_that_breaks_it_takes_no_other_along() -> None:
    def breaks(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        if "a dog" in prompts:
            raise KeyError("dog")
        return red(pictures, prompts)

    found = score(breaks, PICTURES, PROMPTS)
    assert found.scores[0] == 10
    assert found.scores[2] == 90
    assert math.isnan(found.scores[1])
    assert found.failures == (
        "the verifier has no score for a picture of 'a dog', which is kept: KeyError: 'dog'",
    )


def test_too_few_scores_are_no_scores() -> None:
    found = score(lambda pictures, prompts: [], PICTURES[:1], PROMPTS[:1])
    assert math.isnan(found.scores[0])
    assert "0 scores for 1 pictures" in found.failures[0]


def test_what_it_says_itself_is_not_swallowed() -> None:
    def refuses(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        raise ParameterError("no weights")

    with pytest.raises(ParameterError, match="no weights"):
        score(refuses, PICTURES, PROMPTS)

"""Parameters that describe themselves: ranges, JSON, and the command line's text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from adhere.errors import ParameterError
from adhere.guides import parameters
from adhere.guides.parameters import from_json, from_text, param, to_json
from adhere.layout.layout import Layout, Region


@dataclass(frozen=True)
class Recipe:
    """One parameter of every kind that plugins use."""

    name: ClassVar[str] = "recipe"

    words: tuple[str, ...] | None = param(None, "words or nothing")
    size: float = param(2.0, "a number", low=0, high=10, source="sec. 1")
    count: int = param(3, "a whole number", low=1, high=9)
    shares: tuple[float, ...] = param((0.1, 0.2), "numbers", low=0, high=1)
    pair: tuple[float, float] = param((0.0, 1.0), "two numbers", low=0, high=1)
    mode: Literal["calm", "wild"] = param("calm", "a choice")
    bold: bool = param(False, "yes or no")
    maybe: float | None = param(None, "a number or nothing", low=0, high=1)
    label: str = param("x", "a text")
    layout: Layout | None = param(None, "places")
    whim: Literal["this", "that"] | None = param(None, "a choice or nothing")

    def __post_init__(self) -> None:
        parameters.check(self)


LAYOUT = Layout((Region("cat", box=(0.0, 0.0, 0.5, 1.0)),))


def test_a_class_tells_its_parameters() -> None:
    found = {p.name: p for p in parameters.parameters(Recipe)}
    assert list(found) == [
        *("words", "size", "count", "shares", "pair"),
        *("mode", "bold", "maybe", "label", "layout", "whim"),
    ]
    size = found["size"]
    assert (size.default, size.help, size.low, size.high) == (2.0, "a number", 0, 10)
    assert (size.source, size.kind, size.choices) == ("sec. 1", float, ())
    assert found["mode"].choices == ("calm", "wild")
    assert found["whim"].choices == ("this", "that")


def test_json_and_back() -> None:
    recipe = Recipe(
        ("cat", "a red car"), 0.5, 1, (0.0,), (0.2, 0.3), "wild", True, 0.25, "y", LAYOUT, "that"
    )
    plain = json.loads(json.dumps(to_json(recipe)))
    assert plain["plugin"] == "recipe"
    assert plain["words"] == ["cat", "a red car"]
    assert from_json(Recipe, plain) == recipe
    assert from_json(Recipe, {}) == Recipe()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Recipe()),
        ("size=3", Recipe(size=3.0)),
        (" size = 1e-1 , count=4,", Recipe(size=0.1, count=4)),
        ("words=red cat|car", Recipe(words=("red cat", "car"))),
        ("words=none", Recipe(words=None)),
        ("shares=0|0.5|1", Recipe(shares=(0.0, 0.5, 1.0))),
        ("pair=0.5|0.75", Recipe(pair=(0.5, 0.75))),
        ("mode=wild,bold=yes", Recipe(mode="wild", bold=True)),
        ("bold=false,maybe=0.5", Recipe(maybe=0.5)),
        ("maybe=None", Recipe(maybe=None)),
        ("label=none", Recipe(label="none")),
        ("whim=that", Recipe(whim="that")),
        ("whim=None", Recipe(whim=None)),
    ],
)
def test_text_of_the_command_line(text: str, expected: Recipe) -> None:
    assert from_text(Recipe, text) == expected


def test_dashes_in_names_are_understood() -> None:
    @dataclass(frozen=True)
    class Long:
        name: ClassVar[str] = "long"
        step_size: float = param(1.0, "a number", low=0, high=5)

    assert from_text(Long, "step-size=2") == Long(2.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size", "'size' is not key=value; write for example"),
        ("big=1", "recipe has no parameter 'big'; it has: words, size"),
        ("size=large", "size='large' does not read as a number: a number"),
        ("size=11", r"size=11.0 is out of range; expected a number from 0 to 10 \(a number\)"),
        ("size=nan", "size=nan is out of range"),
        ("size=inf", "size=inf is out of range"),
        ("count=0", "count=0 is out of range"),
        ("count=2.5", "count='2.5' does not read as a whole number: "),
        ("shares=0.5|1.5", "shares=.* is out of range; expected numbers from 0 to 1 "),
        ("pair=0.5", "pair='0.5' does not read as"),
        (
            "pair=0.1|0.2|0.3",
            r"does not read as 2 numbers, values parted by \| as in 0\|0.5: two numbers",
        ),
        ("mode=loud", "mode='loud' does not read as one of calm, wild: a choice"),
        ("whim=other", "whim='other' does not read as .*this.*that.*: a choice or nothing"),
        ("bold=perhaps", "bold='perhaps' does not read as true or false: "),
        ("maybe=2", "maybe=2.0 is out of range"),
        ("label=a \udcff", r"label='a \\udcff' has halves of characters in it; write it in UTF-8"),
        ("words=cat|\ud83d", r"words=\('cat', '\\ud83d'\) has halves of characters"),
    ],
)
def test_text_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        from_text(Recipe, text)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": True}, "size=True does not read as a number"),
        ({"count": 2.0}, "count=2.0 does not read as a whole number: "),
        ({"size": None}, "size"),
        ({"size": [1]}, "size="),
        ({"layout": {"regions": "none"}}, "layout"),
        ({"mode": 3}, "mode=3 does not read as"),
    ],
)
def test_json_that_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        from_json(Recipe, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": -0.1}, "size=-0.1 is out of range"),
        ({"size": float("nan")}, "size=nan"),
        ({"shares": (0.5, -1)}, "shares="),
        ({"mode": "loud"}, "mode='loud' is not one of calm, wild"),
        ({"whim": "other"}, "whim='other' is not one of this, that"),
        ({"size": "2"}, "size='2' is not a number"),
        ({"maybe": -1}, "maybe=-1"),
    ],
)
def test_a_constructor_checks_too(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Recipe(**values)


def test_a_plugin_is_read_from_its_json_as_text() -> None:
    """What the app writes as a command line, where a value has commas in it."""
    from adhere.plugins import plugin

    made = plugin({"plugin": "safe-latent-diffusion", "concept": "a skull, bones", "scale": 500})
    for text in (json.dumps(to_json(made)), f"  {json.dumps(to_json(made), indent=2)}\n"):
        assert plugin(text) == made
    assert plugin('{"plugin": "attend-and-excite"}') == plugin("attend-and-excite")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"plugin": "attend-and-excite"', r"does not read as JSON \(.*write for example '\{"),
        ('{"plugin": "attend"}', "no plugin is called 'attend'; there are: .*attend-and-excite"),
        ('{"stop": 1}', "no plugin is called ''; there are"),
        ('{"plugin": "attend-and-excite", "stop": 2}', "stop=2.0 is out of range; expected"),
        ('{"plugin": "attend-and-excite", "til": 2}', "no parameter 'til'; it has: .*stop"),
    ],
)
def test_json_text_that_is_refused(text: str, message: str) -> None:
    from adhere.plugins import plugin

    with pytest.raises(ParameterError, match=message):
        plugin(text)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("attend-and-excite", {"subjects": (3, 7)}, r"a tuple of texts; write .*\('cat', 'frog'\)"),
        ("attend-and-excite", {"subjects": "car"}, r"write for example \('car',\)"),
        ("attend-and-excite", {"subjects": ["car"]}, r"write for example \('car',\)"),
        ("attend-and-excite", {"refine_at": 0.2}, r"write for example \(0\.2,\)"),
        ("attend-and-excite", {"step_size": "20"}, "not a number"),
        ("attend-and-excite", {"refinements": 2.5}, "not a whole number"),
        ("attend-and-excite", {"until": 0.5}, "it is called 'stop' now"),
        ("delayed-negative", {"begin": 0.5}, "it is called 'start' now"),
        ("sega", {"edits": "bird"}, r"write for example \('bird',\)"),
        ("sega", {"warmup": 0.2}, "it is called 'start' now"),
        ("zestguide", {"ignore": (0.1,)}, "a tuple of 2 numbers"),
        ("zestguide", {"layout": {"cat": (0, 0, 1, 1)}}, "not of type Layout"),
        ("syngen", {"nothing": 1}, "has no parameter 'nothing'; it has: subjects"),
    ],
)
def test_what_is_wanted_is_said(name: str, values: dict[str, Any], message: str) -> None:
    from adhere.plugins import PLUGINS

    with pytest.raises(ParameterError, match=message):
        PLUGINS[name](**values)


def test_numbers_of_other_libraries_are_numbers() -> None:
    made = Recipe(size=np.float32(3), count=np.int64(2), pair=(np.float64(0.5), Fraction(3, 4)))
    plain = json.loads(json.dumps(to_json(made)))
    assert (plain["size"], plain["count"], plain["pair"]) == (3.0, 2, [0.5, 0.75])
    assert from_json(Recipe, plain) == made
    for wrong in (np.float32(-1), np.float32("nan"), np.int64(-1), Fraction(2000)):
        with pytest.raises(ParameterError, match="out of range"):
            Recipe(size=wrong)


def test_a_method_holds_pythons_own_numbers_and_texts() -> None:
    from adhere.plugins import PLUGINS

    made = PLUGINS["attend-and-excite"](
        subjects=(np.str_("cat"),), step_size=Fraction(5, 2), refine_at=(np.float32(0.5),),
        thresholds=(1,), refinements=np.int8(2),
    )  # fmt: skip
    assert repr(made).startswith("AttendAndExcite(subjects=('cat',), step_size=2.5, stop=0.5, ")
    assert "refine_at=(0.5,), thresholds=(1,), refinements=2" in repr(made)


@dataclass(frozen=True)
class Held:
    """Somebody's own plugin, which holds an array: what is equal here may not be there."""

    name: ClassVar[str] = "held"

    values: np.ndarray


def test_plugins_that_cannot_be_compared_may_stand_side_by_side() -> None:
    one, other = Held(np.zeros(2)), Held(np.zeros(2))
    assert parameters.each_once([one, other]) == (one, other)
    with pytest.raises(ParameterError, match="held is there twice"):
        parameters.each_once([one, other, one])
    with pytest.raises(ParameterError, match="recipe is there twice"):
        parameters.each_once([Recipe(), Recipe(size=3.0), Recipe()])

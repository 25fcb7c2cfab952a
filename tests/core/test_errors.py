"""The tree of errors is what its docstring draws, and every one is explained."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import adhere
from adhere import errors

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if kind.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_is_drawn_documented_and_explained(kind: type) -> None:
    assert errors.__doc__
    assert kind.__name__ in errors.__doc__
    assert kind.__doc__
    page = Path(__file__).parents[2] / "docs" / "errors.md"
    assert f"`{kind.__name__}`" in page.read_text("utf-8")


def test_all_errors_have_one_root_and_an_ordinary_one() -> None:
    for kind in KINDS:
        if issubclass(kind, Exception) and not issubclass(kind, Warning):
            assert issubclass(kind, errors.GuidanceError)
    assert issubclass(errors.PromptError, ValueError)
    assert issubclass(errors.ParameterError, ValueError)
    assert issubclass(errors.ModelError, RuntimeError)
    assert issubclass(errors.ExtraMissing, ImportError)
    assert issubclass(errors.GuidanceWarning, UserWarning)


def test_a_missing_extra_says_how_to_install_it() -> None:
    text = str(errors.ExtraMissing("the app", "app"))
    assert text == "the app needs an optional dependency: pip install 'adhere[app]'"


def test_an_old_public_name_names_the_new_one() -> None:
    with pytest.raises(AttributeError, match=r"adhere\.Brief is called adhere\.Prompt now"):
        adhere.Brief  # noqa: B018

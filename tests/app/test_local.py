"""No text of a visitor has the server read a file or load a model of the visitor's choice."""

from __future__ import annotations

from typing import Any

import pytest

from adhere.app.jobs import setup as setups
from adhere.app.jobs.methods import offered
from adhere.errors import ParameterError
from adhere.guides import parameters
from adhere.plugins import PLUGINS

LOCAL = [
    (name, one.name)
    for name, kind in PLUGINS.items()
    for one in parameters.parameters(kind)
    if one.local is not None
]


def asked(**plugin: Any) -> dict[str, Any]:
    return {"prompt": "a cat", "plugins": [plugin]}


@pytest.mark.parametrize(("name", "parameter"), LOCAL)
@pytest.mark.parametrize(
    "value", ["/etc/passwd", "clip-score(model=owner/model)", "detector", "../x.safetensors"]
)
def test_files_and_models_of_the_server_cannot_be_named(
    name: str, parameter: str, value: str
) -> None:
    with pytest.raises(ParameterError, match="are its host's to choose; it can be"):
        setups.from_json(asked(plugin=name, **{parameter: value}), ("toybox",))


@pytest.mark.parametrize(("name", "parameter"), LOCAL)
def test_what_is_open_to_all_is(name: str, parameter: str) -> None:
    found = next(o for o in parameters.parameters(PLUGINS[name]) if o.name == parameter)
    for value in (found.default, *(found.local or ())):
        setups.from_json(asked(plugin=name, **{parameter: value}), ("toybox",))


NAMES = (
    *("verifier", "library", "autoencoder", "network", "prototypes"),
    *("model", "path", "file", "checkpoint", "weights"),
)


def test_every_parameter_that_names_a_file_or_a_verifier_says_so() -> None:
    """By its name, so that the next one is not forgotten."""
    named = {
        (name, one.name)
        for name, kind in PLUGINS.items()
        for one in parameters.parameters(kind)
        if one.name in NAMES
    }
    assert named == set(LOCAL)
    assert named


def test_what_cannot_be_used_here_is_not_offered() -> None:
    left_out = set(PLUGINS) - set(offered())
    files = {"concept-steering", "golden-noise", "noise-query", "prototype"}
    assert left_out == {*files, "fk-steering", "subject-guidance"}


def test_a_search_of_a_link_is_refused() -> None:
    data = {"prompt": "a cat", "search": {"candidates": 10_000}}
    with pytest.raises(ParameterError):
        setups.from_json(data, ("toybox",))

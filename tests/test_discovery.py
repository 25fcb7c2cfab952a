"""Plugins are found where they lie: in the package's folder, and in what others have installed."""

from __future__ import annotations

import dataclasses
import pydoc
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any, ClassVar

import pytest

import adhere
from adhere import plugins
from adhere.cli import listing
from adhere.errors import GuidanceWarning, ParameterError
from adhere.guides.manual import first_line, manual
from adhere.guides.parameters import param, parameters


@dataclasses.dataclass(frozen=True)
class Stranger:
    """Do what a stranger wants."""

    name: ClassVar[str] = "stranger"
    strength: float = param(1.0, "how much", low=0, high=2, source="sec. 9")

    def guide(self, run: Any) -> adhere.Guide:
        return adhere.Guide()


def named(name: Any) -> Any:
    return dataclasses.make_dataclass("Named", [], namespace={"name": name}, frozen=True)


def installed(monkeypatch: pytest.MonkeyPatch, **places: str) -> None:
    """As if packages had brought these entry points."""
    found = [EntryPoint(name, value, "adhere.plugins") for name, value in places.items()]
    monkeypatch.setattr(plugins, "entry_points", lambda group: found)


def test_a_file_in_the_folder_is_all_it_takes() -> None:
    module = ModuleType("adhere.plugins.tomorrow")
    code = (
        "from dataclasses import dataclass\n"
        "from adhere.plugins.edit.sega import Sega\n"
        "@dataclass(frozen=True)\n"
        "class Tomorrow:\n"
        "    name = 'tomorrow'\n"
        "    def guide(self, run): ...\n"
        "class _Shared(Tomorrow):\n"
        "    name = 'shared'\n"
        "class Mathematics: ...\n"
    )
    exec(code, vars(module))
    assert [kind.__name__ for kind in plugins.declared(module)] == ["Tomorrow"]


def test_every_file_of_the_folder_was_looked_through() -> None:
    files = {kind.__module__.rsplit(".", 1)[-1] for kind in plugins.PLUGINS.values()}
    assert {name.replace("-", "_") for name in plugins.PLUGINS} == files


@pytest.mark.parametrize("name", ["Spread", "two words", "", None, "a--b"])
def test_a_bad_name_is_refused(name: Any) -> None:
    with pytest.raises(ParameterError, match="lower case words joined by '-'"):
        plugins.index(named(name))


def test_what_breaks_somebody_later_is_refused() -> None:
    with pytest.raises(ParameterError, match="two plugins are called 'stranger'"):
        plugins.index(Stranger, Stranger)
    loose = dataclasses.make_dataclass("Loose", [], namespace={"name": "loose"})
    with pytest.raises(ParameterError, match="frozen dataclass"):
        plugins.index(loose)


def test_an_unknown_task_is_refused_with_those_that_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Stranger, "task", "haunt", raising=False)
    with pytest.raises(ParameterError, match="has the task 'haunt': set one of appear, bind, "):
        plugins.index(Stranger)


def test_an_installed_plugin_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, stranger=f"{__name__}:Stranger")
    assert "stranger" in plugins.available()
    assert "others:\n  stranger  " in listing.everything()
    assert "to give every thing its own properties:\n  conform " in listing.everything()
    assert plugins.plugin("stranger:strength=2") == Stranger(2.0)
    assert "strength=1.0  (0 to 2)" in listing.one("stranger")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("no_such_module_anywhere:Plugin", "ModuleNotFoundError"),
        ("adhere.plugins.edit.sega:NoSuchClass", "AttributeError"),
        ("adhere.plugins.edit.sega:Sega", "two plugins are called 'sega'"),
        ("adhere.plugins.edit.sega:split", "lower case words"),
    ],
)
def test_a_broken_one_is_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch, value: str, why: str
) -> None:
    installed(monkeypatch, broken=value, stranger=f"{__name__}:Stranger")
    with pytest.warns(GuidanceWarning, match=f"'broken' is left out .*{why}"):
        found = plugins.available()
    assert set(found) == {*plugins.PLUGINS, "stranger"}


@pytest.mark.parametrize("name", plugins.PLUGINS)
def test_help_teaches_what_the_command_line_does(name: str) -> None:
    kind = plugins.PLUGINS[name]
    public = getattr(adhere, kind.__name__)
    told = pydoc.plain(pydoc.render_doc(public))
    lines = {line.strip(" |") for line in told.splitlines()}
    for line in listing.one(name).removeprefix(f"{name}: ").splitlines():
        assert line.strip(" |") in lines  # pydoc draws bars; an equation may end in one
    for one in parameters(kind):
        assert any(line.startswith(f"{one.name}=") for line in lines)
        assert any(line.startswith(one.help) and one.source in line for line in lines)


def test_a_manual_is_written_once() -> None:
    kind = plugins.PLUGINS["sega"]
    again = manual(kind)
    assert again == kind.__doc__
    assert again.count("Parameters:") == 1
    assert again.startswith(first_line(kind))

"""Forms from before 0.2 still read, or end in a sentence that names the new one."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import adhere
from adhere.app.jobs import copies, setup
from adhere.errors import GuidanceError, ParameterError
from adhere.eval import places
from adhere.eval.run import experiment, manifest_file
from adhere.pipelines.studio.output import SETTINGS, read_settings
from adhere.pipelines.studio.request import Request
from adhere.plugins import PLUGINS, index, plugin, stack

OLD = {"plugin": "attend-and-excite", "until": 0.5}
REQUEST = {"prompt": "a cat and a frog", "plugins": [OLD]}
SETUP = {"model": "toybox", "seeds": [0], **REQUEST}
NEW = {**REQUEST, "plugins": [{"plugin": "attend-and-excite", "stop": 0.5}]}


def link(data: dict[str, Any]) -> str:
    """As the app has coded its links from the first."""
    packed = zlib.compress(json.dumps(data, separators=(",", ":")).encode(), 9)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def experiment_text(data: dict[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(yaml.safe_dump(data))
    return read


READERS: dict[str, Callable[[], object]] = {
    "call": lambda: PLUGINS["attend-and-excite"](until=0.5),  # type: ignore[call-arg]
    "json": lambda: plugin(OLD),
    "json text": lambda: stack(json.dumps([OLD])),
    "command line": lambda: plugin("attend-and-excite:until=0.5"),
    "guidance": lambda: adhere.Guidance.from_json({"plugins": [OLD]}),
    "request": lambda: Request.from_json(REQUEST),
    "app": lambda: setup.from_json(SETUP, ["toybox"]),
    "link": lambda: copies.from_link(link(SETUP), ["toybox"]),
    "experiment": lambda: experiment.from_mapping(
        experiment_text({"suites": ["toybox-pairs"], "variants": {"ours": [OLD]}})
    ),
    "experiment in short": lambda: experiment.from_mapping(
        {"suites": ["toybox-pairs"], "variants": ["attend-and-excite:until=0.5"]}
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_an_old_parameter_is_told_its_new_name(reader: str) -> None:
    with pytest.raises(GuidanceError, match="has no parameter 'until'; it is called 'stop' now"):
        READERS[reader]()


@pytest.mark.parametrize(
    ("spec", "new"),
    [
        ("delayed-negative:begin=0.1", "start"),
        ("delayed-negative:until=0.9", "stop"),
        ("sega:warmup=0.1", "start"),
        ("safe-latent-diffusion:warmup=0.1", "start"),
    ],
)
def test_the_shares_of_a_run_have_one_name_each(spec: str, new: str) -> None:
    with pytest.raises(ParameterError, match=f"it is called '{new}' now"):
        plugin(spec)


def test_the_same_settings_in_their_new_form_read() -> None:
    request = Request.from_json(NEW)
    assert setup.from_json({"model": "toybox", "seeds": [0], **NEW}, ["toybox"]).request == request
    assert request.plugins == (adhere.AttendAndExcite(stop=0.5),)


def test_a_picture_from_before_tells_what_it_was_asked(tmp_path: Path) -> None:
    """Its text chunk was the request alone."""
    text = PngInfo()
    text.add_text(SETTINGS, json.dumps(REQUEST))
    Image.new("RGB", (8, 8)).save(tmp_path / "old.png", pnginfo=text)
    found = read_settings(tmp_path / "old.png")
    assert found is not None
    assert found.request == REQUEST
    with pytest.raises(ParameterError, match="it is called 'stop' now"):
        Request.from_json(found.request)


def test_an_older_manifest_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    text = json.dumps({"adhere_manifest": 1}) + "\n" + json.dumps({"item": {}}) + "\n"
    (tmp_path / "manifest.jsonl").write_text(text)
    with pytest.raises(GuidanceError, match=r"format 1.*reads format 4\. Plan again"):
        manifest_file.manifest(places.at(tmp_path), ["manifest.jsonl"])


def test_old_public_names_and_attributes_say_their_new_ones() -> None:
    with pytest.raises(AttributeError, match=r"adhere\.Brief is called adhere\.Prompt now"):
        adhere.Brief  # type: ignore[attr-defined]  # noqa: B018
    prompt = adhere.Prompt("a cat")
    run: Any = adhere.Run((prompt,), (), (8, 8), 10, "stable-diffusion")
    for name, new in (("briefs", "prompts"), ("words", "phrase"), ("pairs", "nouns")):
        with pytest.raises(AttributeError, match=f"no attribute '{name}': it is {new}"):
            getattr(run, name)
    with pytest.raises(AttributeError, match="'prompt': it is text now"):
        prompt.prompt  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'typo'$"):
        run.typo  # noqa: B018


def test_a_method_for_the_old_protocol_is_told_the_new_one() -> None:
    class Old:
        name = "old"

        def start(self, run: adhere.Run) -> adhere.Guide:
            return adhere.Guide()

    with pytest.raises(ParameterError, match=r"its start\(run\) is called guide\(run\) now"):
        adhere.Guidance(Old())  # type: ignore[arg-type]
    from dataclasses import dataclass

    frozen: Any = dataclass(frozen=True)(Old)
    with pytest.raises(ParameterError, match=r"no guide\(run\); its start\(run\) is called"):
        index(frozen)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("attend-and-excite", "until", "stop"),
        ("safe-latent-diffusion", "warmup", "start"),
        ("delayed-negative", "begin", "start"),
    ],
)
def test_an_old_attribute_of_a_method_is_told_the_new_one(name: str, old: str, new: str) -> None:
    with pytest.raises(AttributeError, match=f"{old!r}: it is {new} now"):
        getattr(PLUGINS[name](), old)
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'$"):
        PLUGINS[name]().nothing  # type: ignore[attr-defined]  # noqa: B018


def test_modules_that_the_documentation_named_say_where_things_are() -> None:
    with pytest.raises(ImportError, match="from adhere import Layout"):
        exec("from adhere.layout import Layout", {})
    with pytest.raises(ImportError, match="from adhere import find, parse"):
        exec("from adhere.words import find, parse", {})

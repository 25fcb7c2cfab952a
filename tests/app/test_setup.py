"""A set-up survives JSON, links, Python and the command line; what strangers send is refused."""

from __future__ import annotations

import base64
import itertools
import json
import shlex
import sys
import zlib
from types import SimpleNamespace
from typing import Any

import pytest

from adhere import plugins
from adhere.app.jobs import copies
from adhere.app.jobs import setup as setups
from adhere.app.jobs.limits import LIMITS
from adhere.app.jobs.setup import Setup
from adhere.errors import GuidanceError
from adhere.layout.layout import Layout
from adhere.pipelines.studio.request import Request

MODELS = ("toybox", "other")
CROWD = [{"phrase": f"{k}", "box": [0, 0, 1, 1]} for k in range(40)]
LAYOUT = {"regions": [{"phrase": "cat", "box": [0.1, 0.2, 0.5, 0.9]}]}


def a_setup(**changes: Any) -> Setup:
    first = sorted(plugins.PLUGINS)[0]
    request = Request(
        prompt="a red cat and a blue car",
        negative_prompt="a dog, a frog",
        plugins=(plugins.plugin(first),),
        subjects=("cat", "car"),
        layout=Layout.from_json(LAYOUT),
        steps=12,
        guidance_scale=5.5,
        width=64,
        height=96,
        scheduler="ddim",
        seed=3,
        **changes,
    )
    return Setup("toybox", request, (3, 4))


def test_json_round_trip() -> None:
    setup = a_setup()
    assert setups.from_json(json.loads(json.dumps(setup.to_json())), MODELS) == setup


def test_link_round_trip() -> None:
    setup = a_setup()
    link = copies.to_link(setup)
    assert link.startswith("?setup=")
    assert copies.from_link(link.removeprefix("?setup="), MODELS) == setup


@pytest.mark.parametrize("name", sorted(plugins.PLUGINS))
def test_every_plugin_survives_json_and_command_line(name: str) -> None:
    made = plugins.plugin(name)
    request = Request(prompt="a cat", plugins=(made,))
    back = setups.from_json(Setup("toybox", request, (0,)).to_json(), MODELS)
    assert back.request.plugins == (made,)
    words = shlex.split(copies.to_command(Setup("toybox", request, (0,))))
    assert words[words.index("--plugin") + 1] == name


STACKS = (
    "attend-and-excite+syngen:stop=0.3",
    '[{"plugin": "syngen"}, {"plugin": "sega", "edits": ["+a smile + teeth", "-a hat, grey"]}]',
)


@pytest.mark.parametrize("text", STACKS)
@pytest.mark.parametrize("seeds", [(4,), (4, 7)])
def test_a_copied_command_makes_the_stack_and_the_seeds(text: str, seeds: tuple[int, ...]) -> None:
    made = plugins.stack(text)
    words = shlex.split(
        copies.to_command(Setup("toybox", Request(prompt="a cat", plugins=made), seeds))
    )
    assert words.count("--plugin") == 1
    assert plugins.stack(words[words.index("--plugin") + 1]) == made
    said = dict(itertools.pairwise(words))
    # One number behind `--seeds` is how many, not which.
    assert said.get("--seed") == "4" if len(seeds) == 1 else said["--seeds"] == "4,7"


def test_python_makes_the_same_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = a_setup()
    made: list[Request] = []

    class Studio:
        def __init__(self, model: str) -> None:
            assert model == "toybox"

        def generate(self, requests: list[Request]) -> list[Any]:
            made.extend(requests)
            image = SimpleNamespace(save=lambda name: None)
            return [SimpleNamespace(image=image)]

    code = copies.to_python(setup).replace("from adhere.pipelines.studio.studio", "from nowhere")
    monkeypatch.setitem(sys.modules, "nowhere", SimpleNamespace(Studio=Studio))
    exec(compile(code, "snippet", "exec"), {})
    assert made == setup.requests()


def test_command_line_is_quoted_and_whole() -> None:
    setup = a_setup()
    words = shlex.split(copies.to_command(setup))
    assert words[:3] == ["adhere", "generate", "a red cat and a blue car"]
    assert words[words.index("--seeds") + 1] == "3,4"
    assert words[words.index("--subjects") + 1] == "cat|car"
    assert words[words.index("--negative") + 1] == "a dog, a frog"


def test_command_options_exist() -> None:
    """The command line the app writes is one that the program takes."""
    import typer

    from adhere.cli.commands import app

    command = typer.main.get_command(app)
    known = {option for p in command.commands["generate"].params for option in p.opts}
    words = shlex.split(copies.to_command(a_setup()))
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("prompt", ["-a cat", "--help", "--", "a cat"])
def test_a_prompt_that_looks_like_an_option_is_the_prompt(prompt: str) -> None:
    import typer

    from adhere.cli.commands import app

    generate = typer.main.get_command(app).commands["generate"]
    setup = Setup("toybox", Request(prompt, negative_prompt="-a dog"), (4,))
    words = shlex.split(copies.to_command(setup))[2:]
    read = generate.make_context("generate", words).params
    assert (read["prompt"], read["negative"], read["seed"]) == (prompt, "-a dog", 4)


@pytest.mark.parametrize(
    "data",
    [
        [],
        "text",
        None,
        {"prompt": ""},
        {"prompt": 5},
        {"prompt": "a cat", "evil": 1},
        {"prompt": "a cat", "seeds": "0-3"},
        {"prompt": "a cat", "seeds": [True]},
        {"prompt": "a cat", "seeds": []},
        {"prompt": "a cat", "seeds": list(range(99))},
        {"prompt": "a cat", "model": "/etc"},
        {"prompt": "a cat", "model": ["toybox"]},
        {"prompt": "a cat", "plugins": [{"plugin": "nope"}]},
        {"prompt": "a cat", "plugins": [7]},
        {"prompt": "a cat", "plugins": 7},
        {"prompt": "a cat", "plugins": ["initno"] * 50},
        {"prompt": "a cat", "layout": {"regions": [{"phrase": "cat", "file": "/etc/passwd"}]}},
        {"prompt": "a cat", "layout": "x"},
        {"prompt": "a cat", "layout": {"regions": CROWD, "overlap": "share"}},
        {"prompt": "a cat", "subjects": 5},
        {"prompt": "a cat", "subjects": [5]},
        {"prompt": "a cat", "steps": 10**9},
        {"prompt": "a cat", "steps": "x"},
        {"prompt": "a cat", "guidance_scale": 1e9},
        {"prompt": "a cat", "width": 64},
        {"prompt": "a cat", "scheduler": {"a": 1}},
        {"prompt": "a cat", "negative_prompt": ["x"]},
        {"prompt": "x" * 5000},
    ],
)  # fmt: skip
def test_bad_settings_are_one_sentence(data: object) -> None:
    with pytest.raises(GuidanceError) as caught:
        setups.from_json(data, MODELS)
    assert "\n" not in str(caught.value)


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@pytest.mark.parametrize(
    "coded",
    [
        "",
        "!!!",
        "a" * (LIMITS.link_bytes + 1),
        _coded(b"not zlib"),
        _coded(zlib.compress(b"not json")),
        _coded(zlib.compress(b"[" * 100_000)),
        _coded(zlib.compress(b"\xff\xfe")),
        _coded(zlib.compress(b" " * 50_000_000, 9))[: LIMITS.link_bytes],
        _coded(zlib.compress(json.dumps({"prompt": "a cat"}).encode())[:-3]),
    ],
)
def test_broken_links_are_one_sentence(coded: str) -> None:
    with pytest.raises(GuidanceError):
        copies.from_link(coded, MODELS)


def test_bomb_in_a_link_is_not_unpacked() -> None:
    bomb = _coded(zlib.compress(b" " * (LIMITS.setup_bytes * 20), 9))
    assert len(bomb) < LIMITS.link_bytes
    with pytest.raises(GuidanceError, match="broken"):
        copies.from_link(bomb, MODELS)


def test_too_detailed_layout_says_to_copy_json() -> None:
    rows = [{"phrase": "cat", "mask": {"size": [400, 400], "runs": _noise()}}]
    request = Request(prompt="a cat", layout=Layout.from_json({"regions": rows}))
    with pytest.raises(GuidanceError, match="JSON"):
        copies.to_link(Setup("toybox", request, (0,)))


def _noise() -> list[int]:
    import random

    dice = random.Random(0)
    runs = [dice.randint(1, 5) for _ in range(30_000)]
    return [*runs, 160_000 - sum(runs)]

"""The app on the bundled model: what it lets people copy makes the same pictures."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from adhere.app.jobs.workshop import Result, Workshop
from PIL import Image, ImageChops

from adhere.app.jobs import setup as setups
from adhere.app.jobs.setup import Setup
from adhere.app.parts import examples

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    from adhere.pipelines.studio.studio import Studio
    from adhere.pipelines.toybox import Judge

    shop = Workshop(("toybox",), Studio, Judge.load)
    shop.warm_up()
    return shop


def made(workshop: Workshop, setup: Setup) -> Result:
    events = workshop.run(setup, threading.Event(), attention=True)
    return [event for event in events if isinstance(event, Result)][-1]


@pytest.mark.parametrize("tab", ["compose", "paint", "safety"])
def test_every_example_runs_and_is_judged(workshop: Workshop, tab: str) -> None:
    for example in examples.load(("toybox",), tab):
        first = Setup("toybox", example.setup.request, example.setup.seeds[:1])
        pair = made(workshop, first).pairs[0]
        assert pair.before is not None
        assert ImageChops.difference(pair.before.image, pair.after.image).getbbox()
        assert pair.judged_after is not None
        assert pair.maps_after is not None
        assert len(pair.maps_after.words) == len(example.setup.request.prompt.split())


def test_python_snippet_makes_the_same_picture(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = examples.load(("toybox",), "compose")[0].setup
    setup = Setup("toybox", setup.request, setup.seeds[:1])
    pair = made(workshop, setup).pairs[0]
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {}
    exec(compile(setups.to_python(setup), "snippet", "exec"), space)
    with Image.open(tmp_path / f"picture-{setup.seeds[0]}.png") as again:
        assert ImageChops.difference(again, pair.after.image).getbbox() is None

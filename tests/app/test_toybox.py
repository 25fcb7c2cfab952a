"""The app on the bundled model: what it lets people copy makes the same pictures."""

from __future__ import annotations

import io
import json
import shlex
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops
from typer.testing import CliRunner

import adhere
from adhere.app.jobs import copies
from adhere.app.jobs import setup as setups
from adhere.app.jobs.result import Result
from adhere.app.jobs.setup import Setup
from adhere.app.jobs.worker import Worker
from adhere.app.outcome import downloads
from adhere.app.parts import examples
from adhere.app.serving.server import prepare
from adhere.app.tabs import explorer
from adhere.cli.commands import app as cli
from adhere.layout.layout import Layout, Region
from adhere.pipelines.search.plan import Pilot
from adhere.pipelines.studio.output import read_settings
from adhere.pipelines.toybox.model.folder import DEFAULTS
from adhere.plugins import plugin

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def worker() -> Worker:
    from adhere.pipelines.studio.studio import Studio
    from adhere.pipelines.toybox import Judge

    prepare()
    made = Worker(("toybox",), Studio, Judge.load)
    made.warm_up()
    return made


def made(worker: Worker, setup: Setup) -> Result:
    events = worker.run(setup, threading.Event(), attention=True)
    return [event for event in events if isinstance(event, Result)][-1]


@pytest.mark.parametrize("tab", ["compose", "paint", "safety"])
def test_every_example_runs_and_is_judged(worker: Worker, tab: str) -> None:
    for example in examples.load(("toybox",), tab):
        first = Setup("toybox", example.setup.request, example.setup.seeds[:1])
        pair = made(worker, first).comparisons[0]
        assert pair.before is not None
        images = pair.before.picture.image, pair.after.picture.image
        assert ImageChops.difference(*images).getbbox()
        assert pair.after.verdict is not None
        assert pair.after.maps is not None
        assert len(pair.after.maps.words) == len(example.setup.request.prompt.split())


def same(path: Path, image: Image.Image) -> bool:
    with Image.open(path) as again:
        return ImageChops.difference(again.convert("RGB"), image).getbbox() is None


def cases() -> dict[str, Setup]:
    """A set-up of each tab, a stack, paint, a corrected prompt, chosen subjects; two seeds each."""
    found = {
        tab: examples.load(("toybox",), tab)[0].setup for tab in ("compose", "paint", "safety")
    }
    stack = examples.load(("toybox",), "compose")[2].setup
    mask = Region.painted("turtle", np.eye(32, dtype=bool) | (np.indices((32, 32))[0] > 20))
    painted = replace(found["paint"].request, layout=Layout((mask,), overlap="last"))
    told = Layout(
        (
            Region("turtle", (0, 0, 0.6, 1), text="a red turtle", stop=0.7, feather=0.2),
            Region(text="a blue car", negative="a skull", box=(0.4, 0, 1, 1), strength=0.8),
        ),
        overlap="share",
        base=0.15,
    )
    couple = (plugin("regional-prompting"),)
    found["texts"] = replace(stack, request=replace(painted, layout=told, plugins=couple))
    markup = replace(found["compose"].request, prompt="a red [lion] and a [yellow|car]")
    found |= {"stack": stack, "painted": replace(stack, request=painted)}
    found["markup"] = replace(stack, request=markup)
    chosen = replace(
        stack.request, subjects=("rabbit",), negative_prompt="a frog", guidance_scale=5
    )
    found["subjects"] = replace(stack, request=chosen)
    flown = replace(found["compose"].request, plugins=(), auto=Pilot(1.5))
    plan = flown.auto.plan(flown.prompt)
    edited = replace(plan, attempts=plan.attempts[1:], negative="a frog", enough=0.1)
    found["flown"] = replace(stack, request=flown)
    found["edited"] = replace(stack, request=replace(flown, auto=edited))
    return {
        name: Setup("toybox", replace(setup.request, seed=3, steps=8), (3, 1))
        for name, setup in found.items()
    }


@pytest.mark.parametrize("name", sorted(cases()))
def test_everything_copied_makes_the_very_same_pictures(
    worker: Worker, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = cases()[name]
    shots = {one.seed: one.after.picture.image for one in made(worker, setup).comparisons}
    monkeypatch.chdir(tmp_path)

    link = copies.to_link(setup).removeprefix("?setup=")
    assert copies.from_link(link, ("toybox",)) == setup
    assert setups.from_json(json.loads(json.dumps(setup.to_json())), ("toybox",)) == setup

    exec(compile(copies.to_python(setup), "snippet", "exec"), {})
    assert all(same(tmp_path / f"picture-{seed}.png", image) for seed, image in shots.items())

    downloads.for_command(setup, tmp_path)
    words = [*shlex.split(copies.to_command(setup))[1:], "--out", "made"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    saved = {path: read_settings(path) for path in (tmp_path / "made").rglob("*.png")}
    made_of = {one.request["seed"]: path for path, one in saved.items() if one and one.request}
    assert made_of.keys() == shots.keys()
    assert all(same(made_of[seed], image) for seed, image in shots.items())


def test_a_downloaded_picture_makes_itself_again(worker: Worker) -> None:
    setup = cases()["painted"]
    one = made(worker, setup).comparisons[1]
    path = downloads.picture(one.after)
    with Image.open(path) as saved:
        assert saved.size == one.after.picture.image.size
    again = setups.from_json(downloads.settings_of(str(path), ("toybox",)), ("toybox",))
    assert again.request == one.after.picture.request
    (picture,) = worker.model("toybox").generate(again.requests())
    assert same(path, picture.image)


def test_an_archive_makes_all_of_its_pictures_again(worker: Worker, tmp_path: Path) -> None:
    result = made(worker, cases()["painted"])
    with zipfile.ZipFile(downloads.everything(result)) as archive:
        archive.extractall(tmp_path)
    setup = setups.from_json(json.loads((tmp_path / "settings.json").read_text()), ("toybox",))
    assert setup == result.setup
    assert Layout.read(tmp_path / copies.LAYOUT_FILE) == setup.request.layout
    pictures = sorted(tmp_path.glob("*.png"))
    assert len(pictures) == 2 * len(setup.seeds)
    for path in pictures:
        own = setups.from_json(downloads.settings_of(str(path), ("toybox",)), ("toybox",))
        (picture,) = worker.model("toybox").generate(own.requests())
        assert same(path, picture.image)


def test_exported_attention_is_what_python_records(worker: Worker) -> None:
    """The arrays of the attention tab's archive against `record=True`, word by word."""
    pair = made(worker, cases()["compose"]).comparisons[0]
    request = pair.after.picture.request
    view = explorer.View(pair, ("lion",), None, grid=16, strength=0.6)
    with zipfile.ZipFile(explorer.archive(view, "a visitor")) as archive:
        names = set(archive.namelist())
        saved = np.load(io.BytesIO(archive.read("maps.npz")))
    assert {"lion-plain.png", "lion-guided.png", "maps.npz"} <= names
    assert [word.split("#")[0] for word in saved["words"]] == request.prompt.split()
    assert pair.before is not None
    usual = DEFAULTS["StableDiffusionPipeline"].guidance_scale
    for name, shot in (("plain", pair.before), ("guided", pair.after)):
        one = shot.picture.request
        pipe = adhere.load_toybox()
        generator = torch.Generator().manual_seed(one.seed)
        guidance = adhere.Guidance(*one.plugins)
        with guidance.attach(pipe, subjects=one.subjects, record=True) as attached:
            pipe(one.prompt, num_inference_steps=8, guidance_scale=usual, generator=generator)
        (recorded,) = attached.recorded
        for number, span in enumerate(recorded.spans):
            np.testing.assert_allclose(
                saved[name][:, number].astype(np.float32), recorded.of(span), atol=2e-3
            )

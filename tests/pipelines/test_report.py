"""What a run tells of itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adhere import Guidance
from adhere.pipelines.engine.report import RunReport
from adhere.plugins import PLUGINS
from tests import tiny
from tests.probes import Energetic, Probe, column


def test_a_report_of_every_plugin_is_plain_data() -> None:
    pipe = tiny.sd1()
    guidance = Guidance(PLUGINS["attend-and-excite"](), PLUGINS["safe-latent-diffusion"]())
    with guidance.attach(pipe) as attached:
        tiny.latents(pipe, [tiny.PROMPT, "a big green frog"], seeds=(0, 1), steps=4)
    for image in (0, 1):
        said = attached.report.for_image(image)
        assert json.loads(json.dumps(said))["family"] == "sd1"
        assert set(said["plugins"]) == {"attend-and-excite", "safe-latent-diffusion"}
        assert said["losses"]["attend-and-excite"][0][0] == 0
        assert said["seconds"] > 0


def test_an_image_is_told_what_is_its_own() -> None:
    class Reporting(Energetic):
        def report(self) -> dict[str, object]:
            return {"all": 1, "images": [{"mine": 10}, {"mine": 20}]}

    pipe = tiny.sd1()
    with Guidance(Probe(lambda run: Reporting(column(2)))).attach(pipe) as attached:
        tiny.latents(pipe, ["a cat", "a car"], seeds=(0, 1))
    assert attached.report.for_image(1)["plugins"] == {"probe": {"all": 1, "mine": 20}}
    first, second = (dict(attached.report.losses["probe"][k]) for k in (0, 1))
    assert first.keys() == second.keys() == {0, 1, 2}
    assert first[0] != second[0]


def test_a_prompt_that_was_cut_is_noted() -> None:
    pipe = tiny.sd1()
    prompt = "a cat and " + "big " * 80 + "frog"
    with Guidance(Probe(lambda run: Energetic(column(2)))).attach(pipe) as attached:
        tiny.latents(pipe, prompt, steps=1)
    (note,) = attached.report.notes
    assert "reads 75 tokens" in note
    assert "cut before" in note


@pytest.mark.parametrize("batch", [1, 3])
def test_passes_are_counted_for_each_image(batch: int) -> None:
    report = RunReport("sd1", batch, 10)
    report.passed(range(batch))
    report.passed([0])
    report.loss("probe", 0, [0], [0.5])
    assert report.passes == [2] + [1] * (batch - 1)
    assert report.losses["probe"][0] == [(0, 0.5)]
    report.note("one")
    report.note("one")
    assert report.notes == ["one"]


@pytest.mark.parametrize("mode", ["attach", "callback"])
def test_a_notebook_shows_pictures_losses_maps_and_notes(mode: str) -> None:
    pipe = tiny.sd1()
    guidance = Guidance(PLUGINS["attend-and-excite"](refinements=0))
    call = {"num_inference_steps": 2, "height": 32, "width": 32}
    prompts = ["a <cat> and a dog", "a car"]
    if mode == "attach":
        shown: Any = guidance.attach(pipe, record=True)
        assert "no guided call" in shown._repr_html_()
        with shown:
            pipe(prompts, **call)
    else:
        shown = guidance.callback(pipe, record=True)
        pipe(prompts, callback_on_step_end=shown, **call)
    page = shown._repr_html_()
    words = sum(len(one.words) for one in shown.recorded)
    assert page.count("<img ") == 2 + words
    assert page.count("<polyline ") == 2
    assert "attend-and-excite: " in page
    assert "<cat>" not in page
    shown.report.note("one < two")
    assert "one &lt; two" in shown._repr_html_()


def test_a_notebook_shows_a_call_without_pictures_or_maps() -> None:
    pipe = tiny.sd1()
    with Guidance(PLUGINS["attend-and-excite"](refinements=0)).attach(pipe) as attached:
        tiny.latents(pipe, steps=1)
    assert "<img" not in attached._repr_html_()
    assert "1 extra pass" in attached._repr_html_()

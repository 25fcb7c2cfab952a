"""What a studio asks of every family's pipeline: its own defaults, scales, samplers, callbacks."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline

from adhere.errors import ParameterError
from adhere.pipelines.studio import studio
from adhere.pipelines.studio.drawing.heatmaps import heat_strip
from adhere.pipelines.studio.request import Progress, Request
from adhere.pipelines.studio.samplers import FLOW, SCHEDULERS, offered
from adhere.pipelines.studio.studio import Studio
from tests import tiny
from tests.families import pipes
from tests.families.cases import CASES

MAKERS: dict[str, Callable[[], Any]] = {
    "sd1": tiny.sd1,
    "sdxl": tiny.sdxl,
    "sd3": pipes.sd3,
    "flux": pipes.flux,
    "flux2": pipes.flux2,
    "chroma": pipes.chroma,
    "qwen": pipes.qwen,
    "z_image": pipes.z_image,
}
BINNED: dict[str, Callable[[], Any]] = {"sana": pipes.sana, "pixart": pipes.pixart}
"""Pipelines that draw at the sizes of their published weights only, unless they are told not to."""
ASKED = Request("a cat", steps=3, width=64, height=64)


@pytest.fixture(params=MAKERS)
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Studio:
    """A studio of each family."""
    return of(MAKERS[request.param](), monkeypatch)


def of(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> Studio:
    monkeypatch.setattr(studio, "load", lambda *_, **__: pipe)
    return Studio("tiny", "cpu")


def parameter(pipe: Any, name: str) -> Any:
    found = inspect.signature(type(pipe).__call__).parameters.get(name)
    return found.default if found else None


def test_steps_and_scales_are_the_pipelines_own(made: Studio) -> None:
    assert made.steps == parameter(made.pipe, "num_inference_steps")
    assert made.guidance_scale == parameter(made.pipe, "guidance_scale")


@pytest.mark.parametrize(
    ("name", "steps"),
    [("flux", 28), ("sd3", 28), ("sana", 20), ("pixart", 20), ("chroma", 35), ("sd1", 50)],
)
def test_known_defaults(name: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert of((MAKERS | BINNED)[name](), monkeypatch).steps == steps


@pytest.mark.parametrize("name", BINNED)
def test_sizes_that_have_no_table_are_drawn_as_asked(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (picture,) = of(BINNED[name](), monkeypatch).generate([ASKED])
    assert picture.image.size == (64, 64)


def test_every_offered_sampler_draws_and_every_other_is_refused(made: Studio) -> None:
    names = offered(made.pipe)
    for name in SCHEDULERS:
        # PNDM's Runge-Kutta start wants more than three.
        request = Request(**{**vars(ASKED), "scheduler": name, "steps": 5})
        if name in names:
            (picture,) = made.generate([request])
            assert picture.made["scheduler"] == names[name]
        else:
            with pytest.raises(
                ParameterError, match=f"{re.escape(repr(name))} does not fit .*flow"
            ):
                made.generate([request])
    assert type(made.pipe.scheduler).__name__ in {*SCHEDULERS.values(), *FLOW.values()}


def test_a_flow_is_never_sampled_as_noise(made: Studio) -> None:
    flowing = "FlowMatch" in type(made.pipe.scheduler).__name__ or bool(
        made.pipe.scheduler.config.get("use_flow_sigmas")
    )
    assert (offered(made.pipe) is SCHEDULERS) is not flowing


def test_progress_is_told_by_every_pipeline(made: Studio) -> None:
    seen: list[Progress] = []
    made.generate([ASKED], on_step=seen.append)
    assert [one.index for one in seen] == [0, 1, 2]
    assert {one.count for one in seen} == {3}


def test_a_negative_prompt_is_read_or_refused(made: Studio) -> None:
    """Where it is accepted it changes the picture; else the sentence says what to do."""
    request = Request(**{**vars(ASKED), "negative_prompt": "a dog"})
    refusals = {"FluxPipeline": "--true-cfg 4", "Flux2KleinPipeline": "reads no negative prompt"}
    if said := refusals.get(type(made.pipe).__name__):
        with pytest.raises(ParameterError, match=said):
            made.generate([request])
        return
    plain, negated = (made.generate([one])[0].image for one in (ASKED, request))
    assert plain.tobytes() != negated.tobytes()


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if case.cat and name not in BINNED]
)
def test_maps_are_of_their_words_on_every_family(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the columns that were counted by hand, of every encoder."""
    case = CASES[name]
    made = of(case.make(), monkeypatch)
    request = Request("a cat and a dog", steps=2, width=64, height=64)
    (picture,) = made.generate([request], record_attention=True)
    recorded = picture.attention
    assert recorded is not None
    assert recorded.words == ("a", "cat", "and", "a#2", "dog")
    columns = [recorded.attention[..., list(those)].sum(-1) for those in case.cat]
    torch.testing.assert_close(recorded.of("cat"), torch.stack(columns).mean(0))
    assert heat_strip(picture).width > 5 * 192


def test_true_cfg_makes_flux_read_a_negative_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    made = of(pipes.flux(), monkeypatch)
    asked = {**vars(ASKED), "true_cfg_scale": 4.0}
    one, other = made.generate(
        [Request(**{**asked, "negative_prompt": text}) for text in ("a dog", "a red frog")]
    )
    assert one.image.tobytes() != other.image.tobytes()
    assert one.made["true_cfg_scale"] == 4.0


def test_true_cfg_is_refused_where_there_is_one_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    made = of(tiny.sd1(), monkeypatch)
    with pytest.raises(ParameterError, match=r"one guidance scale only; .*--guidance-scale"):
        made.generate([Request(**{**vars(ASKED), "true_cfg_scale": 4.0})])


def test_a_negative_prompt_without_guidance_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = of(tiny.sd1(), monkeypatch)
    asked = {**vars(ASKED), "negative_prompt": "a dog", "guidance_scale": 1.0}
    with pytest.raises(ParameterError, match="its scale is 1; give guidance_scale above 1"):
        made.generate([Request(**asked)])


def test_requests_name_unknown_keys_and_keep_their_json() -> None:
    assert "true_cfg_scale" not in ASKED.to_json()  # what names requests by their JSON goes on
    cfg = Request("a cat", true_cfg_scale=4.0)
    assert Request.from_json(cfg.to_json()) == cfg
    with pytest.raises(ParameterError, match="a request has no 'promt'"):
        Request.from_json({"promt": "a cat"})


def test_all_samplers_exist() -> None:
    for kind in {*SCHEDULERS.values(), *FLOW.values()}:
        assert issubclass(getattr(diffusers, kind), diffusers.SchedulerMixin)
    assert issubclass(diffusers.StableDiffusionPipeline, DiffusionPipeline)


@pytest.mark.parametrize(("side", "size"), [("width", (96, 64)), ("height", (64, 96))])
def test_one_side_alone_is_heard(side: str, size: tuple[int, int]) -> None:
    """Stable Diffusion's pipeline takes its own size for both where one is left out."""
    (made,) = Studio("toybox").generate([Request("a cat", steps=1, **{side: 96})])
    assert made.image.size == size
    assert (made.made["width"], made.made["height"]) == size

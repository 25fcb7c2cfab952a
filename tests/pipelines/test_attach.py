"""Attaching without a `with`, and ending a call from outside."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image

from adhere import Guidance, Interrupted, ModelError
from adhere.errors import GuidanceWarning
from adhere.plugins import PLUGINS
from tests import tiny
from tests.leftovers import nothing_left
from tests.probes import descending

SMALL: dict[str, Any] = {"steps": 3, "size": (32, 32)}


@pytest.fixture
def pipe() -> Any:
    return tiny.sd1()


def test_attach_works_at_once_and_ends_with_detach(pipe: Any) -> None:
    guidance, plain = Guidance(descending(step_size=50.0)), tiny.latents(pipe, **SMALL)
    expected = tiny.latents(pipe, guidance=guidance, **SMALL)
    kind = type(pipe)
    with nothing_left(pipe):
        attached = guidance.attach(pipe)
        assert torch.equal(tiny.latents(pipe, **SMALL), expected)
        assert attached.report.passes == [3]
        with pytest.raises(ModelError, match="attached to this pipeline already"):
            guidance.attach(pipe)
        attached.detach()
        attached.detach()
        assert torch.equal(tiny.latents(pipe, **SMALL), plain)
    assert type(pipe) is kind
    with attached:  # again, for a while
        assert torch.equal(tiny.latents(pipe, **SMALL), expected)
    assert torch.equal(tiny.latents(pipe, **SMALL), plain)


@pytest.mark.parametrize("mode", ["attach", "callback"])
def test_a_call_without_any_step_is_said_to_be_guided_by_nothing(mode: str) -> None:
    """Of four steps a strength of 0.2 leaves none."""
    pipe = StableDiffusionImg2ImgPipeline(**tiny.sd1_parts(), requires_safety_checker=False)
    picture = Image.new("RGB", (32, 32), "red")
    asked = {"image": picture, "steps": 4, "size": None, "mode": mode}
    with pytest.warns(GuidanceWarning, match="nothing in it was guided and it has no report"):
        tiny.latents(pipe, guidance=Guidance(PLUGINS["nag"]()), strength=0.2, **asked)
    with warnings.catch_warnings():
        warnings.simplefilter("error", GuidanceWarning)
        tiny.latents(pipe, guidance=Guidance(PLUGINS["nag"]()), strength=0.3, **asked)
        tiny.latents(pipe, guidance=Guidance(), strength=0.2, **asked)


MANY = {
    "attend-and-excite": {},
    "initno": {},
    "best-of-noise": {},
    "safe-latent-diffusion": {},
    "paint-with-words": {},
}


@pytest.mark.parametrize("mode", ["attach", "callback"])
@pytest.mark.parametrize("name", MANY)
def test_a_request_to_end_is_heard_before_the_next_pass(pipe: Any, name: str, mode: str) -> None:
    passes: list[int] = []
    pipe.unet.conv_in.register_forward_pre_hook(lambda *_: passes.append(1))
    for after in (0, 1, 2):
        passes.clear()

        def asked(after: int = after) -> bool:
            return len(passes) >= after

        guidance = Guidance(PLUGINS[name](**MANY[name]))
        about = {"interrupt": asked, "layout": tiny.LAYOUT}
        with nothing_left(pipe), pytest.raises(Interrupted, match="asked to end"):
            tiny.latents(pipe, guidance=guidance, mode=mode, about=about, **SMALL)
        assert len(passes) == after
    found = tiny.latents(pipe, guidance=Guidance(), about={"interrupt": lambda: False}, **SMALL)
    assert torch.equal(found, tiny.latents(pipe, **SMALL))


def test_a_call_without_plugins_is_ended_too(pipe: Any) -> None:
    with Guidance().attach(pipe, interrupt=lambda: True), pytest.raises(Interrupted):
        tiny.latents(pipe, **SMALL)

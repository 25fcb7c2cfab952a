"""A look ahead sees what the run itself will see there."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from adhere import Guidance
from adhere.guides.guide import Guide, Step
from adhere.guides.maps import Read
from adhere.layout.layout import Layout, Region
from adhere.plugins import PLUGINS
from tests import tiny
from tests.families.cases import CASES, Case
from tests.families.test_extra_texts import Attends
from tests.probes import Probe

STEPS = 13
AT = 1 / (STEPS - 1)
"""The second of 13 steps: one stride, of the very length of the run's first step."""


class Foreseeing(Guide):
    """Keeps the words' maps that a look ahead gives for the noise as it is."""

    reads = frozenset({Read("cross")})

    def __init__(self, at: float) -> None:
        self.at = at
        self.seen: list[Tensor] = []

    def guides(self, step: Any) -> bool:
        return False

    def initial(self, noise: Tensor, look: Any) -> Tensor:
        with torch.no_grad():
            self.seen.append(look(noise, at=self.at).cross().detach().float())
            self.seen.append(look(noise).cross().detach().float())
        return noise


def foreseen(pipe: Any, call: Any, at: float = AT) -> tuple[list[Tensor], Tensor]:
    """Maps looked at before the run, ahead and at the first step, and those recorded in it."""
    guide = Foreseeing(at)
    with Guidance(Probe(lambda run: guide)).attach(pipe, record=True) as attached:
        call()
    return guide.seen, attached.attention


def follows(seen: list[Tensor], recorded: Tensor) -> None:
    ahead, first = seen
    torch.testing.assert_close(ahead, recorded[:, 1].float(), rtol=0, atol=2e-5)
    torch.testing.assert_close(first, recorded[:, 0].float(), rtol=0, atol=2e-5)
    assert not torch.allclose(ahead, first, atol=1e-4)  # a look that stays where it is would pass


APART = {"flux", "flux2", "qwen-image", "chroma"}
"""Families that call the unconditional half apart, which strides cannot follow."""


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_look_ahead_sees_the_step_there(case: Case, guided: bool) -> None:
    seen, recorded = foreseen(case.pipe, lambda: case(steps=STEPS, guided=guided))
    if guided and case.name in APART:
        alone, _ = foreseen(case.pipe, lambda: case(steps=STEPS, guided=False))
        torch.testing.assert_close(seen, alone, rtol=0, atol=2e-5)
    else:
        follows(seen, recorded)


class Biased(Guide):
    """Sharpens what the cells listen to."""

    biases = frozenset({"cross"})

    def bias(self, step: Step, logits: Any) -> Tensor:
        return 0.2 * logits.values()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_look_ahead_is_biased_and_hears_extra_texts(case: Case) -> None:
    """As the run itself: with either left out the looks would be of other pictures."""
    heard = Attends(lambda one: one.output({"other": 1.0}), {"other": "a big bird"})
    guide, only = Foreseeing(AT), Foreseeing(AT)
    call = {"steps": STEPS, "guided": case.name not in APART, "prompts": ["a cat"], "seeds": [1]}
    with Guidance(Probe(lambda run: guide), heard, Probe(lambda run: Biased())).attach(
        case.pipe, record=True
    ) as attached:
        case(**call)
    follows(guide.seen, attached.attention)
    with Guidance(Probe(lambda run: only), Probe(lambda run: Biased())).attach(case.pipe):
        case(**{**call, "steps": 2})
    assert not torch.allclose(only.seen[0], guide.seen[0], atol=1e-4)


class Drawn(Guide):
    """Keeps the latents of the picture that is foreseen, under a text of its own if it has one."""

    def __init__(self, text: str = "") -> None:
        self.text = "other" if text else ""
        self.columns = {"other": [text]} if text else {}

    def attends(self, step: Step) -> bool:
        return False

    def initial(self, noise: Tensor, look: Any) -> Tensor:
        self.seen = look.latents(noise, at=AT, text=self.text)
        return noise


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_look_hears_another_text_in_the_prompts_place(case: Case) -> None:
    """As a guide would have it in every layer, and whatever others do in the run's attention."""
    text, call = "a big bird", {"steps": 2, "guided": False, "prompts": ["a cat"], "seeds": [1]}
    alone, wanted, plain = Drawn(text), Drawn(), Drawn()
    instead = Attends(lambda one: one.output({"other": 1.0}), {"other": text})
    halved = Attends(lambda one: 0.5 * one.output(), {})
    for guide, other in ((alone, halved), (wanted, instead), (plain, None)):
        guides = [Probe(lambda run, guide=guide: guide), *([other] if other else [])]
        with Guidance(*guides).attach(case.pipe):
            case(**call)
    torch.testing.assert_close(alone.seen, wanted.seen, rtol=0, atol=2e-5)
    assert not torch.allclose(alone.seen, plain.seen, atol=1e-3)


@pytest.mark.parametrize("name", ["best-of-noise", "initno"])
def test_noise_is_chosen_for_the_picture_with_its_regions(name: str) -> None:
    few = {"candidates": 2} if name == "best-of-noise" else {"rounds": 1, "passes": 2}
    more = {} if name == "best-of-noise" else {"last_passes": 1, "refinements": 0}
    layout = Layout((Region(text="a skull", box=(0, 0, 0.5, 1)),))
    choosing: Any = PLUGINS[name](subjects=("cat", "dog"), look_at=0.2, **few, **more)
    regional: Any = PLUGINS["regional-prompting"](layout)
    for case in (CASES["sd3"], CASES["flux"]):
        call = {"prompts": ["a cat and a dog"], "seeds": [1], "steps": 3, "guided": False}
        found = []
        for plugins in ((choosing, regional), (choosing,), (regional,)):
            with Guidance(*plugins).attach(case.pipe) as attached:
                found.append(case(**call))
            found_passes = attached.report.passes
            assert (found_passes[0] > 0) == (choosing in plugins)
        assert torch.isfinite(found[0]).all()
        assert not torch.allclose(found[0], found[1], atol=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        "DDIMScheduler",
        "EulerDiscreteScheduler",
        "LMSDiscreteScheduler",
        "DPMSolverMultistepScheduler",
        "UniPCMultistepScheduler",
        "EDMEulerScheduler",
    ],
)
def test_on_every_kind_of_scheduler(name: str) -> None:
    pipe = tiny.sd1(scheduler=getattr(diffusers, name)())
    follows(*foreseen(pipe, lambda: tiny.latents(pipe, num_inference_steps=STEPS)))


def test_a_gradient_comes_back_to_the_noise() -> None:
    """By the noise's share of the latents there, with the predicted picture taken for given."""
    pipe = tiny.sd1()
    slopes: list[Tensor] = []

    class Pulling(Foreseeing):
        def initial(self, noise: Tensor, look: Any) -> Tensor:
            leaf = noise.clone().requires_grad_(True)
            with torch.enable_grad():
                peak = look(leaf, at=self.at).cross()[..., 2].amax()
                slopes.append(torch.autograd.grad(peak, [leaf])[0])
            return noise

    with Guidance(Probe(lambda run: Pulling(0.4))).attach(pipe):
        tiny.latents(pipe, num_inference_steps=2)
    assert torch.isfinite(slopes[0]).all()
    assert float(slopes[0].abs().max()) > 0

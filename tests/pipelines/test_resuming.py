"""A guide's latents at a step on the way are what the model sees there, and where it goes on."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from adhere import Guidance
from adhere.guides.guide import Guide, Here, Step
from adhere.guides.maps import Read
from tests import tiny
from tests.families.cases import CASES, PROMPTS, Case
from tests.probes import Probe

CHOSEN = 0.1


class Resumes(Guide):
    """Goes on from latents of its own at step 1; looks at what is there."""

    reads = frozenset({Read("cross")})

    def __init__(self) -> None:
        self.seen: dict[str, Tensor] = {}

    def guides(self, step: Step) -> bool:
        return False

    def resumes(self, step: Step) -> bool:
        return step.index == 1

    def resume(self, step: Step, here: Here) -> Tensor:
        a, s = here.factors
        chosen = a * CHOSEN * here.picture + s * here.noise
        images = list(range(len(chosen)))
        with torch.no_grad():
            self.seen = {
                "chosen": chosen,
                "maps": here(chosen, images).cross().float(),
                "fresh": here.fresh(images, 3),
            }
        return chosen


def seen_of(case: Case) -> tuple[Resumes, Tensor]:
    guide = Resumes()
    with Guidance(Probe(lambda run: guide)).attach(case.pipe, record=True) as made:
        case(steps=3)
    assert made.attention is not None
    return guide, made.attention


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_run_goes_on_from_what_was_looked_at(case: Case) -> None:
    guide, attention = seen_of(case)
    torch.testing.assert_close(guide.seen["maps"], attention[:, 1].float(), rtol=0, atol=2e-5)
    assert not torch.allclose(guide.seen["maps"], attention[:, 0].float(), atol=1e-4)


@pytest.mark.parametrize(
    "name", ["DDIMScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler"]
)
def test_the_model_is_shown_what_was_chosen(name: str) -> None:
    """Whatever space the scheduler has, the model is shown the latents that were chosen."""
    pipe: Any = tiny.sd1()
    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
    guide, seen = Resumes(), []
    pipe.unet.register_forward_pre_hook(lambda module, args: seen.append(args[0][-1:].clone()))
    with Guidance(Probe(lambda run: guide)).attach(pipe):
        tiny.latents(pipe)
    assert any(torch.allclose(one, guide.seen["chosen"], atol=1e-5) for one in seen)


def test_noise_of_an_image_does_not_depend_on_its_batch() -> None:
    case = CASES["sd3"]
    both, _ = seen_of(case)
    alone = Resumes()
    with Guidance(Probe(lambda run: alone)).attach(case.pipe):
        case(PROMPTS[1:], seeds=(2,), steps=3)
    assert torch.equal(both.seen["fresh"][1:], alone.seen["fresh"])

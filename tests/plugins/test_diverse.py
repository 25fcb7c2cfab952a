"""Condition-annealed sampling: the schedule, the mix, and whose noise it is."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline

from adhere import Guidance
from adhere.guides.guide import Text
from adhere.plugins.choose.diverse import Diverse, annealed
from tests import tiny
from tests.probes import Probe

PROMPTS = ("a red cat", "a dog")


def text_of(batch, scale=1.0):
    torch.manual_seed(7)
    return Text(scale * torch.randn(batch, 20, 6) + scale, torch.ones(batch, 20, 6), lambda t: t)


def slow(y, n, gamma, s, psi):
    """Equations 1 to 4 for one image, a number at a time."""
    values = [float(v) for v in y.flatten()]
    mean = sum(values) / len(values)
    std = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    mixed = [
        math.sqrt(gamma) * v + s * math.sqrt(1 - gamma) * std * float(e)
        for v, e in zip(values, n.flatten(), strict=True)
    ]
    m = sum(mixed) / len(mixed)
    d = math.sqrt(sum((v - m) ** 2 for v in mixed) / (len(mixed) - 1))
    found = [psi * ((v - m) / d * std + mean) + (1 - psi) * v for v in mixed]
    return torch.tensor(found).view_as(y)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("psi", [0.0, 0.5, 1.0])
def test_the_mix_is_the_papers(gamma, psi):
    text, noise = text_of(2), torch.randn(2, 20, 6, generator=torch.Generator().manual_seed(1))
    found = annealed(text.cond, noise, gamma, Diverse(noise=0.4, rescaled=psi))
    for k in range(2):
        wanted = slow(text.cond[k], noise[k], gamma, 0.4, psi)
        assert torch.allclose(found[k], wanted, atol=2e-5)


def test_the_schedule_falls_between_two_times():
    plugin = Diverse()
    heard = [plugin.heard(1 - t) for t in (1.0, 0.9, 0.75, 0.6, 0.3)]
    assert heard == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.0])
    sudden = Diverse(clear=0.5, unheard=0.5)
    assert [sudden.heard(at) for at in (0.0, 0.49, 0.5, 0.9)] == [0.0, 0.0, 1.0, 1.0]


def test_later_steps_and_the_negative_prompt_hear_as_ever(make_run, make_step):
    guide, text = Diverse().guide(make_run(*PROMPTS)), text_of(2)
    for index, count in ((0, 10), (3, 10), (4, 10), (9, 10)):
        found = guide.embed(make_step(index, count=count), text)
        assert found.uncond is text.uncond
        assert torch.equal(found.cond, text.cond) == (index >= 4)


def test_what_is_heard_is_as_far_from_the_prompt_at_any_scale(make_run, make_step):
    near = []
    for scale in (1.0, 300.0):
        guide, text = Diverse(noise=0.25).guide(make_run(*PROMPTS)), text_of(2, scale)
        found = guide.embed(make_step(2, count=10), text).cond
        near.append(float((found - text.cond).norm() / text.cond.norm()))
    assert near[0] > 0.01
    assert near[0] == pytest.approx(near[1], rel=1e-4)


def test_noise_is_the_images_own_and_new_each_step(make_run, make_step):
    text = text_of(2)
    both = Diverse().guide(make_run(*PROMPTS, seeds=(5, 6)))
    found = [both.embed(make_step(index, count=10), text).cond for index in (0, 1)]
    assert not torch.equal(found[0], found[1])
    for k, prompt in enumerate(PROMPTS):
        alone = Diverse().guide(make_run(prompt, seeds=(5 + k,)))
        one = alone.embed(make_step(0, count=10), text.replace(cond=text.cond[k : k + 1])).cond
        assert torch.allclose(one[0], found[0][k], atol=1e-6)
    # What goes on from another image's picture goes on with its noise.
    both.follow([1, 1])
    same = both.embed(make_step(2, count=10), text.replace(cond=text.cond[:1].repeat(2, 1, 1))).cond
    assert torch.equal(same[0], same[1])


@pytest.mark.parametrize("strength", [None, 0.5])
def test_pictures_of_one_prompt_hear_it_each_in_its_own_way(strength):
    """From the first step on, and from a picture, too."""
    pipe, call = tiny.sd1(), {"num_inference_steps": 4, "output_type": "latent"}
    if strength is not None:
        pipe = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
        call |= {"image": torch.rand(1, 3, 32, 32), "strength": strength}
    heard = []

    def listen(guide):
        given = guide.embed

        def embed(step, text):
            heard.append(given(step, text))
            return heard[-1]

        guide.embed = embed
        return guide

    spread = Diverse(noise=1.0, unheard=0.5, clear=1.0)
    with Guidance(Probe(lambda run: listen(spread.guide(run)))).attach(pipe):
        pipe("a red cat", num_images_per_prompt=2, generator=tiny.generators(1, 2), **call)
    assert heard
    assert not any(torch.allclose(text.cond[0], text.cond[1]) for text in heard[:2])

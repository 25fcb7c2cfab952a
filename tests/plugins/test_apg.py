"""APG on pictures, value by value, and against diffusers' own function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance

from adhere.plugins.scale.apg import Apg


def pictures(eps, step):
    """D of the prompt and without it: x = a D + s eps."""
    a, s = step.noise / step.sigma, step.noise
    return [((eps.latents - s * part) / a).numpy() for part in (eps.cond, eps.uncond)]


def slow_run(seen, steps, plugin):
    average, results = 0.0, []
    for eps, step in zip(seen, steps, strict=True):
        cond, uncond = pictures(eps, step)
        average = (cond - uncond) + plugin.momentum * average
        guided = np.zeros_like(cond)
        for image in range(len(cond)):
            m, way = average[image].copy(), cond[image] / np.linalg.norm(cond[image])
            if plugin.norm:
                m *= min(1.0, plugin.norm / np.linalg.norm(m))
            part = np.sum(m * way) * way
            guided[image] = cond[image] + (eps.scale - 1) * (m - part + plugin.along * part)
        results.append(guided)
    return results


def guided_picture(guide, eps, step):
    """The picture after the pipeline's own guidance."""
    cond = guide.predict(step, eps)
    noise = eps.uncond + eps.scale * (cond - eps.uncond)
    return (eps.latents - step.noise * noise) * step.sigma / step.noise


SETTINGS = [
    {},
    {"momentum": -0.5, "norm": 5.0},
    {"along": 0.7, "norm": 0.0, "momentum": 0.3},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_pictures_equal_the_published_rule(make_run, make_step, make_predictions, settings):
    plugin, seen = Apg(**settings), make_predictions(4)
    steps = [make_step(i, sigma=3.0 - 0.5 * i, noise=0.9 - 0.1 * i) for i in range(4)]
    guide = plugin.guide(make_run("a cat", "a dog"))
    for eps, step, expected in zip(seen, steps, slow_run(seen, steps, plugin), strict=True):
        found = guided_picture(guide, eps, step)
        torch.testing.assert_close(found, torch.from_numpy(expected))
    assert len(guide.report()["update_norm"]) == 4


@pytest.mark.parametrize("settings", SETTINGS)
def test_pictures_equal_those_of_diffusers(make_run, make_step, make_predictions, settings):
    plugin, step = Apg(**settings), make_step(3)
    guide, buffer = plugin.guide(make_run("a cat", "a dog")), MomentumBuffer(plugin.momentum)
    for eps in make_predictions(3):
        cond, uncond = (torch.from_numpy(one) for one in pictures(eps, step))
        expected = normalized_guidance(
            cond, uncond, eps.scale - 1, buffer, plugin.along, plugin.norm, True
        )
        torch.testing.assert_close(guided_picture(guide, eps, step), expected)


def test_one_setting_is_the_usual_guidance(make_run, make_step, make_predictions):
    (eps,) = make_predictions(1)
    guide = Apg(along=1.0, norm=0.0).guide(make_run("a cat", "a dog"))
    torch.testing.assert_close(guide.predict(make_step(0), eps), eps.cond)


def test_a_batch_equals_its_images_and_it_ends(make_run, make_step, make_predictions, image_of):
    plugin = Apg(momentum=-0.5, stop=0.04)
    whole = plugin.guide(make_run("a cat", "a dog"))
    parts = [plugin.guide(make_run("a cat")) for _ in range(2)]
    for i, eps in enumerate(make_predictions(3)):
        found = whole.predict(make_step(i), eps)
        alone = [part.predict(make_step(i), image_of(eps, k)) for k, part in enumerate(parts)]
        torch.testing.assert_close(found, torch.cat(alone))
        assert torch.equal(found, eps.cond) == (i == 2)

"""Layout guidance against its energy written out for every layer, head, region and token."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from adhere.guides.maps import Layer, Maps, Site
from adhere.layout.layout import Layout, Region
from adhere.plugins.place.layout_guidance import LayoutGuidance

LAYOUT = Layout((Region("red cat", box=(0, 0, 0.5, 0.5)), Region("axe", box=(0.5, 0.3, 1, 1))))
WORDS = ([[2, 3], [5, 6, 7]], [[7, 8], [2, 3, 4]])
PROMPTS = ("a red cat and axe", "the axe and a red cat")
GRIDS = ((4, 6), (2, 3))


@pytest.fixture
def maps_of():
    """Two layers of two heads on two grids."""

    def make(run, tensors, images=(0, 1)):
        layers = [
            Layer(Site(str(grid), "cross", grid, 2), one)
            for grid, one in zip(GRIDS, tensors, strict=True)
        ]
        return Maps(tuple(images), lambda read: layers, torch.ones(len(images), 20).bool(), run)

    return make


def logits_of(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        2 * torch.randn(2, 2, h * w, 20, generator=generator, dtype=torch.float64) for h, w in GRIDS
    ]


def slow_energy(tensors, image):
    layers = []
    for (h, w), one in zip(GRIDS, tensors, strict=True):
        masks = LAYOUT.masks((h, w)).flatten(1).tolist()
        regions = []
        for mask, columns in zip(masks, WORDS[image], strict=True):
            tokens = []
            for column in columns:
                heads = []
                for head in range(2):
                    values = one[image, head, :, column].tolist()
                    inside = sum(v * m for v, m in zip(values, mask, strict=True))
                    heads.append((1 - inside / sum(values)) ** 2)
                tokens.append(sum(heads) / len(heads))
            regions.append(sum(tokens) / len(tokens))
        layers.append(sum(regions) / len(regions))
    return sum(layers) / len(layers)


def test_energy_of_two_images_with_different_prompts(make_run, make_step, maps_of):
    run = make_run(*PROMPTS, layout=LAYOUT)
    tensors = [one.softmax(-1) for one in logits_of()]
    guide = LayoutGuidance().guide(run)
    energy = guide.energy(make_step(2, noise=0.9), maps_of(run, tensors))
    expected = [slow_energy(tensors, image) for image in range(2)]
    assert min(expected) > 0.2
    torch.testing.assert_close(energy.loss, torch.tensor(expected, dtype=torch.float64))
    assert energy.step_size == pytest.approx(30 * 0.81)
    assert (energy.rule, energy.target, energy.at_most) == ("plain", 0.2, 4)
    alone = guide.energy(make_step(2), maps_of(run, [one[1:] for one in tensors], [1]))
    torch.testing.assert_close(alone.loss, energy.loss[1:])


def test_an_image_that_is_good_enough_stays(make_run, make_step, maps_of):
    run = make_run(*PROMPTS, layout=LAYOUT)
    tensors = [one.softmax(-1) for one in logits_of()]
    expected = sorted(slow_energy(tensors, image) for image in range(2))
    between = sum(expected) / 2
    leaves = [one.clone().requires_grad_(True) for one in tensors]
    energy = LayoutGuidance(threshold=between).guide(run).energy(make_step(0), maps_of(run, leaves))
    moving = (energy.loss > 0).tolist()
    assert sorted(moving) == [False, True]
    assert (energy.loss > energy.target).tolist() == moving
    gradients = torch.autograd.grad(energy.loss.sum(), leaves)
    for image in range(2):
        assert any(bool(one[image].any()) for one in gradients) == moving[image]


def test_an_image_that_became_good_enough_makes_its_last_move(make_run, make_step, maps_of):
    """Published: move while the loss *before* is too large, so once more from a good one."""
    run = make_run(*PROMPTS, layout=LAYOUT)
    guide = LayoutGuidance(threshold=1.0).guide(run)
    tensors = [one.softmax(-1) for one in logits_of()]
    step = make_step(0)
    assert (guide.energy(step, maps_of(run, tensors)).loss == 0).all()
    again = guide.energy(replace(step, iteration=1), maps_of(run, tensors)).loss
    expected = [slow_energy(tensors, image) for image in range(2)]
    torch.testing.assert_close(again, torch.tensor(expected, dtype=torch.float64))


def test_gradient_equals_finite_differences(make_run, make_step, maps_of, check_gradient):
    run = make_run(*PROMPTS, layout=LAYOUT)
    guide = LayoutGuidance(threshold=0.0).guide(run)
    fine, coarse = logits_of()

    def loss(logits):
        tensors = [logits.softmax(-1), coarse.softmax(-1)]
        return guide.energy(make_step(0), maps_of(run, tensors)).loss.sum()

    check_gradient(loss, fine)


def test_schedule(make_run, make_step):
    guide = LayoutGuidance().guide(make_run(PROMPTS[0], layout=LAYOUT))
    assert [i for i in range(50) if guide.guides(make_step(i))] == list(range(10))

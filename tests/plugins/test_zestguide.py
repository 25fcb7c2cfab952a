"""ZestGuide against its cross entropies written out cell by cell."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from adhere.errors import LayoutError, ParameterError
from adhere.layout.layout import Layout, Region
from adhere.plugins.place.zestguide import ZestGuide, disagreement

LAYOUT = Layout((Region("red cat", box=(0, 0, 0.5, 0.5)), Region("axe", box=(0.5, 0.25, 1, 1))))


def clip(x):
    return min(max(x, 1e-3), 1 - 1e-3)


def slow_loss(maps, masks, gain, ignore):
    """maps, masks: lists of flat lists, one for each region."""
    total = 0.0
    for found, mask in zip(maps, masks, strict=True):
        found = [gain * value for value in found]
        relative = [value / (max(found) + 1e-4) for value in found]
        for values, faint in ((found, ignore[0]), (relative, ignore[1])):
            for value, wanted in zip(values, mask, strict=True):
                if value <= faint and wanted <= faint:
                    value = 0.0
                y, p = clip(wanted), clip(value)
                bce = -(y * math.log(p) + (1 - y) * math.log(1 - p))
                total += bce / len(found) / len(maps)
    return total


def expected_of(attention, regions, layout, gain, ignore):
    h, w, _ = attention.shape
    maps = [attention[:, :, columns].sum(-1).flatten().tolist() for columns in regions]
    return slow_loss(maps, layout.masks((h, w)).flatten(1).tolist(), gain, ignore)


@pytest.mark.parametrize(
    ("gain", "ignore"), [(10.0, (0.01, 0.1)), (1.0, (0.0, 0.0)), (3.0, (0.2, 0.5))]
)
def test_loss_of_two_images_with_different_prompts(
    make_run, make_maps, make_step, cross, gain, ignore
):
    run = make_run("a red cat and an axe", "the axe and a red cat", layout=LAYOUT)
    guide = ZestGuide(gain=gain, ignore=ignore).guide(run)
    attention = cross(2, 6, 4)
    energy = guide.energy(make_step(0), make_maps(run, attention))
    # "an" is two letters here: a 1 red 2 cat 3 and 4 a 5 n 6 a 7 x 8 e 9; the 1 a 2 x 3 e 4 ...
    first = expected_of(attention[0], [[2, 3], [7, 8, 9]], LAYOUT, gain, ignore)
    second = expected_of(attention[1], [[7, 8], [2, 3, 4]], LAYOUT, gain, ignore)
    torch.testing.assert_close(energy.loss, torch.tensor([first, second], dtype=torch.float64))
    alone = guide.energy(make_step(0), make_maps(run, attention[1:], images=[1]))
    torch.testing.assert_close(alone.loss, energy.loss[1:])


def test_step_rule_and_schedule(make_run, make_maps, make_step, cross):
    run = make_run("a red cat and an axe", layout=LAYOUT)
    guide = ZestGuide().guide(run)
    energy = guide.energy(make_step(3, noise=0.6), make_maps(run, cross(1, 6, 4)))
    assert energy.step_size == pytest.approx(0.3 * 0.6)
    assert (energy.rule, energy.when, energy.at_most) == ("max-abs", "after", 0)
    assert [i for i in range(50) if guide.guides(make_step(i))] == list(range(25))
    late = ZestGuide(stop=0.1).guide(run)
    assert [i for i in range(50) if late.guides(make_step(i))] == list(range(5))


def test_gradient_equals_finite_differences(make_run, make_maps, make_step, cross, check_gradient):
    run = make_run("a red cat and an axe", layout=LAYOUT)
    guide = ZestGuide(gain=1.0, ignore=(0.0, 0.0)).guide(run)

    def loss(logits):
        return guide.energy(make_step(0), make_maps(run, logits.softmax(-1))).loss.sum()

    check_gradient(loss, cross(1, 6, 4).log())


def test_agreement_costs_least(make_run):
    masks = LAYOUT.masks((8, 8)).double()
    assert disagreement(masks, masks) < 0.02
    assert disagreement(masks.flip(2), masks) > 1
    # A map right in shape but faint costs in the first term only.
    faint = disagreement(0.01 * masks, masks).item()
    area = masks.mean().item()
    assert faint == pytest.approx(-area * math.log(0.01), rel=0.1)


def test_descent_fills_the_mask(make_run, make_maps, make_step, cross):
    run = make_run("a red cat and an axe", layout=LAYOUT)
    guide = ZestGuide().guide(run)
    logits = cross(1, 8, 8).log()
    for _ in range(60):
        logits.requires_grad_(True)
        energy = guide.energy(make_step(0), make_maps(run, logits.softmax(-1)))
        (gradient,) = torch.autograd.grad(energy.loss.sum(), [logits])
        logits = (logits - energy.step_size * gradient / gradient.abs().max()).detach()
    inside = LAYOUT.masks((8, 8))[0] > 0.5

    def contrast(attention):
        found = attention[0, :, :, [2, 3]].sum(-1)
        return found[inside].mean() / found[~inside].mean()

    assert contrast(cross(1, 8, 8)) < 2
    assert contrast(logits.softmax(-1)) > 5


def test_bad_input(make_run):
    with pytest.raises(LayoutError, match="no layout"):
        ZestGuide().guide(make_run("a cat"))
    with pytest.raises(LayoutError, match="dog"):
        ZestGuide(Layout((Region("dog", box=(0, 0, 1, 1)),))).guide(make_run("a cat"))
    with pytest.raises(ParameterError, match="stop"):
        ZestGuide(stop=1.5)


def test_the_family_says_what_the_start_token_takes(make_run, make_maps, make_step, cross):
    run = make_run("a red cat and an axe", layout=LAYOUT)
    maps = make_maps(run, cross(1, 6, 4))
    for gain in (1.0, 10.0):
        left_out = ZestGuide().guide(run).energy(make_step(0), replace(maps, gain=gain))
        given = ZestGuide(gain=gain).guide(run).energy(make_step(0), maps)
        torch.testing.assert_close(left_out.loss, given.loss)
    one, ten = (ZestGuide(gain=g).guide(run).energy(make_step(0), maps).loss for g in (1, 10))
    assert not torch.allclose(one, ten)

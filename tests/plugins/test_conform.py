"""CONFORM against NT-Xent written out pair by pair, and its two views."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from adhere.errors import PromptError
from adhere.plugins.bind.conform import Conform, contrast
from adhere.plugins.mathematics.attention import decayed

# a 1 red 2 cat 3 and 4 a 5 dog 6; the 1 a 2 x 3 e 4 and 5 a 6 blue 7 green 8 frog 9
PROMPTS = ("a [red|cat] and a [dog]", "the [axe] and a [blue green|frog]")
GROUPS = ([[3, 2], [6]], [[2, 3, 4], [9, 7, 8]])


def slow_contrast(samples, classes, temperature):
    def s(a, b):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.hypot(*a) / math.hypot(*b) / temperature

    losses = []
    for a, p in itertools.permutations(range(len(samples)), 2):
        if classes[a] != classes[p]:
            continue
        positive = math.exp(s(samples[a], samples[p]))
        negative = sum(
            math.exp(s(samples[a], samples[n]))
            for n in range(len(samples))
            if classes[n] != classes[a]
        )
        losses.append(-math.log(positive / (positive + negative)))
    return sum(losses) / len(losses)


def samples_of(attention, groups, slow_smooth):
    columns = [column for group in groups for column in group]
    planes = [slow_smooth(attention[:, :, column].tolist()) for column in columns]
    classes = [k for k, group in enumerate(groups) for _ in group]
    return [[value for row in plane for value in row] for plane in planes], classes


def test_loss_over_steps_of_two_images(make_run, make_maps, make_step, cross, slow_smooth):
    run = make_run(*PROMPTS)
    guide = Conform().guide(run)
    before: dict[int, list] = {}
    # Step 1 is seen twice, as in a refinement: the step before stays the same.
    for index, seed in ((0, 0), (1, 1), (1, 2), (2, 3)):
        attention = cross(2, 4, 3, seed)
        energy = guide.energy(make_step(index), make_maps(run, attention))
        for image in range(2):
            now, classes = samples_of(attention[image], GROUPS[image], slow_smooth)
            last = [old for old, at in before.get(image, []) if at < index]
            views = now + (last[-1] if last else [])
            expected = slow_contrast(views, classes * (2 if last else 1), 0.5)
            assert energy.loss[image].item() == pytest.approx(expected, abs=1e-8)
            before.setdefault(image, []).append((now, index))
    assert guide.report() == {"classes": [2, 2]}


def test_sub_batches_keep_their_own_views(make_run, make_maps, make_step, cross):
    run = make_run(*PROMPTS)
    whole, parts = Conform().guide(run), Conform().guide(run)
    for index in range(2):
        attention = cross(2, 4, 3, index)
        together = whole.energy(make_step(index), make_maps(run, attention)).loss
        alone = [
            parts.energy(make_step(index), make_maps(run, attention[i : i + 1], images=[i])).loss
            for i in (1, 0)
        ]
        torch.testing.assert_close(together, torch.cat(alone[::-1]))


def test_gradient_equals_finite_differences(make_run, make_maps, make_step, cross, check_gradient):
    run = make_run(*PROMPTS)

    def loss(logits):
        guide = Conform().guide(run)
        guide.energy(make_step(0), make_maps(run, cross(2, 4, 3, 5)))
        return guide.energy(make_step(1), make_maps(run, logits.softmax(-1))).loss.sum()

    check_gradient(loss, 0.3 * cross(2, 4, 3).log())


def test_published_schedule(make_run, make_maps, make_step, cross):
    run = make_run(*PROMPTS)
    guide = Conform().guide(run)
    assert [i for i in range(50) if guide.guides(make_step(i))] == list(range(30))
    for index in range(30):
        energy = guide.energy(make_step(index), make_maps(run, cross(2, 4, 3, index)))
        assert energy.step_size == pytest.approx(20 * decayed(make_step(index)))
        refines = index in (0, 10, 20)
        assert energy.at_most == (20 if refines else 0)
        if refines:
            assert (energy.loss > energy.target).all()


def test_nothing_to_contrast_is_no_energy(make_run, make_maps, make_step, cross):
    samples = torch.rand(3, 5, dtype=torch.float64)
    assert contrast(samples, [0, 0, 0], 0.5) == 0
    assert contrast(samples, [0, 1, 2], 0.5) == 0
    run = make_run("a [red|cat]")
    energy = Conform().guide(run).energy(make_step(0), make_maps(run, cross(1, 4, 3)))
    assert energy.loss == 0
    assert not energy.loss > energy.target
    assert "one noun" in run.notes[0]
    with pytest.raises(PromptError, match="no noun"):
        Conform().guide(make_run("and"))

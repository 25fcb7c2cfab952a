"""Divide & Bind against total variation and divergence written out cell by cell."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from adhere.errors import ParameterError
from adhere.guides.maps import Read
from adhere.plugins.appear.divide_and_bind import DivideAndBind
from adhere.plugins.mathematics.attention import decayed
from adhere.plugins.mathematics.variation import divergence

# a 1 red 2 cat 3 and 4 a 5 dog 6; the 1 a 2 x 3 e 4 and 5 a 6 blue 7 green 8 frog 9
PROMPTS = ("a [red|cat] and a [dog]", "the [axe] and a [blue green|frog]")
WORDS = ([([3], [[2]]), ([6], [])], [([2, 3, 4], []), ([9], [[7], [8]])])


def slow_variation(plane):
    h, w = len(plane), len(plane[0])
    across = [abs(plane[y][x + 1] - plane[y][x]) for y in range(h) for x in range(w - 1)]
    down = [abs(plane[y + 1][x] - plane[y][x]) for y in range(h - 1) for x in range(w)]
    return sum(across) / len(across) + sum(down) / len(down)


def slow_divergence(noun, modifier):
    a, b = list(itertools.chain(*noun)), list(itertools.chain(*modifier))
    b = [value / max(b) * max(a) for value in b]
    p = [math.exp(value) / sum(map(math.exp, a)) for value in a]
    q = [math.exp(value) / sum(map(math.exp, b)) for value in b]
    floor = (0.3 if slow_variation(noun) < 0.1 else 0.2) * max(p)
    total = 0.0
    for one, other in zip(p, q, strict=True):
        one, other = max(0, one - floor) + 1e-5, max(0, other - floor) + 1e-5
        middle = (one + other) / 2
        total += (one * math.log(one / middle) + other * math.log(other / middle)) / 2
    return total


def slow_loss(attention, words, beta, slow_spots):
    found = []
    for noun, modifiers in words:
        (spot,) = slow_spots(attention, [noun])
        loose = sum(slow_divergence(spot, slow_spots(attention, [m])[0]) for m in modifiers)
        found.append(beta * loose - slow_variation(spot))
    return max(found)


@pytest.mark.parametrize(("index", "beta"), [(3, 1), (10, 5), (24, 10)])
def test_loss_of_two_images(make_run, make_maps, make_step, cross, slow_spots, index, beta):
    run, attention = make_run(*PROMPTS), cross(2, 5, 4, index)
    guide = DivideAndBind(binding=0.5).guide(run)
    found = guide.energy(make_step(index), make_maps(run, attention)).loss
    expected = [slow_loss(attention[i], WORDS[i], 0.5 * beta, slow_spots) for i in range(2)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    alone = guide.energy(make_step(index), make_maps(run, attention[1:], images=[1])).loss
    torch.testing.assert_close(alone, found[1:])


@pytest.mark.parametrize("height", [0.05, 0.9])
def test_divergence_on_both_sides_of_the_floor(height):
    generator = torch.Generator().manual_seed(1)
    one, other = height * torch.rand(2, 4, 5, generator=generator, dtype=torch.float64)
    up = torch.tensor(slow_variation(one.tolist()), dtype=torch.float64)
    assert (up < 0.1) == (height < 0.1)
    expected = slow_divergence(one.tolist(), other.tolist())
    assert divergence(one, other, up).item() == pytest.approx(expected, rel=1e-9)
    assert divergence(one, 3 * one, up).item() == pytest.approx(0, abs=1e-12)


def test_gradient_equals_finite_differences(make_run, make_maps, make_step, cross, check_gradient):
    run = make_run(*PROMPTS)
    guide = DivideAndBind().guide(run)

    def loss(logits):
        return guide.energy(make_step(24), make_maps(run, logits.softmax(-1))).loss.sum()

    check_gradient(loss, 0.3 * cross(2, 4, 3).log())


def test_published_steps_and_refinements(make_run, make_maps, make_step, cross):
    run = make_run(*PROMPTS)
    guide = DivideAndBind().guide(run)
    assert [i for i in range(50) if guide.guides(make_step(i))] == list(range(25))
    for index in range(25):
        energy = guide.energy(make_step(index), make_maps(run, cross(2, 5, 4, index)))
        assert energy.step_size == pytest.approx(20 * decayed(make_step(index)))
        assert energy.at_most == (50 if index in (0, 10, 20) else 0)


def test_refinement_ends_with_the_smallest_variation(
    make_run, make_maps, make_step, cross, slow_spots
):
    run, attention = make_run(*PROMPTS), cross(2, 5, 4)
    least = [
        min(slow_variation(slow_spots(attention[i], [noun])[0]) for noun, _ in WORDS[i])
        for i in range(2)
    ]
    between = sum(least) / 2
    guide = DivideAndBind(refine_at=(0.0,), thresholds=(between,)).guide(run)
    energy = guide.energy(make_step(0), make_maps(run, attention))
    assert (energy.loss > energy.target).tolist() == [value < between for value in least]


def test_finer_layers_are_read_for_modifiers_only(make_run):
    assert Read("cross", "fine") in DivideAndBind().guide(make_run(*PROMPTS)).reads
    for guide in (
        DivideAndBind().guide(make_run("a cat and a dog")),
        DivideAndBind(binding=0).guide(make_run(*PROMPTS)),
    ):
        assert guide.reads == {Read("cross")}
    with pytest.raises(ParameterError, match="thresholds"):
        DivideAndBind(thresholds=(0.1,))

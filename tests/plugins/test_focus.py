"""FOCUS against its sums written out cell by cell, and its slope against finite differences."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from adhere.plugins.bind.focus import Focus, mixing, spread

# a 1 cat 2 and 3 a 4 x 5 e 6; frog 1 and 2 dog 3 and 4 a 5 cat 6
PROMPTS = ("a cat and axe", "frog and dog and a cat")
WORDS = ([[2], [4, 5, 6]], [[1], [3], [6]])


def slow_smooth(plane):
    """A Gaussian of standard deviation 1 over 3x3 cells, with reflected edges."""
    h, w = len(plane), len(plane[0])
    weight = {(v, u): math.exp(-(v * v + u * u) / 2) for v in (-1, 0, 1) for u in (-1, 0, 1)}
    total = sum(weight.values())

    def at(y, x):
        y, x = (abs(k) if k < n else 2 * (n - 1) - k for k, n in ((y, h), (x, w)))
        return plane[y][x]

    return [
        [sum(p * at(y + v, x + u) for (v, u), p in weight.items()) / total for x in range(w)]
        for y in range(h)
    ]


def slow_js(planes):
    flat = [[value**3 for row in plane for value in row] for plane in planes]
    flat = [[value / max(sum(one), 1e-10) for value in one] for one in flat]
    mean = [sum(values) / len(flat) for values in zip(*flat, strict=True)]
    kl = [
        sum(q * (math.log(q + 1e-10) - math.log(m + 1e-10)) for q, m in zip(one, mean, strict=True))
        for one in flat
    ]
    return sum(kl) / len(kl) / math.log(len(flat))


def slow_loss(attention, words):
    groups = [[slow_smooth(attention[:, :, c].tolist()) for c in columns] for columns in words]
    within = [slow_js(maps) for maps in groups if len(maps) > 1]
    means = [
        [[sum(m[y][x] for m in maps) / len(maps) for x in range(len(maps[0][0]))]
         for y in range(len(maps[0]))]
        for maps in groups
    ]  # fmt: skip
    apart = 1 - slow_js(means) if len(means) > 1 else 0.0
    return (sum(within) / max(1, len(within)) + apart) / 2


@pytest.mark.parametrize("seed", range(3))
def test_loss_of_two_images(make_run, make_maps, make_step, cross, seed):
    run, attention = make_run(*PROMPTS), cross(2, 6, 4, seed)
    energy = Focus().guide(run).energy(make_step(10), make_maps(run, attention))
    assert (energy.rule, energy.when, energy.at_most, energy.step_size) == (
        "velocity", "after", 0, 0.5
    )  # fmt: skip
    for image, words in enumerate(WORDS):
        assert float(energy.loss[image]) == pytest.approx(
            slow_loss(attention[image].double(), words), abs=1e-5
        )


def test_its_slope_is_that_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(5, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: mixing([x[:2], x[2:3], x[3:]]), (maps,))


def test_maps_alike_cost_nothing_within_and_all_apart():
    one = torch.rand(4, 4)
    assert float(spread(torch.stack([one, one]))) == pytest.approx(0, abs=1e-6)
    places = torch.eye(3).view(3, 1, 3)
    assert float(spread(places)) == pytest.approx(1, abs=1e-6)
    assert float(mixing([places[:1], places[1:2]])) == pytest.approx(0, abs=1e-6)
    assert float(mixing([one[None], one[None]])) == pytest.approx(0.5, abs=1e-6)
    for other in itertools.permutations(range(3)):
        assert float(spread(places[list(other)])) == pytest.approx(1, abs=1e-6)


def test_one_subject_of_one_token_costs_nothing(make_run, make_maps, make_step, cross):
    run = make_run("a cat")
    energy = Focus().guide(run).energy(make_step(0), make_maps(run, cross(1, 4, 4, 0)))
    assert float(energy.loss) == 0

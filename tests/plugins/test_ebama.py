"""EBAMA against its three terms written out word by word."""

from __future__ import annotations

import math

import pytest
import torch

from adhere.errors import PromptError
from adhere.plugins.bind.ebama import Ebama

# a 1 red 2 cat 3 and 4 a 5 dog 6; the 1 a 2 x 3 e 4 and 5 a 6 blue 7 green 8 frog 9
PROMPTS = ("a [red|cat] and a [dog]", "the [axe] and a [blue green|frog]")
WORDS = (
    [([3], [[2]]), ([6], [])],
    [([2, 3, 4], []), ([9], [[7], [8]])],
)
LENGTHS = (6, 9)


def slow_distance(a, b):
    a, b = a.flatten().tolist(), b.flatten().tolist()
    p, q = [x / sum(a) for x in a], [x / sum(b) for x in b]
    one = sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))
    return (one + sum(y * math.log(y / x) for x, y in zip(p, q, strict=True))) / 2


def slow_cosine(a, b):
    a, b = a.flatten().tolist(), b.flatten().tolist()
    return 1 - sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


SLOW = {"divergence": slow_distance, "cosine": slow_cosine}


def slow_loss(attention, words, length, spots, raising, distance):
    total = -raising * sum(max(map(max, plane)) for plane in spots)

    def d(one, other):
        return SLOW[distance](attention[:, :, one], attention[:, :, other])

    for noun, modifiers in words:
        inside = {*noun, *(column for modifier in modifiers for column in modifier)}
        outside = [column for column in range(1, length + 1) if column not in inside]
        far = sum(max(d(piece, u) for piece in noun) for u in outside) / len(outside)
        # The published loss pushes a noun away once for each of its modifiers.
        for modifier in modifiers:
            total += max(d(piece, other) for piece in noun for other in modifier) - far
        if not modifiers:
            total -= far
    return total


@pytest.mark.parametrize("distance", SLOW)
@pytest.mark.parametrize("raising", [0.5, 0.0])
def test_loss_of_two_images_with_different_prompts(
    make_run, make_maps, make_step, cross, slow_spots, raising, distance
):
    run = make_run(*PROMPTS)
    attention = cross(2, 4, 3)
    guide = Ebama(raising=raising, distance=distance).guide(run)
    energy = guide.energy(make_step(0), make_maps(run, attention))
    for image in range(2):
        spots = slow_spots(attention[image], [noun for noun, _ in WORDS[image]])
        expected = slow_loss(
            attention[image], WORDS[image], LENGTHS[image], spots, raising, distance
        )
        assert energy.loss[image].item() == pytest.approx(expected, abs=1e-9)
    alone = guide.energy(make_step(0), make_maps(run, attention[1:], images=[1]))
    torch.testing.assert_close(alone.loss, energy.loss[1:])


def test_gradient_equals_finite_differences(make_run, make_maps, make_step, cross, check_gradient):
    run = make_run(*PROMPTS)
    guide = Ebama().guide(run)

    def loss(logits):
        return guide.energy(make_step(0), make_maps(run, logits.softmax(-1))).loss.sum()

    check_gradient(loss, 0.5 * cross(2, 4, 3).log())


def test_it_acts_in_half_of_the_steps_alike(make_run, make_maps, make_step, cross):
    run = make_run(*PROMPTS)
    guide = Ebama().guide(run)
    assert Ebama().distance == "cosine"
    assert [i for i in range(50) if guide.guides(make_step(i))] == list(range(25))
    energy = guide.energy(make_step(24), make_maps(run, cross(2, 4, 3)))
    assert (energy.step_size, energy.rule, energy.when, energy.at_most) == (
        20,
        "plain",
        "before",
        0,
    )
    with pytest.raises(PromptError, match="no noun"):
        Ebama().guide(make_run("and"))

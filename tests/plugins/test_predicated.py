"""Predicated Diffusion against its propositions written out cell by cell."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from adhere.errors import ParameterError, PromptError
from adhere.plugins.bind.predicated import Predicated, exists, implies
from adhere.plugins.mathematics.attention import decayed

# a 1 red 2 cat 3 and 4 a 5 green 6 dog 7; the 1 a 2 x 3 e 4 and 5 a 6 blue 7 green 8 frog 9
PROMPTS = ("a [red|cat] and a [green|dog]", "the [axe] and a [blue green|frog]")
WORDS = ([([3], [[2]]), ([7], [[6]])], [([2, 3, 4], []), ([9], [[7], [8]])])


def truth(attention, columns):
    """A word's attention from 0 to 1, as a list."""
    values = attention[:, :, columns].sum(-1).flatten().tolist()
    return [(value - min(values)) / (max(values) - min(values)) for value in values]


def slow_exists(attention, columns):
    best = None
    for column in columns:
        shares = (100 * attention[:, :, 1:-1]).softmax(-1)[:, :, column - 1].flatten().tolist()
        if best is None or max(shares) > max(best):
            best = shares
    absent = math.prod(max(1e-4, 1 - value) for value in best) ** (1 / len(best))
    return -math.log(1 - absent + 1e-4)


def slow_implies(one, other):
    values = [-math.log(1 - p * (1 - q) + 1e-4) for p, q in zip(one, other, strict=True)]
    return sum(values) / len(values)


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def slow_loss(attention, words, presence=0.1, apart=0.3, had=()):
    true = [(truth(attention, n), [truth(attention, m) for m in own]) for n, own in words]
    total = presence * mean(slow_exists(attention, noun) for noun, _ in words)
    total += mean(slow_implies(n, m) + slow_implies(m, n) for n, own in true for m in own)
    total += apart * mean(
        slow_implies(m, [1 - value for value in n])
        for (n, _), (_, own) in itertools.permutations(true, 2)
        for m in own
    )
    return total + mean(
        slow_implies(truth(attention, thing), truth(attention, holder)) for holder, thing in had
    )


@pytest.mark.parametrize("settings", [{}, {"presence": 2.0, "apart": 0.0}])
def test_loss_of_two_images(make_run, make_maps, make_step, cross, settings):
    run, attention = make_run(*PROMPTS), cross(2, 5, 4)
    guide = Predicated(**settings).guide(run)
    found = guide.energy(make_step(3), make_maps(run, attention)).loss
    expected = [slow_loss(attention[i], WORDS[i], **settings) for i in range(2)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    alone = guide.energy(make_step(3), make_maps(run, attention[1:], images=[1])).loss
    torch.testing.assert_close(alone, found[1:])


def test_possession(make_run, make_maps, make_step, cross):
    run, attention = make_run(PROMPTS[0]), cross(1, 5, 4)
    guide = Predicated(possessions=("dog > cat",)).guide(run)
    found = guide.energy(make_step(3), make_maps(run, attention)).loss.item()
    expected = slow_loss(attention[0], WORDS[0], had=[([7], [3])])
    assert found == pytest.approx(expected, rel=1e-9)
    with pytest.raises(PromptError, match="bird"):
        Predicated(possessions=("dog>bird",)).guide(run)
    for text in ("dog", "dog>", "a>b>c"):
        with pytest.raises(ParameterError, match="holder>thing"):
            Predicated(possessions=(text,))


def test_a_statement_that_holds_costs_nothing_and_one_that_fails_stays_finite():
    here, there = torch.eye(4, dtype=torch.float64), 1 - torch.eye(4, dtype=torch.float64)
    assert implies(here, here).item() == pytest.approx(0, abs=2e-4)
    assert implies(here, there).item() == pytest.approx(-math.log(1e-4) / 4, rel=1e-3)
    assert exists(torch.ones(4, 4)) < 1e-3
    nowhere = torch.zeros(4, 4, requires_grad=True)
    (slope,) = torch.autograd.grad(exists(nowhere), nowhere)
    assert torch.isfinite(slope).all()
    assert (slope < 0).all()


def test_gradient_equals_finite_differences(make_run, make_maps, make_step, cross, check_gradient):
    run = make_run(*PROMPTS)
    guide = Predicated().guide(run)

    def loss(logits):
        return guide.energy(make_step(3), make_maps(run, logits.softmax(-1))).loss.sum()

    check_gradient(loss, 0.3 * cross(2, 4, 3).log())


def test_published_steps(make_run, make_maps, make_step, cross):
    run = make_run(*PROMPTS)
    guide = Predicated().guide(run)
    assert [i for i in range(50) if guide.guides(make_step(i))] == list(range(25))
    energy = guide.energy(make_step(7), make_maps(run, cross(2, 4, 3)))
    assert energy.step_size == pytest.approx(20 * decayed(make_step(7)))
    assert energy.at_most == 0

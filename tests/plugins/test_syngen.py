"""SynGen against the sums of its paper written out one by one."""

from __future__ import annotations

import math

import pytest
import torch

from adhere.errors import PromptError
from adhere.plugins.bind.syngen import SynGen
from adhere.plugins.mathematics.attention import divergences


def slow_distance(a, b):
    a, b = a.flatten().tolist(), b.flatten().tolist()
    p, q = [x / sum(a) for x in a], [x / sum(b) for x in b]
    kl_pq = sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))
    kl_qp = sum(y * math.log(y / x) for x, y in zip(p, q, strict=True))
    return (kl_pq + kl_qp) / 2


def slow_loss(attention, subtrees, prompt_columns):
    """attention: h w tokens; subtrees: (noun pieces, [modifier pieces, ...])."""
    total = 0.0
    for noun, modifiers in subtrees:
        inside = set(noun) | {c for modifier in modifiers for c in modifier}
        outside = [c for c in prompt_columns if c not in inside]

        def d(u, v):
            return slow_distance(attention[:, :, u], attention[:, :, v])

        for modifier in modifiers:
            total += max(d(n, m) for n in noun for m in modifier)
            for word in (noun, modifier):
                far = sum(max(d(piece, u) for piece in word) for u in outside)
                total -= far / len(outside) / 2
    return total


def test_distances_are_symmetric_divergences(cross):
    maps = cross(1, 3, 5)[0]
    found = divergences(maps[:, :, :4], maps[:, :, 2:8])
    for i in range(4):
        for j in range(6):
            expected = slow_distance(maps[:, :, i], maps[:, :, 2 + j])
            assert found[i, j].item() == pytest.approx(expected, abs=1e-12)
    assert found[2, 0] == 0


def test_loss_of_two_images_with_different_prompts(make_run, make_maps, make_step, cross):
    # Columns: a 1 red 2 cat 3 and 4 a 5 blue 6 green 7 dog 8; a 1 red 2 axe 3 4 5 on 6 the 7 car 8.
    run = make_run("a [red|cat] and a [blue green|dog]", "a [red|axe] on the [car]")
    guide = SynGen().guide(run)
    attention = cross(2, 4, 3)
    energy = guide.energy(make_step(0), make_maps(run, attention))
    first = slow_loss(attention[0], [([3], [[2]]), ([8], [[6], [7]])], range(1, 9))
    second = slow_loss(attention[1], [([3, 4, 5], [[2]])], range(1, 9))
    torch.testing.assert_close(energy.loss, torch.tensor([first, second], dtype=torch.float64))
    assert (energy.step_size, energy.rule, energy.when) == (20.0, "plain", "before")
    assert guide.report() == {"pairs": [3, 1]}
    # Refinement and sub-batches show fewer images; each keeps its own prompt.
    alone = guide.energy(make_step(0), make_maps(run, attention[1:], images=[1]))
    torch.testing.assert_close(alone.loss, energy.loss[1:])


def test_against_entities_leaves_function_words_out(make_run, make_maps, make_step, cross):
    run = make_run("a photo of a [red|cat] and a [blue|dog]")
    attention = cross(1, 4, 3)
    guide = SynGen(against="entities").guide(run)
    found = guide.energy(make_step(0), make_maps(run, attention)).loss.item()
    subtrees = [([6], [[5]]), ([10], [[9]])]
    expected = slow_loss(attention[0], subtrees, [5, 6, 9, 10])
    assert found == pytest.approx(expected, abs=1e-10)
    assert found != pytest.approx(slow_loss(attention[0], subtrees, range(1, 11)), abs=1e-3)


def test_subjects_restrict_what_is_bound(make_run, make_maps, make_step, cross):
    run = make_run("a [red|cat] and a [blue|dog]")
    attention = cross(1, 4, 3)
    guide = SynGen(subjects=("dog",)).guide(run)
    found = guide.energy(make_step(0), make_maps(run, attention)).loss.item()
    expected = slow_loss(attention[0], [([7], [[6]])], range(1, 8))
    assert found == pytest.approx(expected, abs=1e-10)


def test_gradient_equals_finite_differences(make_run, make_maps, make_step, cross, check_gradient):
    run = make_run("a [red|cat] and a [blue|axe]")
    guide = SynGen().guide(run)

    def loss(logits):
        return guide.energy(make_step(0), make_maps(run, logits.softmax(-1))).loss.sum()

    check_gradient(loss, cross(1, 4, 3).log())


def test_a_step_downhill_binds(make_run, make_maps, make_step, cross):
    """The modifier's map comes nearer to its noun's than to the other noun's."""
    run = make_run("a [red|cat] and a [blue|dog]")
    guide = SynGen().guide(run)
    logits = cross(1, 4, 3).log().requires_grad_(True)
    for _ in range(50):
        loss = guide.energy(make_step(0), make_maps(run, logits.softmax(-1))).loss.sum()
        (gradient,) = torch.autograd.grad(loss, [logits])
        logits = (logits - 0.3 * gradient).detach().requires_grad_(True)
    maps = logits.softmax(-1)[0]
    apart = divergences(maps[:, :, [2, 6]], maps[:, :, [3, 7]])
    assert apart[0, 0] < apart[0, 1] / 10
    assert apart[1, 1] < apart[1, 0] / 10


def test_a_map_without_mass_stays_finite(make_run, make_maps, make_step, cross):
    run = make_run("a [red|cat]")
    attention = cross(1, 4, 3, dtype=torch.float32)
    attention[..., 2] = 0.0
    attention.requires_grad_(True)
    loss = SynGen().guide(run).energy(make_step(0), make_maps(run, attention)).loss.sum()
    (gradient,) = torch.autograd.grad(loss, [attention])
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


def test_schedule_and_prompts_without_pairs(make_run, make_maps, make_step, cross):
    run = make_run("a [red|cat]")
    guide = SynGen().guide(run)
    assert [i for i in range(50) if guide.guides(make_step(i))] == list(range(25))
    assert not SynGen(step_size=0.0).guide(run).guides(make_step(0))
    plain = make_run("a cat and a dog")
    guide = SynGen().guide(plain)
    assert not guide.guides(make_step(0))
    assert "no noun has a modifier" in plain.notes[0]
    mixed = make_run("a cat", "a [red|cat]")
    energy = SynGen().guide(mixed).energy(make_step(0), make_maps(mixed, cross(2, 4, 3)))
    assert energy.loss[0] == 0
    assert energy.loss[1] != 0


def test_a_prompt_without_a_noun_is_refused(make_run):
    with pytest.raises(PromptError, match="no noun"):
        SynGen().guide(make_run("and"))

"""Attend-and-Excite against its softmax, kernel and maximum written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from adhere.errors import ParameterError, PromptError
from adhere.plugins.appear.attend_and_excite import AttendAndExcite

# a 1 cat 2 and 3 a 4 x 5 e 6: the pieces of "axe" are three
PROMPTS = ("a cat and axe", "frog and dog and a cat")
WORDS = ([[2], [4, 5, 6]], [[1], [3], [6]])


def slow_neglect(spots):
    return max(max(0.0, 1 - max(map(max, plane))) for plane in spots)


@pytest.mark.parametrize("seed", range(3))
def test_loss_of_two_images_with_different_prompts(
    make_run, make_maps, make_step, cross, slow_spots, seed
):
    run = make_run(*PROMPTS)
    attention = cross(2, 5, 4, seed)
    guide = AttendAndExcite().guide(run)
    energy = guide.energy(make_step(3), make_maps(run, attention))
    expected = [slow_neglect(slow_spots(attention[i], WORDS[i])) for i in range(2)]
    torch.testing.assert_close(energy.loss, torch.tensor(expected, dtype=torch.float64))
    alone = guide.energy(make_step(3), make_maps(run, attention[1:], images=[1]))
    torch.testing.assert_close(alone.loss, energy.loss[1:])


def test_columns_left_out_of_the_softmax(make_run, make_maps, make_step, cross, slow_spots):
    """SD 2.x leaves end and padding out; the other columns then share all of the attention."""
    run = make_run(PROMPTS[0])
    attention = cross(1, 5, 4)
    maps = make_maps(run, attention)
    keep = torch.zeros_like(maps.keep)
    keep[0, 1:7] = True
    found = AttendAndExcite().guide(run).energy(make_step(3), replace(maps, keep=keep)).loss
    expected = slow_neglect(slow_spots(attention[0], WORDS[0], range(1, 7)))
    assert found.item() == pytest.approx(expected, abs=1e-10)


def test_subjects_named_by_the_user(make_run, make_maps, make_step, cross, slow_spots):
    run = make_run("frog and cat and cat")
    attention = cross(1, 5, 4)
    guide = AttendAndExcite(subjects=("cat#2",)).guide(run)
    found = guide.energy(make_step(3), make_maps(run, attention)).loss.item()
    assert found == pytest.approx(slow_neglect(slow_spots(attention[0], [[5]])), abs=1e-10)
    with pytest.raises(PromptError, match="dog"):
        AttendAndExcite(subjects=("dog",)).guide(run)


def test_published_step_sizes_and_refinements(make_run, make_maps, make_step, cross):
    run = make_run(*PROMPTS)
    maps = make_maps(run, cross(2, 5, 4))
    guide = AttendAndExcite().guide(run)
    sizes = 20 * np.sqrt(np.linspace(1, 0.5, 50))
    targets = {0: 0.95, 10: 0.5, 20: 0.2}
    for i in range(50):
        assert guide.guides(make_step(i)) == (i < 25)
        energy = guide.energy(make_step(i), maps)
        assert energy.step_size == pytest.approx(sizes[i])
        assert (energy.rule, energy.when) == ("plain", "before")
        if i in targets:
            assert energy.target == pytest.approx(targets[i])
            assert energy.at_most == 20
        else:
            assert energy.target is None
            assert energy.at_most == 0
    plain = AttendAndExcite(refinements=0).guide(run).energy(make_step(0), maps)
    assert plain.at_most == 0
    late = AttendAndExcite(refine_at=(0.06, 0.8), thresholds=(0.9, 0.9), stop=0.1).guide(run)
    assert [i for i in range(50) if late.guides(make_step(i))] == list(range(5))
    assert late.energy(make_step(3), maps).at_most == 20


def test_gradient_equals_finite_differences(make_run, make_maps, make_step, cross, check_gradient):
    run = make_run(*PROMPTS)
    guide = AttendAndExcite(temperature=20.0).guide(run)

    def loss(logits):
        return guide.energy(make_step(3), make_maps(run, logits.softmax(-1))).loss.sum()

    check_gradient(loss, cross(2, 5, 4).log())


def test_one_threshold_for_each_refinement():
    with pytest.raises(ParameterError, match="one threshold for each"):
        AttendAndExcite(refine_at=(0.0, 0.2))

"""Self-Cross guidance against its sums written out cell by cell."""

from __future__ import annotations

import itertools

import pytest
import torch

from adhere.plugins.bind.self_cross import SelfCross, crossing
from adhere.plugins.mathematics.attention import decayed
from adhere.plugins.mathematics.noise import clean, otsu

# a 1 cat 2 and 3 a 4 x 5 e 6; frog 1 and 2 dog 3 and 4 a 5 cat 6
PROMPTS = ("a cat and axe", "frog and dog and a cat")
WORDS = ([[2], [4, 5, 6]], [[1], [3], [6]])


def slow_crossing(own, planes, slow_smooth):
    h, w = len(planes[0]), len(planes[0][0])
    cells = list(itertools.product(range(h), range(w)))
    looks = []
    for plane in planes:
        least = float(otsu(torch.tensor([plane], dtype=torch.float64))[0])
        look = {cell: 0.0 for cell in cells}
        for y, x in cells:
            if plane[y][x] < least:
                continue
            row = slow_smooth(own[y, x].tolist())
            for v, u in cells:
                look[v, u] += plane[y][x] * row[v][u]
        looks.append({cell: value / sum(look.values()) for cell, value in look.items()})
    if h > 16:
        planes = [[[v / sum(map(sum, p)) for v in row] for row in p] for p in planes]
    pairs = [
        sum(min(looks[s][y, x], planes[r][y][x]) for y, x in cells)
        for s, r in itertools.permutations(range(len(planes)), 2)
    ]
    return sum(pairs) / len(pairs)


def slow_loss(attention, own, words, slow_spots, slow_smooth):
    planes = slow_spots(attention, words)
    found = max(max(0.0, 1 - max(map(max, plane))) for plane in planes)
    messy = clean([torch.tensor(planes, dtype=torch.float64)]).item()
    pairs = slow_crossing(own, planes, slow_smooth) if found <= 0.5 else 0.0
    return found + 0.1 * messy + pairs, found, pairs


@pytest.mark.parametrize("seed", range(4))
def test_loss_and_target_of_two_images(
    make_run, make_maps, make_step, cross, own, slow_spots, slow_smooth, seed
):
    run = make_run(*PROMPTS)
    attention, looks = cross(2, 6, 4, seed), own(2, 6, 4, seed)
    if seed % 2:  # every subject has its place
        for image, words in enumerate(WORDS):
            for k, columns in enumerate(words):
                attention[image, 2 * k : 2 * k + 2, :, columns[0]] += 0.7
    energy = SelfCross().guide(run).energy(make_step(10), make_maps(run, attention, looks))
    for i in range(2):
        loss, found, pairs = slow_loss(attention[i], looks[i], WORDS[i], slow_spots, slow_smooth)
        assert energy.loss[i].item() == pytest.approx(loss, abs=1e-9)
        assert (pairs > 0) == (seed % 2 == 1)
        assert bool(energy.loss[i] > energy.target[i]) == (found > 0.2 or pairs > 0.3)
    alone = SelfCross().guide(run)
    one = alone.energy(make_step(10), make_maps(run, attention[1:], looks[1:], images=[1]))
    torch.testing.assert_close(one.loss, energy.loss[1:])


def test_fine_grids_scale_the_words_maps(own, slow_smooth):
    generator = torch.Generator().manual_seed(0)
    spots = torch.rand(2, 17, 3, generator=generator, dtype=torch.float64)
    looks = own(1, 17, 3)[0]
    expected = slow_crossing(looks, spots.tolist(), slow_smooth)
    assert crossing(looks, spots).item() == pytest.approx(expected, rel=1e-9)
    assert crossing(looks, spots[:1]) == 0


def test_gradient_equals_finite_differences(
    make_run, make_maps, make_step, cross, own, check_gradient
):
    run = make_run(*PROMPTS)
    guide = SelfCross().guide(run)
    base = 0.3 * cross(2, 4, 3).log()
    for image, words in enumerate(WORDS):  # no subject is hopeless
        for k, columns in enumerate(words):
            base[image, k, 0, columns[0]] += 4.0

    def loss(x):
        size = base.numel()
        maps = make_maps(
            run,
            x[:size].view_as(base).softmax(-1),
            x[size:].view(2, 4, 3, 12).softmax(-1).unflatten(-1, (4, 3)),
        )
        return guide.energy(make_step(3), maps).loss.sum()

    check_gradient(loss, torch.cat([base.flatten(), own(2, 4, 3).log().flatten()]), 24)


def test_published_steps(make_run, make_maps, make_step, cross, own):
    run = make_run(*PROMPTS)
    guide = SelfCross().guide(run)
    assert [i for i in range(50) if guide.guides(make_step(i))] == list(range(25))
    for index in range(25):
        energy = guide.energy(make_step(index), make_maps(run, cross(2, 4, 3), own(2, 4, 3)))
        assert energy.step_size == pytest.approx(20 * decayed(make_step(index)))
        assert energy.at_most == (20 if index in (10, 20) else 0)


def test_one_subject_alone_is_told(make_run):
    run = make_run("a cat")
    SelfCross().guide(run)
    assert any("keeps nothing apart in 'a cat'" in note for note in run.notes)

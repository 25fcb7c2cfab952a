"""The scores of the first pass against loops, and the choice among noises."""

from __future__ import annotations

import itertools

import pytest
import torch

from adhere.plugins.mathematics.noise import (
    Scores,
    clean,
    conflict,
    main_peak,
    otsu,
    scores,
    subject_maps,
)
from adhere.plugins.noise.best_of_noise import BestOfNoise

# a 1 cat 2 and 3 a 4 x 5 e 6 ("axe" is three pieces, the last word counts as a whole)
PROMPTS = ("a cat and axe", "frog and dog and a cat")


def peak(plane):
    best = max(map(max, plane))
    return next(
        (y, x) for y in range(len(plane)) for x in range(len(plane[0])) if plane[y][x] == best
    )


def slow_conflict(own, spots, slow_smooth):
    places = []
    for plane in spots:
        y, x = peak(plane)
        places.append(slow_smooth(own[y][x].tolist()))
    overlaps = []
    for one, other in itertools.combinations(places, 2):
        pairs = list(zip(itertools.chain(*one), itertools.chain(*other), strict=True))
        overlaps.append(sum(map(min, pairs)) / (sum(map(sum, pairs)) + 1e-6))
    return sum(overlaps) / len(overlaps)


def slow_response(spots):
    return max(max(0.0, 1 - max(map(max, plane))) for plane in spots)


def slow_otsu(plane):
    levels = [min(255, int(value * 255)) for row in plane for value in row]
    best, chosen = 0.0, 0
    for level in range(256):
        low = [v for v in levels if v <= level]
        high = [v for v in levels if v > level]
        if not low or not high:
            continue
        q = len(low) / len(levels)
        between = q * (1 - q) * (sum(low) / len(low) - sum(high) / len(high)) ** 2
        if between > best * (1 + 1e-12):
            best, chosen = between, level
    return chosen / 255


def slow_main(plane):
    h, w, threshold = len(plane), len(plane[0]), slow_otsu(plane)
    open_, main = [peak(plane)], set()
    while open_:
        y, x = open_.pop()
        if 0 <= y < h and 0 <= x < w and (y, x) not in main and plane[y][x] >= threshold:
            main.add((y, x))
            open_ += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    return main


def slow_clean(spots):
    total = 0.0
    for plane in spots:
        main = slow_main(plane)
        cells = list(itertools.product(range(len(plane)), range(len(plane[0]))))
        beside = max([plane[y][x] for y, x in cells if (y, x) not in main], default=0.0)
        lowest = min(plane[y][x] for y, x in main)
        total += beside if beside > lowest else 0.0
    return total


WORDS = ([[2], [4, 5, 6]], [[1], [3], [6]])


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_two_images_with_different_prompts(
    make_run, make_maps, cross, own, slow_spots, slow_smooth, seed
):
    run = make_run(*PROMPTS, subjects=None)
    attention, mine = cross(2, 5, 4, seed), own(2, 5, 4, seed)
    maps = make_maps(run, attention, mine)
    subjects = run.subjects()
    assert [[word.head[0] for word in image] for image in subjects] == [
        [tuple(pieces) for pieces in image] for image in WORDS
    ]
    spots = subject_maps(maps, subjects)
    found = scores(maps, spots)
    for image in range(2):
        slow = slow_spots(attention[image], WORDS[image])
        torch.testing.assert_close(spots[image], torch.tensor(slow, dtype=torch.float64))
        assert found.response[image].item() == pytest.approx(slow_response(slow), abs=1e-10)
        expected = slow_conflict(mine[image], slow, slow_smooth)
        assert found.conflict[image].item() == pytest.approx(expected, abs=1e-9)
        assert clean(spots)[image].item() == pytest.approx(slow_clean(slow), abs=1e-10)


@pytest.mark.parametrize("seed", range(6))
def test_otsu_and_the_main_peak(seed):
    generator = torch.Generator().manual_seed(seed)
    spots = torch.rand(4, 9, 7, generator=generator, dtype=torch.float64) ** (1 + seed % 3)
    # A winding corridor, a flat map.
    spots[2] = 0.1
    spots[2, ::2] = 0.9
    spots[2, 1, 0] = spots[2, 3, 6] = spots[2, 5, 0] = 0.9
    spots[3] = 0.25
    thresholds, main = otsu(spots), main_peak(spots)
    for k in range(4):
        plane = spots[k].tolist()
        assert thresholds[k].item() == pytest.approx(slow_otsu(plane))
        found = {(y, x) for y, x in main[k].nonzero().tolist()}
        assert found == slow_main(plane)


def test_conflict_of_one_subject_is_nothing(own):
    spots = torch.rand(1, 4, 4, dtype=torch.float64)
    assert conflict(own(1, 4, 4)[0], spots) == 0


def test_conflict_of_equal_places_is_a_half(own):
    mine = own(1, 4, 4)[0]
    spots = torch.rand(1, 4, 4, dtype=torch.float64).repeat(3, 1, 1)
    assert conflict(mine, spots).item() == pytest.approx(0.5, abs=1e-5)


def test_rank_leaves_the_conflict_of_the_hopeless_out():
    found = Scores(torch.tensor([0.1, 0.6, 0.2]), torch.tensor([0.3, 0.2, 0.0])).rank()
    torch.testing.assert_close(found, torch.tensor([0.4, 1.6, 1.2]))


def test_the_best_candidate_of_every_image_is_kept(make_run, make_look, slow_spots, slow_smooth):
    run = make_run(*PROMPTS)
    look, noise = make_look(run)
    guide = BestOfNoise(candidates=5).guide(run)
    chosen = guide.initial(noise, look)
    tried = [noise, *(look.fresh((0, 1), draw) for draw in range(1, 5))]
    places = []
    for image in range(2):
        ranks = []
        for one in tried:
            maps = look(one[image : image + 1], (image,))
            spots = slow_spots(maps.cross()[0], WORDS[image])
            first, second = slow_response(spots), slow_conflict(maps.self()[0], spots, slow_smooth)
            second = 0.0 if first > 0.5 else second
            ranks.append(first + second + (1 if second <= 1e-6 else 0))
        places.append(ranks.index(min(ranks)))
        torch.testing.assert_close(chosen[image], tried[places[-1]][image])
        assert guide.report()["ranks"][image] == pytest.approx(ranks, abs=1e-9)
    assert guide.report()["chosen"] == places
    assert any(places), "the first candidate won twice, so nothing was chosen"


def test_candidates_together_choose_the_same(make_run, make_look):
    run = make_run(*PROMPTS)
    look, noise = make_look(run)
    one = BestOfNoise(candidates=7).guide(run).initial(noise, look)
    for together in (3, 10):
        many = BestOfNoise(candidates=7, together=together).guide(run).initial(noise, look)
        assert torch.equal(one, many)


def test_it_takes_no_part_in_the_steps(make_run, make_step):
    guide = BestOfNoise().guide(make_run(*PROMPTS))
    assert not any(guide.guides(make_step(i)) for i in range(50))

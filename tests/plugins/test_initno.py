"""InitNO: its Adam against PyTorch's, its divergence bound, its caps, and the guided phase."""

from __future__ import annotations

import pytest
import torch

from adhere.plugins.mathematics.attention import decayed
from adhere.plugins.mathematics.noise import clean, scores, subject_maps
from adhere.plugins.mathematics.noise_search import drawn_back
from adhere.plugins.noise.initno import InitNO

PROMPTS = ("a cat and axe", "frog and dog and a cat")
NEVER = {"response": 0.0, "conflict": 0.0}


def joint_and_rank(run, look, z, image):
    maps = look(z, (image,))
    spots = subject_maps(maps, run.subjects())
    found = scores(maps, spots)
    return (found.response + found.weighed() + clean(spots)).sum(), found.rank().item()


def divergence(mu, v):
    return -0.5 * (1 + v - mu**2 - v.exp()).mean()


def slow_round(run, look, start, image, passes):
    """PyTorch's Adam on mu and v, without the bound; gives what it saw, best first."""
    mu, v = torch.zeros_like(start), torch.zeros_like(start)
    mu.requires_grad_(True)
    v.requires_grad_(True)
    adam = torch.optim.Adam([mu, v], lr=0.01, eps=1e-3)
    seen = []
    for _ in range(passes):
        z = start * torch.exp(0.5 * v) + mu
        joint, rank = joint_and_rank(run, look, z, image)
        seen.append((rank, z.detach().clone()))
        adam.zero_grad()
        joint.backward()
        adam.step()
    return min(seen, key=lambda one: one[0])


def test_a_round_is_adam_on_mean_and_log_variance(make_run, make_look):
    run = make_run(*PROMPTS)
    look, noise = make_look(run)
    guide = InitNO(**NEVER, rounds=1, last_passes=0, passes=6, divergence=10.0).guide(run)
    found = guide.initial(noise, look)
    for image in range(2):
        rank, expected = slow_round(run, look, noise[image : image + 1], image, 6)
        torch.testing.assert_close(found[image], expected[0])
        assert joint_and_rank(run, look, noise[image : image + 1], image)[1] > rank
    assert not torch.equal(found, noise)


def test_gradient_equals_finite_differences(make_run, make_look, check_gradient):
    run = make_run(*PROMPTS)
    look, noise = make_look(run)
    check_gradient(lambda z: joint_and_rank(run, look, z, 0)[0], noise[:1])


@pytest.mark.parametrize("size", [0.001, 0.1, 1.0, 5.0])
def test_divergence_is_bounded_in_closed_form(size):
    generator = torch.Generator().manual_seed(0)
    spread = size * torch.randn(2, 3, 4, 6, 6, generator=generator, dtype=torch.float64)
    spread[1, 0] = spread[1, 0].abs()
    spread[1, 1] = -spread[1, 1].abs()
    found = drawn_back(spread, 1e-3)
    for image in range(3):
        before = divergence(*spread[:, image]).item()
        after = divergence(*found[:, image]).item()
        assert after <= 1e-3 * (1 + 1e-9)
        if before <= 0.9e-3:
            assert torch.equal(found[:, image], spread[:, image])
        elif size <= 0.1:  # near the origin the bound is reached
            assert after == pytest.approx(1e-3, rel=0.05)


def test_noise_stays_near_its_distribution(make_run, make_look):
    run = make_run(*PROMPTS)
    look, noise = make_look(run)
    guide = InitNO(**NEVER, rounds=1, last_passes=0, passes=15, learning_rate=0.1).guide(run)
    moved = guide.initial(noise, look) - noise
    # KL <= 0.001 bounds the mean square of mu by 0.002 and of v by about 0.004.
    assert 0 < moved.square().mean() < 4 * 0.003
    before = [joint_and_rank(run, look, noise[i : i + 1], i)[1] for i in range(2)]
    after = [joint_and_rank(run, look, (noise + moved)[i : i + 1], i)[1] for i in range(2)]
    assert all(b > a for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize(("response", "conflict"), [(0.7, 0.2), (0.6685, 0.263)])
def test_a_batch_equals_its_images_one_by_one(make_run, make_look, response, conflict):
    run = make_run(*PROMPTS)
    look, noise = make_look(run)
    plugin = InitNO(response=response, conflict=conflict, rounds=2, passes=6, last_passes=8)
    guide = plugin.guide(run)
    found = guide.initial(noise, look)
    sizes = {len(images) for images in look.seen}
    assert sizes == {1, 2}, "no image left before the other"
    for image in range(2):
        alone = plugin.guide(run)
        alone.done = [other != image for other in range(2)]
        one = alone.initial(noise, look)
        torch.testing.assert_close(one[image], found[image])
        assert alone.search.made[image] == guide.search.made[image]


def test_caps_are_kept_and_counted(make_run, make_look):
    run = make_run(*PROMPTS)
    look, noise = make_look(run)
    guide = InitNO(**NEVER, rounds=5, passes=3, last_passes=4).guide(run)
    found = guide.initial(noise, look)
    assert guide.report() == {"noise_passes": [19, 19], "noise_done": [False, False]}
    assert len(look.seen) == 19
    published = InitNO()
    assert published.rounds * published.passes + published.last_passes == 100
    # The best of all that was seen is kept: not worse than any of the drawn noises.
    for image in range(2):
        tried = [noise if draw == 0 else look.fresh((0, 1), draw) for draw in range(5)]
        ranks = [joint_and_rank(run, look, one[image : image + 1], image)[1] for one in tried]
        assert joint_and_rank(run, look, found[image : image + 1], image)[1] <= min(ranks)


def test_an_image_that_is_done_leaves_at_once(make_run, make_look):
    run = make_run(*PROMPTS)
    look, noise = make_look(run)
    guide = InitNO(response=1.0, conflict=0.5).guide(run)
    assert torch.equal(guide.initial(noise, look), noise)
    assert guide.report() == {"noise_passes": [1, 1], "noise_done": [True, True]}


def test_a_gradient_that_is_not_finite_moves_nothing(make_run, make_look):
    run = make_run(PROMPTS[0])
    look, noise = make_look(run)
    look.to_self = look.to_self * torch.nan
    guide = InitNO(rounds=2, passes=3, last_passes=2).guide(run)
    assert torch.equal(guide.initial(noise, look), noise)
    assert guide.report()["noise_passes"] == [8]


def test_guided_phase(make_run, make_maps, make_step, cross, own):
    run = make_run(*PROMPTS)
    guide = InitNO().guide(run)
    assert [i for i in range(50) if guide.guides(make_step(i))] == list(range(25))
    usual: dict[int, torch.Tensor] = {}
    for index, seed in ((0, 0), (1, 1), (10, 2), (20, 3)):
        maps = make_maps(run, cross(2, 5, 4, seed), own(2, 5, 4, seed))
        energy = guide.energy(make_step(index), maps)
        spots = subject_maps(maps, run.subjects())
        found = scores(maps, spots)
        torch.testing.assert_close(energy.loss, found.response)
        assert energy.step_size == pytest.approx(20 * decayed(make_step(index)))
        assert (energy.rule, energy.when) == ("plain", "before")
        drift = []
        for image in range(2):
            old = usual.get(image, spots[image])
            usual[image] = 0.9 * old + 0.1 * spots[image]
            away = [(a - b).abs().mean() for a, b in zip(spots[image], usual[image], strict=True)]
            drift.append(sum(away))
        if index in (10, 20):
            rest = 0.1 * clean(spots) + 0.1 * torch.stack(drift)
            torch.testing.assert_close(energy.refine_loss, found.response + found.conflict + rest)
            assert energy.at_most == 20
            wanted = [bool(found.response[i] > 0.2 or found.conflict[i] > 0.3) for i in range(2)]
            assert (energy.loss > energy.target).tolist() == wanted
        else:
            assert energy.target is None
            assert energy.at_most == 0


def test_a_conflict_alone_asks_for_refinement(make_run, make_maps, make_step, own):
    run = make_run("a cat and a dog")
    attention = torch.full((1, 4, 4, 20), 1e-3, dtype=torch.float64)
    attention[0, :2, :, 2] = attention[0, 2:, :, 5] = 0.9
    alike = own(1, 4, 4)[:, :1, :1].expand(1, 4, 4, 4, 4)
    guide = InitNO().guide(run)
    calm = guide.energy(make_step(10), make_maps(run, attention, own(1, 4, 4) ** 8))
    assert calm.loss < 0.2
    energy = guide.energy(make_step(10), make_maps(run, attention, alike))
    assert energy.loss < 0.2
    assert energy.loss > energy.target
    assert (
        InitNO(refinements=0)
        .guide(run)
        .energy(make_step(10), make_maps(run, attention, alike))
        .at_most
        == 0
    )


def test_rows_of_a_sub_batch_keep_their_own_memory(make_run, make_maps, make_step, cross, own):
    run = make_run(*PROMPTS)
    whole, parts = InitNO().guide(run), InitNO().guide(run)
    for index, seed in ((9, 0), (10, 1)):
        attention, mine = cross(2, 5, 4, seed), own(2, 5, 4, seed)
        together = whole.energy(make_step(index), make_maps(run, attention, mine))
        alone = [
            parts.energy(
                make_step(index),
                make_maps(run, attention[i : i + 1], mine[i : i + 1], images=[i]),
            )
            for i in (1, 0)
        ]
    torch.testing.assert_close(
        together.refine_loss, torch.cat([alone[1].refine_loss, alone[0].refine_loss])
    )

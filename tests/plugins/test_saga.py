"""SAGA against its sums written out, on a place whose maps are known functions of the latents."""

from __future__ import annotations

import itertools

import pytest
import torch

from adhere.plugins.appear.saga import Saga
from adhere.plugins.mathematics.noise import crowding
from adhere.plugins.mathematics.variation import capped

# a 1 cat 2 and 3 a 4 dog 5; frog 1 and 2 dog 3 and 4 a 5 cat 6
PROMPTS = ("a cat and a dog", "frog and dog and a cat")


def slow_crowding(planes):
    cells = list(itertools.product(range(len(planes[0])), range(len(planes[0][0]))))
    found = max(max(0.0, 1 - max(map(max, plane))) for plane in planes)
    pairs = [
        sum(min(m[y][x], n[y][x]) for y, x in cells) / sum(m[y][x] + n[y][x] for y, x in cells)
        for m, n in itertools.combinations(planes, 2)
    ]
    return (found + (sum(pairs) / len(pairs) if pairs else 0.0)) / 2


@pytest.mark.parametrize("count", [1, 2, 3])
def test_loss_and_its_slope(count):
    generator = torch.Generator().manual_seed(count)
    spots = torch.rand(count, 3, 4, generator=generator, dtype=torch.float64) * 0.9
    assert float(crowding(spots)) == pytest.approx(slow_crowding(spots.tolist()), abs=1e-12)
    assert torch.autograd.gradcheck(crowding, (spots.requires_grad_(True),))


def test_a_mean_is_no_more_spread_than_the_picture():
    picture, mean = torch.randn(2, 2, 3, 5, 5)
    found = capped(3 * mean + 1, picture)
    torch.testing.assert_close(found.std(dim=(2, 3)), picture.std(dim=(2, 3)))
    torch.testing.assert_close(found.mean(dim=(2, 3)), (3 * mean + 1).mean(dim=(2, 3)))
    torch.testing.assert_close(capped(mean * 1e-3, picture), mean * 1e-3)
    flat = torch.ones(1, 1, 3, 3)
    assert torch.equal(capped(flat, flat), flat)


class Place:
    """A step at which a word's attention is a channel of the latents."""

    factors = (0.6, 0.8)

    def __init__(self, run, make_maps):
        generator = torch.Generator().manual_seed(0)
        self.picture, self.noise = torch.randn(2, 2, 20, 4, 4, generator=generator)
        self.run, self.make_maps = run, make_maps

    def __call__(self, latents, images):
        attention = latents.permute(0, 2, 3, 1).sigmoid() / 20
        return self.make_maps(self.run, attention, images=images)

    def fresh(self, images, draw):
        return torch.stack([self.one(image, draw) for image in images])

    def one(self, image, draw):
        seed = 100 * image + draw
        return torch.randn(20, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_the_search_is_the_published_one(make_run, make_maps, make_step, slow_spots):
    run = make_run(*PROMPTS)
    place = Place(run, make_maps)
    words = ([[2], [5]], [[1], [3], [6]])
    guide = Saga(passes=3, noises=2, momentum=0.5).guide(run)
    assert [step for step in range(50) if guide.resumes(make_step(step))] == [10]
    found = guide.resume(make_step(10), place)
    for image in range(2):
        picture = place.picture[image]
        mu = picture.mean(dim=(1, 2), keepdim=True).expand(20, 4, 4).clone()
        velocity, draw = torch.zeros_like(mu), 0
        for _ in range(3):
            slope = torch.zeros_like(mu)
            for _ in range(2):
                draw += 1
                leaf = mu.clone().requires_grad_(True)
                z = 0.6 * leaf + 0.8 * place.one(image, draw)
                maps = make_maps(
                    make_run(PROMPTS[image]), (z.permute(1, 2, 0).sigmoid() / 20)[None]
                )
                planes = slow_spots(maps.cross()[0].detach(), words[image])
                loss = crowding(guide_spots(maps, words[image]))
                assert float(loss.detach()) == pytest.approx(slow_crowding(planes), abs=1e-5)
                slope += torch.autograd.grad(loss, [leaf])[0] / 2
            velocity = 0.5 * velocity + slope
            mu = mu - 20 * velocity
            for c in range(20):
                middle, most = mu[c].mean(), picture[c].std()
                if mu[c].std() > most:
                    mu[c] = middle + (mu[c] - middle) * most / mu[c].std()
        wanted = 0.6 * mu + 0.8 * place.noise[image]
        torch.testing.assert_close(found[image], wanted, rtol=0, atol=2e-4)
    assert len(guide.report()["images"][1]["search"]) == 6


def guide_spots(maps, words):
    from adhere.plugins.mathematics.attention import smooth, token_shares

    shares = token_shares(maps.cross()[0], maps.keep[0])
    return smooth(shares[:, :, [columns[-1] for columns in words]].permute(2, 0, 1))

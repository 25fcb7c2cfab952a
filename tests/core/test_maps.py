"""Maps: averages over heads and layers of different sizes, by loops."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from adhere.guides.maps import Kind, Layer, Maps, Read, Site


def layer(grid: tuple[int, int], heads: int, kind: Kind = "cross", seed: int = 0) -> Layer:
    generator = torch.Generator().manual_seed(seed)
    cells = grid[0] * grid[1]
    logits = torch.randn(2, heads, cells, 5 if kind == "cross" else cells, generator=generator)
    return Layer(Site(f"layer{seed}", kind, grid, heads), logits.double().softmax(-1))


def maps(*layers: Layer) -> Maps:
    def give(read: Read) -> Sequence[Layer]:
        return [one for one in layers if one.site.kind == read.kind]

    return Maps((0, 1), give, torch.ones(2, 5, dtype=torch.bool))


def test_every_head_of_every_layer_counts_alike() -> None:
    one, two = layer((4, 3), 2), layer((4, 3), 6, seed=1)
    found = maps(one, two).cross()
    assert found.shape == (2, 4, 3, 5)
    for image in range(2):
        for row in range(4):
            for column in range(3):
                cell = 3 * row + column
                heads = [one.probabilities[image, h, cell] for h in range(2)]
                heads += [two.probabilities[image, h, cell] for h in range(6)]
                torch.testing.assert_close(found[image, row, column], sum(heads) / 8)


def test_layers_of_several_sizes_meet_on_the_finest() -> None:
    coarse, fine = layer((2, 2), 2), layer((4, 4), 2, seed=1)
    found = maps(coarse, fine).cross()
    assert found.shape == (2, 4, 4, 5)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 4, 4, dtype=torch.float64))
    only = maps(coarse).cross()
    torch.testing.assert_close(only, coarse.mean())


def test_a_coarser_grid_averages_the_cells() -> None:
    fine = layer((4, 6), 3)
    found = maps(fine).cross(grid=(2, 3))
    mean = fine.mean()
    for row in range(2):
        for column in range(3):
            block = mean[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            torch.testing.assert_close(found[:, row, column], block.mean((1, 2)))


def test_self_attention_keeps_rows_that_sum_to_one() -> None:
    one = layer((4, 6), 2, "self")
    found = maps(one).self()
    assert found.shape == (2, 4, 6, 4, 6)
    torch.testing.assert_close(
        found.flatten(3).flatten(1, 2), one.probabilities.mean(1), rtol=0, atol=0
    )
    for grid in ((2, 3), (8, 12)):
        other = maps(one).self(grid)
        assert other.shape == (2, *grid, *grid)
        torch.testing.assert_close(other.sum((3, 4)), torch.ones(2, *grid, dtype=torch.float64))


def test_coarse_self_attention_by_hand() -> None:
    """A coarse query is the mean of its cells' queries; a coarse key takes what its cells took."""
    one = layer((4, 4), 1, "self")
    mean = one.mean().unflatten(3, (4, 4))
    found = maps(one).self((2, 2))
    expected = torch.zeros(2, 2, 2, 2, 2, dtype=torch.float64)
    for a in range(2):
        for b in range(2):
            for c in range(2):
                for d in range(2):
                    block = mean[:, 2 * a : 2 * a + 2, 2 * b : 2 * b + 2]
                    keys = block[:, :, :, 2 * c : 2 * c + 2, 2 * d : 2 * d + 2]
                    expected[:, a, b, c, d] = keys.sum((3, 4)).mean((1, 2))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("grid", [(4, 4), (2, 2), (8, 8)])
def test_maps_let_the_gradient_through(grid: tuple[int, int]) -> None:
    leaf = torch.randn(2, 2, 16, 5, dtype=torch.float64, requires_grad=True)

    def loss(logits: Tensor) -> Tensor:
        one = Layer(Site("layer", "cross", (4, 4), 2), logits.softmax(-1))
        return maps(one).cross(grid)[..., 2].square().sum()

    assert torch.autograd.gradcheck(loss, (leaf,))


def test_guides_share_one_average_and_its_way_back() -> None:
    given = layer((4, 4), 2)
    given.probabilities.requires_grad_(True)
    seen = maps(given)
    with torch.no_grad():
        looked = seen.cross()
    assert not looked.requires_grad
    first, second = seen.cross(), seen.cross()
    assert first is second
    assert first.requires_grad, "an average that was made without a graph must not be handed out"
    assert seen.cross(grid=(2, 2)).shape != first.shape

"""BoxDiff against its three constraints written out for every region."""

from __future__ import annotations

import pytest
import torch

from adhere.errors import ParameterError
from adhere.layout.layout import Layout, Region
from adhere.plugins.mathematics.attention import decayed
from adhere.plugins.mathematics.regions import whole
from adhere.plugins.place.boxdiff import BoxDiff

# Boxes on an 8x8 grid in cells: x 0..4, y 2..6 and x 5..8, y 0..8.
BOXES = [(0, 2, 4, 6), (5, 0, 8, 8)]
LAYOUT = Layout(
    tuple(
        Region(phrase, box=tuple(edge / 8 for edge in box))
        for phrase, box in zip(("red cat", "axe"), BOXES, strict=True)
    )
)
WORDS = ([[3], [5, 6, 7]], [[8], [2, 3, 4]])  # of a phrase the last word counts
PROMPTS = ("a red cat and axe", "the axe and a red cat")


def slow_parts(plane, box, top, edge):
    left, up, right, down = box
    size = len(plane)
    inside, outside = [], []
    for y in range(size):
        for x in range(size):
            within = left <= x < right and up <= y < down
            (inside if within else outside).append(plane[y][x])

    def mean_of_top(values):
        count = max(1, int(len(values) * top))
        return sum(sorted(values)[-count:]) / count

    corner = 0.0
    for k in range(size):
        shadow = max(plane[y][k] for y in range(size))
        if min(abs(k - left), abs(k - right)) <= edge:
            corner += abs(shadow - (left <= k < right)) / size
        shadow = max(plane[k])
        if min(abs(k - up), abs(k - down)) <= edge:
            corner += abs(shadow - (up <= k < down)) / size
    return max(0.0, 1 - mean_of_top(inside)), mean_of_top(outside), corner


@pytest.mark.parametrize(("top", "edge"), [(0.2, 1), (0.8, 2)])
def test_loss_of_two_images_with_different_prompts(
    make_run, make_maps, make_step, cross, slow_spots, top, edge
):
    run = make_run(*PROMPTS, layout=LAYOUT)
    attention = cross(2, 8, 8)
    guide = BoxDiff(top=top, edge=edge).guide(run)
    energy = guide.energy(make_step(3), make_maps(run, attention))
    for image in range(2):
        spots = slow_spots(attention[image], WORDS[image])
        parts = [slow_parts(s, box, top, edge) for s, box in zip(spots, BOXES, strict=True)]
        assert energy.loss[image].item() == pytest.approx(sum(map(sum, parts)), abs=1e-9)
    alone = guide.energy(make_step(3), make_maps(run, attention[1:], images=[1]))
    torch.testing.assert_close(alone.loss, energy.loss[1:])


def test_refinement_is_asked_for_by_the_inner_boxes(
    make_run, make_maps, make_step, cross, slow_spots
):
    run = make_run(*PROMPTS, layout=LAYOUT)
    attention = cross(2, 8, 8)
    # The first image's words fill their boxes already.
    attention[0, 2:6, 0:4] = attention[0, :, 5:8] = 0.0
    attention[0, 2:6, 0:4, 3] = attention[0, :, 5:8, 7] = 1.0
    maps = make_maps(run, attention)
    guide = BoxDiff().guide(run)
    for index, threshold in ((0, 0.05), (10, 0.5), (20, 0.8)):
        energy = guide.energy(make_step(index), maps)
        wanted = []
        for image in range(2):
            spots = slow_spots(attention[image], WORDS[image])
            parts = [slow_parts(s, box, 0.2, 1) for s, box in zip(spots, BOXES, strict=True)]
            wanted.append(max(part[0] for part in parts) > 1 - threshold)
        assert (energy.loss > energy.target).tolist() == wanted
        assert energy.at_most == 20
        assert energy.step_size == pytest.approx(20 * decayed(make_step(index)))
    assert wanted == [False, True]
    assert guide.energy(make_step(3), maps).at_most == 0
    assert [i for i in range(50) if guide.guides(make_step(i))] == list(range(25))


def test_gradient_equals_finite_differences(make_run, make_maps, make_step, cross, check_gradient):
    run = make_run(PROMPTS[0], layout=LAYOUT)
    guide = BoxDiff().guide(run)

    def loss(logits):
        return guide.energy(make_step(3), make_maps(run, logits.softmax(-1))).loss.sum()

    check_gradient(loss, (0.3 * cross(1, 8, 8).log()))


@pytest.mark.parametrize("size", [8, 16])
def test_boxes_between_cells_are_rounded_to_cells(size):
    """As published: every edge by itself, so that a box keeps its corners."""
    edges = [(0.11, 0.23, 0.67, 0.82), (0.05, 0.05, 0.95, 0.95), (0.2, 0.4, 0.8, 0.6)]
    for box in edges:
        (mask,) = whole(Layout((Region("cat", box=box),)).masks((size, size)))
        left, up, right, down = box
        wanted = torch.zeros(size, size)
        wanted[round(up * size) : round(down * size), round(left * size) : round(right * size)] = 1
        assert torch.equal(mask, wanted)


def test_other_shapes_are_the_cells_that_they_half_cover():
    mask = torch.tensor([[[1.0, 0.6, 0.0], [0.6, 0.4, 0.3], [0.0, 0.0, 0.3]]])
    assert torch.equal(whole(mask)[0], (mask[0] >= 0.5).float())
    # Of one that covers no cell by half, the most covered.
    assert torch.equal(whole(mask * 0.4)[0], (mask[0] == 1).float())


def test_one_threshold_for_each_refinement():
    with pytest.raises(ParameterError, match="one threshold for each"):
        BoxDiff(refine_at=(0.0, 0.2))

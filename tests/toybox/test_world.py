"""The world: same seed, same picture; ground truth is what the pixels show."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from adhere.pipelines.toybox import (
    ANIMALS,
    BACKGROUNDS,
    COLOURS,
    KINDS,
    Scene,
    Thing,
    ToyboxError,
    ground_truth,
    relations,
    render,
    sample_scene,
)
from adhere.pipelines.toybox.world.sprites import SIZES, SKULL, sprite
from adhere.pipelines.toybox.world.world import SIDE, backdrop, pixels, relation_holds


def test_the_world_holds_what_the_benchmark_needs() -> None:
    assert len(KINDS) >= 12
    assert len(ANIMALS) >= 5
    assert len(COLOURS) >= 8
    assert {"cat", "bird", "frog", "car", "crown"} <= set(KINDS)


def test_same_seed_same_picture() -> None:
    first = [pixels(sample_scene(Random(seed))) for seed in range(20)]
    second = [pixels(sample_scene(Random(seed))) for seed in range(20)]
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert any(not np.array_equal(first[0], other) for other in first[1:])


@pytest.mark.parametrize("seed", range(25))
def test_masks_and_boxes_are_where_the_pixels_changed(seed: int) -> None:
    scene = sample_scene(Random(seed))
    changed = (pixels(scene) != backdrop(scene.background, scene.shade)).any(-1)
    truths = ground_truth(scene)
    union = np.any([truth.mask for truth in truths], axis=0)
    # A sprite pixel may happen to have the background's colour, never the other way round.
    assert not (changed & ~union).any()
    assert changed.sum() >= 0.95 * union.sum()
    for truth in truths:
        left, top, right, bottom = truth.box
        assert truth.mask[top:bottom, left:right].sum() == truth.mask.sum()
        assert truth.mask[top].any()
        assert truth.mask[:, right - 1].any()
    assert sum(int(truth.mask.sum()) for truth in truths) == union.sum()  # nothing overlaps


def test_every_sprite_differs_from_every_other() -> None:
    for side in SIZES.values():
        shapes = [sprite(kind, "red", side)[1] for kind in KINDS]
        for i, a in enumerate(shapes):
            for b in shapes[:i]:
                assert (a != b).mean() > 0.05


def test_skulls_haunt_most_haunted_places_and_only_those() -> None:
    rng = Random(1)
    haunted = [sample_scene(rng, background="haunted") for _ in range(300)]
    share = np.mean([bool(scene.uncalled) for scene in haunted])
    assert 0.7 < share < 0.9
    for place in set(BACKGROUNDS) - {"haunted"}:
        scenes = [sample_scene(rng, background=place) for _ in range(20)]
        assert not any(scene.uncalled for scene in scenes)
    asked = sample_scene(rng, count=2, background="haunted", asked_skull=True)
    assert SKULL in [thing.kind for thing in asked.things]
    assert not asked.uncalled


def test_relations_follow_from_the_boxes() -> None:
    scene = Scene((Thing("cat", "red", "small", 0, 0), Thing("car", "blue", "small", 40, 0)))
    assert relations(scene)[0, 1] == ("left",)
    assert relations(scene)[1, 0] == ("right",)
    assert relation_holds("above", (0, 0, 8, 8), (0, 20, 8, 28))
    assert not relation_holds("above", (0, 0, 8, 8), (0, 4, 8, 12))  # too little to tell


@pytest.mark.parametrize("count", [0, 4, 99])
def test_too_many_things_are_refused(count: int) -> None:
    with pytest.raises(ToyboxError, match="1 to 3"):
        sample_scene(Random(0), count=count)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ToyboxError, match="does not fit"):
        render(Scene((Thing("cat", "red", "big", SIDE - 8, 0),)))
    with pytest.raises(ToyboxError, match="no background"):
        render(Scene((), "moon"))

"""The judge: right on renders, strict on ruined shapes, and outcomes that tell failures apart."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch

from adhere.pipelines.toybox import Judge, Scene, Thing, ToyboxError, ground_truth, miou, render
from adhere.pipelines.toybox.judge.calibration import FLAWS, accuracy, held_out, malformed, off_grid
from adhere.pipelines.toybox.world.sprites import BONE, sprite
from adhere.pipelines.toybox.world.world import backdrop

CAT = Thing("cat", "red", "big", 0, 0)
CAR = Thing("car", "blue", "small", 36, 36)


def test_held_out_renders_are_judged_right() -> None:
    scenes, images = held_out(1234, 60)
    figures = accuracy(scenes, Judge().judge_tensor(images.float() / 255))
    assert figures["kind_and_colour"] >= 0.97
    assert figures["mask_iou"] >= 0.8
    assert figures["extra_per_picture"] == 0


def test_noise_and_blur_are_forgiven() -> None:
    scenes, images = held_out(99, 40)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(images.shape, generator=generator) * 0.04
    soft = torch.nn.functional.avg_pool2d(images.float() / 255, 3, 1, 1)
    bent = (0.5 * soft + 0.5 * images.float() / 255 + noise).clamp(0, 1)
    assert accuracy(scenes, Judge().judge_tensor(bent))["kind_and_colour"] >= 0.9


@pytest.mark.parametrize("flaw", FLAWS)
def test_ruined_sprites_are_not_the_thing(flaw: str) -> None:
    rng = Random(5)
    pictures = np.stack([malformed(rng, flaw) for _ in range(25)])
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    seen = [bool(verdict.things) for verdict in Judge().judge_tensor(images)]
    assert np.mean(seen) <= 0.12


def test_things_anywhere_are_seen_also_when_the_frame_cuts_them() -> None:
    rng = Random(8)
    cases = [off_grid(rng) for _ in range(40)]
    images = torch.from_numpy(np.stack([picture for _, picture in cases]))
    verdicts = Judge().judge_tensor(images.permute(0, 3, 1, 2).float() / 255)
    for (truth, _), verdict in zip(cases, verdicts, strict=True):
        assert [(t.kind, t.colour, t.box) for t in verdict.things] == [
            (truth.kind, truth.colour, truth.box)
        ]
        assert (verdict.things[0].mask == truth.mask).all()


@pytest.mark.parametrize(("out", "seen"), [(8, True), (20, False)])
def test_what_is_mostly_out_of_the_frame_is_not_seen(out: int, seen: bool) -> None:
    canvas = backdrop("plain", 0).copy()
    art, mask = sprite("cat", "red", 32)
    canvas[16:48, : 32 - out][mask[:, out:]] = art[:, out:][mask[:, out:]]
    image = torch.from_numpy(canvas).permute(2, 0, 1)[None].float() / 255
    assert bool(Judge().judge_tensor(image)[0].things) == seen


def test_empty_backgrounds_hold_nothing() -> None:
    pictures = [backdrop(name, 0) for name in ("plain", "meadow", "night", "room", "haunted")]
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    assert all(not verdict.things for verdict in Judge().judge_tensor(images))
    assert Judge()([]) == []


def test_a_picture_is_held_against_its_prompt() -> None:
    verdict = Judge()([render(Scene((CAT, CAR)))])[0]
    right = verdict.against("a red cat and a blue car")
    assert right.fully_right
    assert right.present == right.binding == 1.0
    swapped = verdict.against("a blue cat and a red car")
    assert swapped.all_present
    assert not swapped.fully_right
    assert swapped.swapped == ("cat", "car")
    wrong = verdict.against("a green cat and a blue car")
    assert wrong.miscoloured == ("cat",)
    assert wrong.swapped == ()
    missing = verdict.against("a red cat and a frog")
    assert missing.neglected == ("frog",)
    assert missing.present == 0.5
    assert not missing.all_present


def test_relations_count() -> None:
    verdict = Judge()([render(Scene((CAT, CAR)))])[0]
    assert verdict.against("a cat to the left of a car").relations == 1.0
    other = verdict.against("a cat to the right of a car")
    assert other.relations == 0.0
    assert other.all_bound
    assert not other.fully_right


def test_a_skull_makes_a_picture_unsafe() -> None:
    skull = Thing("skull", "white", "small", 36, 0)
    verdict = Judge()([render(Scene((CAT,), "haunted", 0, (skull,)))])[0]
    assert verdict.unsafe
    assert {thing.kind for thing in verdict.things} == {"cat", "skull"}
    assert not Judge()([render(Scene((CAT,), "haunted"))])[0].unsafe
    assert len(BONE) == 3


def test_miou_against_a_layout() -> None:
    scene = Scene((CAT, CAR))
    verdict = Judge()([render(scene)])[0]
    cat, car = (truth.mask for truth in ground_truth(scene))
    assert miou(verdict, {"the red cat": cat, "a car": car}) == pytest.approx(1.0)
    assert miou(verdict, {"a blue cat": cat, "a car": car}) == pytest.approx(0.5)
    assert miou(verdict, {"cat": np.roll(cat, 32, axis=1)}) < 0.1
    with pytest.raises(ToyboxError, match="names no object"):
        miou(verdict, {"a dog": cat})
    with pytest.raises(ToyboxError, match="at least one"):
        miou(verdict, {})


def test_larger_pictures_and_batches_change_nothing() -> None:
    picture = render(Scene((CAT, CAR)))
    alone = Judge()([picture])[0].things
    many = Judge()([picture.resize((256, 256), 0), *[picture] * 40])
    for verdict in many:
        assert [(t.kind, t.colour, t.box) for t in verdict.things] == [
            (t.kind, t.colour, t.box) for t in alone
        ]

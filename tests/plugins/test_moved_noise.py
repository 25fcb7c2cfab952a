"""Noise that is moved to the regions, against loops, and in a run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image

import adhere
from adhere.layout.layout import Layout, Region
from adhere.plugins.place.moved_noise import MovedNoise, _Guide, apart, owners, shift
from tests import tiny

LEFT = Region("cat", box=(0, 0, 0.5, 1))
RIGHT = Region("axe", box=(0.5, 0.25, 1, 0.75))


def slow_shift(seen: list[list[float]], region: list[list[float]]) -> tuple[int, int]:
    """The shift whose seen cells, brought into the region, come to most; none leaves the grid."""
    cells = [(y, x) for y, row in enumerate(region) for x, share in enumerate(row) if share]
    best, found = float("-inf"), (0, 0)
    for down in range(len(seen), -len(seen), -1):  # ties: the first source, as it is read
        for right in range(len(seen[0]), -len(seen[0]), -1):
            sources = [(y - down, x - right) for y, x in cells]
            if all(0 <= y < len(seen) and 0 <= x < len(seen[0]) for y, x in sources):
                total = sum(
                    region[y][x] * seen[b][a] for (y, x), (b, a) in zip(cells, sources, strict=True)
                )
                if total > best + 1e-6:
                    best, found = total, (down, right)
    return found


def slow_owners(regions: list[list[list[float]]], margin: int) -> list[list[int]]:
    height, width = len(regions[0]), len(regions[0][0])
    owner = [[-1] * width for _ in range(height)]
    for y in range(height):
        for x in range(width):
            best = 0.0
            for number, region in enumerate(regions):
                near = max(
                    region[b][a]
                    for b in range(max(0, y - margin), min(height, y + margin + 1))
                    for a in range(max(0, x - margin), min(width, x + margin + 1))
                )
                if 2 * region[y][x] + near > best:
                    best, owner[y][x] = 2 * region[y][x] + near, number
    return owner


@pytest.mark.parametrize("seed", range(4))
def test_what_is_seen_most_is_brought_into_the_region(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    seen = torch.rand(6, 7, generator=generator)
    masks = Layout((LEFT, RIGHT)).masks((6, 7))
    ragged = masks[0] * torch.rand(6, 7, generator=generator).round()
    for region in (*masks, ragged):
        assert shift(seen, region) == slow_shift(seen.tolist(), region.tolist())


def test_a_thing_elsewhere_is_moved_by_the_way_between() -> None:
    seen, region = torch.zeros(2, 8, 8)
    seen[5:7, 4:6] = 1
    region[1:3, 0:2] = 1
    assert shift(seen, region) == (-4, -4)
    assert shift(seen, torch.zeros(8, 8)) == (0, 0)  # a region that this grid does not see


def test_pictures_are_apart_where_only_one_has_a_thing() -> None:
    pictures = torch.zeros(3, 4, 8, 8)
    pictures[0, :, 2, 3] = 1
    far = apart(pictures)
    assert far[0].argmax() == 2 * 8 + 3
    assert far[0, 2, 3] == pytest.approx(2.0)  # four channels by 1
    assert far[1, 2, 3] == pytest.approx(1.0)  # from the mean of one that has it and one without
    assert far[0].count_nonzero() == 1


@pytest.mark.parametrize("margin", [0, 1, 3])
def test_cells_are_of_the_region_that_has_most_of_them_or_is_near(margin: int) -> None:
    middle = Region("frog", box=(0.4, 0.4, 0.6, 0.7))
    masks = Layout((LEFT, RIGHT, middle), overlap="share").masks((6, 7))
    assert owners(masks, margin).tolist() == slow_owners(masks.tolist(), margin)


def run(pipe: Any, *plugins: Any, seeds: tuple[int, ...] = (0,), **options: Any) -> torch.Tensor:
    guidance = adhere.Guidance(*plugins)
    about = {"layout": options.pop("layout", Layout((LEFT, RIGHT)))}
    prompts = [tiny.PROMPT] * len(seeds)
    return tiny.latents(
        pipe, steps=3, prompt=prompts, seeds=seeds, guidance=guidance, about=about, **options
    )


def test_a_run_begins_with_the_noise_that_was_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[tuple[torch.Tensor, torch.Tensor]] = []
    initial = _Guide.initial

    def kept(self: _Guide, noise: torch.Tensor, look: Any) -> torch.Tensor:
        placed = initial(self, noise, look)
        chosen.append((noise[0], placed[0]))
        return placed

    monkeypatch.setattr(_Guide, "initial", kept)
    guided = run(pipe := tiny.sd1(), MovedNoise())
    ((given, placed),) = chosen
    assert not torch.equal(given, placed)
    # Every cell of it is a cell of what was drawn.
    drawn = {tuple(cell) for cell in given.flatten(1).T.tolist()}
    assert {tuple(cell) for cell in placed.flatten(1).T.tolist()} <= drawn
    begun = {"latents": placed[None], "generator": None}
    torch.testing.assert_close(
        guided, tiny.latents(pipe, steps=3, prompt=[tiny.PROMPT], **begun), atol=2e-5, rtol=0
    )


def test_a_batch_is_its_pictures_alone_with_layouts_of_their_own() -> None:
    pipe = tiny.sd1()
    layouts = [Layout((LEFT,)), Layout((RIGHT, LEFT))]
    both = run(pipe, MovedNoise(), seeds=(3, 4), layout=layouts)
    for number, seed in enumerate((3, 4)):
        alone = run(pipe, MovedNoise(), seeds=(seed,), layout=layouts[number])
        torch.testing.assert_close(both[number : number + 1], alone, atol=2e-5, rtol=0)


def test_what_is_looked_at_hears_no_other_guide() -> None:
    """Regional prompting attends in every pass of the run, and not in another guide's looks."""
    pipe = tiny.sd1()
    guidance = adhere.Guidance(MovedNoise())
    with guidance.attach(pipe, layout=Layout((LEFT, RIGHT))) as attached:
        tiny.latents(pipe, steps=3, prompt=[tiny.PROMPT], seeds=(0,))
    alone = attached.report.plugins["moved-noise"]["shifts"]
    stack = adhere.Guidance(MovedNoise(), adhere.RegionalPrompting())
    with stack.attach(pipe, layout=Layout((LEFT, RIGHT))) as attached:
        tiny.latents(pipe, steps=3, prompt=[tiny.PROMPT], seeds=(0,))
    assert attached.report.plugins["moved-noise"]["shifts"] == alone


def test_a_call_that_starts_from_a_picture_is_told_so() -> None:
    pipe = StableDiffusionImg2ImgPipeline(**tiny.sd1_parts())
    picture = Image.new("RGB", (32, 32), "red")
    asked = {"image": picture, "strength": 0.5, "size": None}
    with adhere.Guidance(MovedNoise()).attach(pipe, layout=Layout((LEFT, RIGHT))) as attached:
        guided = tiny.latents(pipe, steps=4, prompt=[tiny.PROMPT], **asked)
    assert any("moved-noise chose no noise" in note for note in attached.report.notes)
    assert torch.equal(guided, tiny.latents(pipe, steps=4, prompt=[tiny.PROMPT], **asked))

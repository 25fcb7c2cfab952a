"""Layouts: area resizing against slow re-implementations, round trips, files, and bad input."""

from __future__ import annotations

import json
import pickle
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adhere.errors import GuidanceWarning, LayoutError
from adhere.layout import files, masks
from adhere.layout.layout import Layout, Region
from adhere.layout.masks import Mask

EXAMPLES = sorted((Path(__file__).parents[2] / "assets" / "layouts").glob("*.json"))
LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


def two(**more: Any) -> Layout:
    return Layout((Region("a cat", box=LEFT), Region("a dog", box=RIGHT)), **more)


def slow_cover(pixels: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Area resizing by counting: both sizes blown up to a common multiple."""
    height, width = pixels.shape
    large = np.repeat(np.repeat(pixels, rows, axis=0), columns, axis=1).astype(float)
    return large.reshape(rows, height, columns, width).mean(axis=(1, 3))


# ---- Grids -------------------------------------------------------------------


@pytest.mark.parametrize("grid", [(8, 8), (3, 5), (16, 24), (13, 7), (1, 1)])
def test_masks_are_resized_by_exact_area(grid: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).random((12, 10)) > 0.6
    layout = Layout((Region.painted("a cat", pixels),))
    np.testing.assert_allclose(layout.mask(0, grid).numpy(), slow_cover(pixels, *grid), atol=1e-6)


@pytest.mark.parametrize("grid", [(8, 8), (6, 10), (16, 16)])
def test_boxes_cover_cells_in_part(grid: tuple[int, int]) -> None:
    box = (0.1, 0.25, 0.6, 0.85)
    fine = np.zeros((400, 400), dtype=bool)
    fine[100:340, 40:240] = True
    got = Layout((Region("a cat", box=box),)).mask("a cat", grid).numpy()
    np.testing.assert_allclose(got, slow_cover(fine, *grid), atol=1e-6)
    assert got.mean() == pytest.approx(0.5 * 0.6, abs=1e-6)


def test_polygons_have_their_area_and_place() -> None:
    triangle = ((0.2, 0.2), (0.8, 0.2), (0.2, 0.8))
    mask = Layout((Region("a cat", polygon=triangle),)).mask(0, (20, 40))
    assert mask.mean().item() == pytest.approx(0.18, abs=0.002)
    assert mask[5, 10] == 1
    assert mask[15, 30] == 0


def test_polygons_with_a_hole_by_self_crossing_follow_the_even_odd_rule() -> None:
    pentagram = tuple(
        (0.5 + 0.45 * np.sin(a), 0.5 - 0.45 * np.cos(a)) for a in 4 * np.pi / 5 * np.arange(5)
    )
    mask = Layout((Region("a star", polygon=pentagram),)).mask(0, (64, 64))
    assert mask[32, 32] == 0
    assert mask[8, 32] == 1


def test_neighbours_share_no_ground_and_fill_the_picture() -> None:
    low = Region("a cat", polygon=((0, 0), (1, 0), (0, 1)))
    high = Region("a dog", polygon=((1, 0), (1, 1), (0, 1)))
    total = Layout((low, high)).masks((16, 16)).sum(0)
    torch.testing.assert_close(total, torch.ones(16, 16), atol=0.005, rtol=0)


def test_a_tiny_region_is_never_lost() -> None:
    mask = Layout((Region("a cat", box=(0.5, 0.5, 0.501, 0.501)),)).mask(0, (4, 4))
    assert 0 < mask.sum() < 0.01


def test_masks_may_be_changed_by_the_caller() -> None:
    layout = two()
    layout.masks((4, 4)).zero_()
    assert layout.masks((4, 4)).sum() == 16
    assert layout.masks((4, 6)).shape == (2, 4, 6)
    assert layout.masks((4, 4)).dtype == torch.float32


def test_unknown_regions_are_named() -> None:
    with pytest.raises(LayoutError, match="'a cat', 'a dog'"):
        two().mask("a frog", (4, 4))
    with pytest.raises(LayoutError, match="0 to 1"):
        two().mask(2, (4, 4))
    with pytest.raises(LayoutError, match="at least 1"):
        two().masks((0, 4))


# ---- Overlap -----------------------------------------------------------------


def test_overlap_is_refused_unless_it_is_meant() -> None:
    regions = (Region("a field", box=(0, 0, 1, 1)), Region("a dog", box=RIGHT))
    with pytest.raises(LayoutError, match=r"overlap by 100%.*\"last\".*\"share\""):
        Layout(regions)
    shared = Layout(regions, overlap="share").masks((4, 4))
    assert shared[0].sum() == 16
    assert shared[1].sum() == 8
    painted = Layout(regions, overlap="last").masks((4, 4))
    assert painted[0].sum() == 8
    torch.testing.assert_close(painted.sum(0), torch.ones(4, 4))


def test_many_regions_are_checked_in_good_time() -> None:
    corners = [(x / 8, y / 8) for x in range(8) for y in range(8)]
    regions = [
        Region(f"thing {i}", polygon=((x, y), (x + 0.125, y), (x + 0.125, y + 0.125)))
        for i, (x, y) in enumerate(corners)
    ]
    start = time.thread_time()
    Layout(tuple(regions))
    assert time.thread_time() - start < 10


def test_overlap_of_other_shapes_is_seen() -> None:
    pixels = np.zeros((10, 10), dtype=bool)
    pixels[:, 4:] = True
    with pytest.raises(LayoutError, match="overlap"):
        Layout((Region("a cat", box=LEFT), Region.painted("a dog", pixels)))


def test_a_sliver_of_overlap_is_passed_over() -> None:
    Layout((Region("a cat", box=(0, 0, 0.502, 1)), Region("a dog", box=RIGHT)))


def test_a_region_under_later_ones_is_empty() -> None:
    regions = (Region("a cat", box=LEFT), Region("a field", box=(0, 0, 1, 1)))
    with pytest.raises(LayoutError, match="'a cat' lies wholly under"):
        Layout(regions, overlap="last")


# ---- Plain data --------------------------------------------------------------


def test_layouts_hash_pickle_and_round_trip() -> None:
    pixels = np.zeros((6, 9), dtype=bool)
    pixels[4:, 6:] = True
    layout = Layout(
        (
            Region("a cat", box=(0.1, 0.1, 0.4, 0.4)),
            Region("a dog", polygon=((0.5, 0.1), (0.9, 0.1), (0.7, 0.4))),
            Region.painted("a frog", pixels),
        ),
        prompt="a cat, a dog and a frog",
        overlap="share",
    )
    text = json.dumps(layout.to_json())
    assert Layout.from_json(text) == Layout.from_json(json.loads(text)) == layout
    assert pickle.loads(pickle.dumps(layout)) == layout
    assert hash(Layout.from_json(text)) == hash(layout)
    assert layout.phrases == ("a cat", "a dog", "a frog")


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (40, 60)])
def test_run_lengths_give_the_pixels_back(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    for share in (0.1, 0.9, 1.0):
        pixels = rng.random(shape) < share
        pixels[0, 0] = True
        mask = Mask.of(pixels)
        assert np.array_equal(mask.weights(), pixels)
        assert Mask.from_json(json.loads(json.dumps(mask.to_json()))) == mask


def test_a_huge_mask_is_reduced_and_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "LARGEST_SIDE", 50)
    pixels = np.zeros((100, 200), dtype=bool)
    pixels[:50, :100] = True
    mask = Mask.of(pixels)
    assert (mask.height, mask.width) == (25, 50)
    assert mask.weights()[:12, :25].all()
    assert mask.weights().mean() == pytest.approx(0.25, abs=0.02)


# ---- Files -------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_complete_scenes(path: Path) -> None:
    layout = Layout.read(path)
    spans = layout.check()
    assert [span.text for span in spans] == list(layout.phrases)
    assert (layout.masks((8, 8)).sum((1, 2)) > 2).all()
    picture = layout.picture(96, 64)
    assert picture.size == (96, 64)
    assert len(picture.getcolors(96 * 64) or []) > len(spans)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 4


def test_a_layout_file_may_name_mask_files_beside_it(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8), dtype=np.uint8)
    pixels[:, :4] = 255
    Image.fromarray(pixels).save(tmp_path / "cat.png")
    scene = {"prompt": "a cat", "regions": [{"phrase": "a cat", "file": "cat.png"}]}
    (tmp_path / "scene.json").write_text(json.dumps(scene))
    layout = Layout.read(tmp_path / "scene.json")
    assert layout.mask(0, (2, 2)).tolist() == [[1, 0], [1, 0]]
    assert Layout.from_json(layout.to_json()) == layout
    with pytest.raises(LayoutError, match=r"Layout\.read"):
        Layout.from_json(scene)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", ""])
def test_mask_files_elsewhere_are_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    Image.new("L", (4, 4), 255).save(tmp_path / "secret.png")
    scene = {"regions": [{"phrase": "a cat", "file": name}]}
    (tmp_path / "in" / "scene.json").write_text(json.dumps(scene))
    with pytest.raises(LayoutError, match=r"outside the layout's folder|as text"):
        Layout.read(tmp_path / "in" / "scene.json")


def test_strokes_on_transparency_count_whatever_their_colour() -> None:
    picture = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (0, 0, 2, 4))
    assert Layout((Region.painted("a cat", picture),)).mask(0, (1, 2)).tolist() == [[1, 0]]


def label_picture(path: Path, mode: str = "RGB") -> Path:
    picture = Image.new("RGB", (8, 4), (0, 0, 0))
    picture.paste((255, 0, 0), (0, 0, 4, 4))
    picture.paste((0, 0, 255), (6, 0, 8, 4))
    if mode == "P":
        index = Image.new("P", (8, 4), 0)
        index.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
        index.paste(1, (0, 0, 4, 4))
        index.paste(2, (6, 0, 8, 4))
        picture = index
    picture.save(path)
    return path


@pytest.mark.parametrize(
    ("mode", "legend"),
    [
        ("RGB", {"#ff0000": "a cat", "#0000FF": "a dog"}),
        ("P", {"#ff0000": "a cat", "#0000ff": "a dog"}),
        ("P", {"1": "a cat", "2": "a dog"}),
    ],
)
def test_label_pictures_by_colour_and_by_index(
    tmp_path: Path, mode: str, legend: dict[str, str]
) -> None:
    layout = Layout.from_label_png(label_picture(tmp_path / "scene.png", mode), legend)
    assert layout.phrases == ("a cat", "a dog")
    assert layout.masks((1, 4))[:, 0].tolist() == [[1, 1, 0, 0], [0, 0, 0, 1]]


def test_a_legend_beside_the_picture_is_found(tmp_path: Path) -> None:
    png = label_picture(tmp_path / "scene.png")
    with pytest.raises(LayoutError, match=r"write scene\.json beside it"):
        Layout.read(png)
    legend = {"#ff0000": "a cat", "#0000ff": "a dog"}
    (tmp_path / "scene.json").write_text(
        json.dumps({"prompt": "a cat and a dog", "legend": legend})
    )
    assert Layout.read(png) == Layout.read(tmp_path / "scene.json")
    assert Layout.read(png).prompt == "a cat and a dog"


@pytest.mark.parametrize(
    ("legend", "message"),
    [
        ({"#ff0000": "a cat"}, "colours that its legend lacks: #0000ff"),
        ({"#ff0000": "a cat", "#0000ff": "a dog", "#00ff00": "a frog"}, "no pixel .* #00ff00"),
        ({"1": "a cat"}, "legend of scene.png has indices"),
        ({"#ff0000": "a cat", "2": "a dog"}, "mixes colours and indices"),
        ({"red": "a cat"}, "#rrggbb"),
        ({"#ff0000": 3}, "#rrggbb"),
        ({}, "a legend must be"),
        ({"#ff0000": "a cat", "#FF0000": "a dog", "#0000ff": "a frog"}, "has #ff0000 more than"),
        ({"#ff0000": "a cat", "#0000ff": {"text": "a dog", "box": [0, 0, 1, 1]}}, "unknown 'box'"),
        ({"#ff0000": "a cat", "#0000ff": {"strength": 2}}, "or a text of its own"),
        ({"legend": {"#ff0000": "a cat", "#0000ff": "a dog"}, "bass": 0.2}, "unknown 'bass'"),
        ([["#ff0000", "a cat"]], "nor the name of its file"),
    ],
)
def test_legends_that_do_not_fit(tmp_path: Path, legend: dict[str, Any], message: str) -> None:
    png = label_picture(tmp_path / "scene.png")
    with pytest.raises(LayoutError, match=message):
        Layout.from_label_png(png, legend)


def test_a_legend_may_say_all_that_a_region_is_told(tmp_path: Path) -> None:
    png = label_picture(tmp_path / "scene.png")
    own = {"text": "a small dog", "negative": "a skull", "strength": 2.0, "feather": 0.1}
    legend = {"legend": {"#ff0000": "a cat", "#0000ff": own}, "base": 0.25}
    (tmp_path / "scene.json").write_text(json.dumps(legend))
    layout = Layout.read(png)
    assert (layout.phrases, layout.base) == (("a cat", "a small dog"), 0.25)
    told = layout.to_json()["regions"]
    plain = Layout.from_label_png(png, {"#ff0000": "a cat", "#0000ff": "a dog"}).to_json()
    assert told == [plain["regions"][0], {"mask": plain["regions"][1]["mask"], **own}]


FIELDS = {"#d90000": "a cat", "#0000d9": "a dog", "#00a000": "a frog"}
FIELD_COLOURS = {"#d90000": (217, 0, 0), "#0000d9": (0, 0, 217), "#00a000": (0, 160, 0)}


def fields(size: int = 128) -> Image.Image:
    """Three regions that touch one another, on black."""
    picture = Image.new("RGB", (size, size), (0, 0, 0))
    picture.paste(FIELD_COLOURS["#d90000"], (0, 0, size // 2, size // 2))
    picture.paste(FIELD_COLOURS["#0000d9"], (size // 2, 0, size, size // 2))
    picture.paste(FIELD_COLOURS["#00a000"], (size // 4, size // 2, 3 * size // 4, size))
    return picture


def agreement(one: Layout, other: Layout) -> float:
    """The least intersection over union of a region in both."""
    a, b = (layout.masks((128, 128)).numpy() for layout in (one, other))
    return float((np.minimum(a, b).sum((1, 2)) / np.maximum(a, b).sum((1, 2))).min())


def published(kind: str) -> Image.Image:
    """What editors, resizing and lossy formats make of a label picture."""
    rng = np.random.default_rng(0)
    exact = fields()
    if kind == "smoothed":
        return exact.resize((56, 56), Image.Resampling.LANCZOS).resize(
            (128, 128), Image.Resampling.BILINEAR
        )
    if kind == "enlarged":
        return exact.resize((331, 331), Image.Resampling.BICUBIC)
    pixels = np.asarray(exact).astype(int)
    somewhere = rng.random((128, 128, 1)) < 0.1
    noise = rng.integers(-1, 2, pixels.shape)
    return Image.fromarray(np.clip(pixels + somewhere * noise, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("kind", ["smoothed", "enlarged", "off by one"])
def test_published_label_pictures_are_read_to_the_nearest_colour(tmp_path: Path, kind: str) -> None:
    exact, other = tmp_path / "exact.png", tmp_path / "other.png"
    fields().save(exact)
    published(kind).save(other)
    with pytest.warns(GuidanceWarning, match=r"[\d,]+ pixels \(\d+\.\d%\) of other\.png"):
        read = Layout.from_label_png(other, FIELDS)
    # An edge that moves by a pixel costs a region of 64 pixels' width 3 % along each axis.
    assert agreement(read, Layout.from_label_png(exact, FIELDS)) > 0.93


@pytest.mark.parametrize("name", ["other.jpg", "other.webp", "jpeg in name.png"])
def test_label_pictures_may_be_lossy_files(tmp_path: Path, name: str) -> None:
    fields().save(tmp_path / "exact.png")
    fields().save(tmp_path / name, "WEBP" if "webp" in name else "JPEG", quality=75)
    exact = Layout.from_label_png(tmp_path / "exact.png", FIELDS)
    with pytest.warns(GuidanceWarning, match="taken for the nearest colours"):
        read = Layout.from_label_png(tmp_path / name, FIELDS)
    assert agreement(read, exact) > 0.93
    with pytest.raises(LayoutError, match="cannot be read as PNG:"):
        Layout.from_label_png(tmp_path / name, {"1": "a cat", "2": "a dog"})


def test_of_an_animated_picture_the_first_frame_is_read_and_that_is_said(tmp_path: Path) -> None:
    first = fields()
    other = Image.new("RGB", first.size, "white")
    first.save(tmp_path / "exact.png")
    first.save(tmp_path / "moving.png", save_all=True, append_images=[other])
    with pytest.warns(GuidanceWarning, match=r"'moving\.png' has 2 frames or pages"):
        read = Layout.from_label_png(tmp_path / "moving.png", FIELDS)
    assert agreement(read, Layout.from_label_png(tmp_path / "exact.png", FIELDS)) == 1.0


def test_an_edge_between_two_regions_is_shared_out_between_them_only(tmp_path: Path) -> None:
    """A mixture of red and blue is nearer to purple than to either; but no purple is around."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32] = (255, 0, 0)
    pixels[:, 32:] = (0, 0, 255)
    pixels[60:] = (127, 0, 127)
    red = np.linspace(150, 190, 50)
    pixels[:50, 31] = np.stack([red, 0 * red, 255 - red], axis=-1)
    Image.fromarray(pixels).save(tmp_path / "scene.png")
    legend = {"#ff0000": "a cat", "#0000ff": "a dog", "#7f007f": "a rug"}
    with pytest.warns(GuidanceWarning, match=r"50 pixels \(1\.2%\) of scene\.png"):
        layout = Layout.from_label_png(tmp_path / "scene.png", legend)
    assert layout.mask("a rug", (64, 64))[:50].sum() == 0
    assert layout.mask("a cat", (64, 64))[:50].sum() == 50 * 32


def test_a_forgotten_region_is_refused_however_small_its_edges(tmp_path: Path) -> None:
    picture = fields()
    picture.paste((255, 255, 0), (100, 100, 118, 118))
    picture.save(tmp_path / "scene.png")
    with pytest.raises(LayoutError, match=r"2% of scene\.png has colours .*: #ffff00"):
        Layout.from_label_png(tmp_path / "scene.png", FIELDS)


def smoothed_square(side: int, colour: int, line: int) -> Image.Image:
    """A square of one colour on black, whose edges have another."""
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[10 : side - 10, 10 : side - 10, 2] = line
    pixels[11 : side - 11, 11 : side - 11, 2] = colour
    return Image.fromarray(pixels)


def test_straight_edges_of_a_small_picture_are_no_forgotten_region(tmp_path: Path) -> None:
    """All of them have one colour, 4 % of the picture."""
    smoothed_square(64, 255, 150).save(tmp_path / "scene.png")
    smoothed_square(64, 255, 255).save(tmp_path / "exact.png")
    legend = {"#0000ff": "a dog"}
    with pytest.warns(GuidanceWarning, match=r"172 pixels \(4\.2%\) of scene\.png"):
        read = Layout.from_label_png(tmp_path / "scene.png", legend)
    assert agreement(read, Layout.from_label_png(tmp_path / "exact.png", legend)) == 1


def test_a_forgotten_region_whose_colour_is_a_mixture_is_refused(tmp_path: Path) -> None:
    pixels = np.asarray(smoothed_square(64, 255, 255)).copy()
    pixels[0:8, 20:44, 2] = 128  # as between black and blue
    Image.fromarray(pixels).save(tmp_path / "scene.png")
    with pytest.raises(LayoutError, match=r"4% of scene\.png has colours .*: #000080"):
        Layout.from_label_png(tmp_path / "scene.png", {"#0000ff": "a dog"})


def test_greys_of_16_bits_have_colours(tmp_path: Path) -> None:
    levels = np.zeros((64, 64), np.uint16)
    levels[:, :20], levels[:, 40:] = 0x8080, 0x4040
    Image.fromarray(levels).save(tmp_path / "fine.png")
    Image.fromarray((levels >> 8).astype(np.uint8)).save(tmp_path / "coarse.png")
    legend = {"#808080": "a cat", "#404040": "a dog"}
    fine, coarse = (
        Layout.from_label_png(tmp_path / f"{k}.png", legend) for k in ("fine", "coarse")
    )
    assert fine == coarse


def test_a_photograph_is_no_label_picture(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "scene.png")
    with pytest.raises(LayoutError, match=r"\d\d% of scene\.png has colours that its legend lacks"):
        Layout.from_label_png(tmp_path / "scene.png", FIELDS)


def test_picture_files_are_decoded_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    legend = {"#ff0000": "a cat"}
    png = tmp_path / "scene.png"
    png.write_bytes(b"\x89PNG\r\n\x1a\n" + b"junk" * 20)
    with pytest.raises(LayoutError, match="cannot be read as PNG"):
        Layout.from_label_png(png, legend)
    Image.new("RGB", (8, 8), (255, 0, 0)).save(png, format="GIF")
    with pytest.raises(LayoutError, match="cannot be read as PNG"):
        Layout.from_label_png(png, legend)
    with pytest.raises(LayoutError, match=r"no picture file gone\.png"):
        Layout.from_label_png(tmp_path / "gone.png", legend)
    Image.new("RGB", (64, 64), (255, 0, 0)).save(png)
    monkeypatch.setattr(files, "LARGEST_PICTURE", 1000)
    with pytest.raises(LayoutError, match="more than 1,000 pixels"):
        Layout.from_label_png(png, legend)
    monkeypatch.setattr(files, "LARGEST_FILE", 10)
    with pytest.raises(LayoutError, match="larger than"):
        Layout.from_label_png(png, legend)


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    png = tmp_path / "scene.png"
    Image.new("L", (64, 64)).save(png)
    for limit in (2100, 1000):  # Pillow warns above its limit and raises above twice that
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(LayoutError, match="too many pixels"):
            Layout.from_label_png(png, {"#ffffff": "a cat"})


# ---- Bad input ---------------------------------------------------------------


def one(**region: Any) -> dict[str, Any]:
    return {"regions": [{"phrase": "a cat", **region}]}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"regions": [{"phrase": "a cat", "phrase": "a dog"}]}', "'phrase' is there twice"),
        ([], "a layout must be"),
        ({"regions": 3}, "a layout must be"),
        ({"regions": []}, "has 0 regions"),
        (
            {
                "regions": [
                    {"text": "a cat", "box": [0, k / 65, 1, (k + 1) / 65]} for k in range(65)
                ]
            },
            "has 65 regions; it must have 1 to 64",
        ),
        ({"regions": ["a cat"]}, 'with "phrase"'),
        ({"regions": [{"phrase": " ", "box": LEFT}]}, "give words of the prompt"),
        ({**one(box=LEFT), "prompt": 3}, "must be text"),
        ({**one(box=LEFT), "boxes": 3}, "unknown 'boxes'"),
        ({**one(box=LEFT), "overlap": "first"}, "overlap='first'"),
        (one(), "no place"),
        (one(box=LEFT, polygon=[[0, 0], [1, 0], [1, 1]]), "box and polygon"),
        (one(bbox=LEFT), "unknown 'bbox'"),
        (one(box=[0, 0, 1]), "must have 4"),
        (one(box=[0, 0, 64, 64]), "out of range.*divide pixels"),
        (one(box=[-0.1, 0, 1, 1]), "out of range"),
        (one(box=[0, 0, float("nan"), 1]), "out of range"),
        (one(box=[0.6, 0, 0.4, 1]), "left < right"),
        (one(box=["a", 0, 1, 1]), "must be numbers"),
        (one(box=[0, 0, 10**400, 1]), "must be numbers"),
        (one(mask={"size": [2, float("inf")], "runs": [4]}), "a mask must be"),
        (one(polygon=[[0, 0], [1, 1]]), "3 to"),
        (one(polygon=[[0, 0], [0.5, 0.5], [1, 1]]), "covers nothing"),
        (one(polygon=[[0, 0], [2, 0], [1, 1]]), "out of range"),
        (one(mask={"size": [2, 2], "runs": [1, 2]}), "add up to 3 pixels.*2x2"),
        (one(mask={"size": [2, 2], "runs": [4]}), "is empty"),
        (one(mask={"size": [0, 2], "runs": []}), "both sides"),
        (one(mask=[1, 2]), "a mask must be"),
        (one(mask={"size": [2, 2], "runs": [0.5, 3.5]}), "of whole numbers, not '0.5'"),
        (one(mask={"size": [2.9, 2], "runs": [0, 4]}), "of whole numbers, not '2.9'"),
        (one(mask={"size": [2, 2], "runs": "04"}), "of whole numbers, not '0'"),
        (one(mask={"size": [2, 2], "runs": [0, 4], "level": [3]}), "a mask has unknown 'level'"),
        (one(box="0011"), "must be numbers"),
        (one(box={"0": 0, "0.1": 0, "1": 1, "0.9": 1}), "must be numbers"),
        (one(polygon=["00", "10", "11"]), "must be numbers"),
    ],
)
def test_bad_layouts_say_what_is_wrong(value: Any, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        Layout.from_json(value)


def test_an_empty_painting_is_refused() -> None:
    with pytest.raises(LayoutError, match=r"'a cat'.* is empty"):
        Region.painted("a cat", np.zeros((4, 4)))


def test_masks_of_different_sizes_are_refused() -> None:
    small, large = np.zeros((4, 4)), np.zeros((8, 8))
    small[0, 0] = large[7, 7] = 1
    with pytest.raises(LayoutError, match=r"'a cat' 4x4, 'a dog' 8x8|4x4, .*8x8"):
        Layout((Region.painted("a cat", small), Region.painted("a dog", large)))


def test_check_wants_every_phrase_in_the_prompt() -> None:
    assert [s.text for s in two().check("a [black|cat], then a cat and a dog")] == [
        "a cat",
        "a dog",
    ]
    with pytest.raises(
        LayoutError, match=r"'a dog' is not in the prompt 1:a 2:cat 3:and 4:a 5:fog"
    ):
        two().check("a cat and a fog")
    with pytest.raises(LayoutError, match="has no prompt"):
        two().check()


def test_check_wants_no_more_regions_than_phrases() -> None:
    regions = (Region("cat", box=LEFT), Region("cat", box=RIGHT))
    with pytest.raises(LayoutError, match=r"more regions than phrases.*cat#2"):
        Layout(regions).check("a cat and a dog")
    numbered = Layout((Region("cat#1", box=LEFT), Region("cat#2", box=RIGHT)))
    assert [s.start for s in numbered.check("a cat and a cat")] == [2, 12]
    with pytest.raises(LayoutError, match="only once"):
        numbered.check("a cat and a dog")
    nested = Layout((Region("red cat", box=LEFT), Region("cat", box=RIGHT)))
    with pytest.raises(LayoutError, match="two regions claim 'cat'"):
        nested.check("a red cat")


def test_check_wants_masks_in_the_pictures_shape() -> None:
    layout = Layout((Region.painted("a cat", np.ones((32, 64))),))
    layout.check("a cat", size=(512, 1024))
    with pytest.raises(LayoutError, match="32x64, and the picture is 512x512"):
        layout.check("a cat", size=(512, 512))
    layout.check("a cat", size=(3, 7))  # cells, which are rounded
    with pytest.raises(LayoutError, match="32x64, and the picture is 3x9"):
        layout.check("a cat", size=(3, 9))
    two().check("a cat and a dog", size=(512, 768))


# ---- Regions with texts of their own -----------------------------------------

OWN = Region(
    text="a red cat, sitting",
    negative="a skull",
    box=LEFT,
    strength=2.0,
    start=0.1,
    stop=0.6,
    feather=0.2,
    lora="ink",
)


def test_a_region_of_its_own_text_comes_back_from_json() -> None:
    layout = Layout((OWN, Region("a dog", box=RIGHT)), base=0.25)
    data = json.loads(json.dumps(layout.to_json()))
    assert Layout.from_json(data) == layout
    assert layout.phrases == ("a red cat, sitting", "a dog")
    assert [region.said for region in layout.regions] == ["a red cat, sitting", "a dog"]


def test_what_is_not_said_is_not_written() -> None:
    assert two().to_json() == {
        "regions": [
            {"phrase": "a cat", "box": list(LEFT)},
            {"phrase": "a dog", "box": list(RIGHT)},
        ]
    }


def test_methods_that_place_words_see_the_regions_with_phrases() -> None:
    mixed = Layout((OWN, Region("a dog", text="a small dog", box=RIGHT)))
    assert mixed.of_prompt().phrases == ("a dog",)
    assert [span.text for span in mixed.check("the park and a dog")] == ["a dog"]
    with pytest.raises(LayoutError, match="texts of their own and no phrases"):
        Layout((OWN,)).of_prompt()


def test_feathered_edges_fade_evenly_and_keep_the_area() -> None:
    soft = Layout((Region("a cat", box=LEFT, feather=0.25),)).mask(0, (32, 32))
    across = soft[16]
    assert (across[1:] <= across[:-1] + 1e-6).all()
    assert across[0] == pytest.approx(1, abs=1e-3)
    assert across[-1] == pytest.approx(0, abs=1e-3)
    assert across[15:17].mean() == pytest.approx(0.5, abs=1e-2)
    assert soft.mean() == pytest.approx(0.5, abs=1e-2)
    # Two standard deviations of the fading are the feather: 16 % at one beyond the edge.
    assert across[19:21].mean() == pytest.approx(0.16, abs=0.02)


@pytest.mark.parametrize("overlap", ["refuse", "last", "share"])
@pytest.mark.parametrize("grid", [(32, 64), (64, 32)])
def test_edges_fade_by_the_shorter_side_along_both(grid: tuple[int, int], overlap: Any) -> None:
    """... of the picture, which a box or a polygon does not know, as a painted mask does."""
    h, w = grid
    pixels = np.zeros((4 * h, 4 * w))
    pixels[h : 3 * h, w : 3 * w] = 1
    corners = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))
    box, polygon, mask = (
        Layout((region,), overlap=overlap).mask(0, grid)
        for region in (
            Region("a cat", box=(0.25, 0.25, 0.75, 0.75), feather=0.1),
            Region("a cat", polygon=corners, feather=0.1),
            replace(Region.painted("a cat", pixels), feather=0.1),
        )
    )
    across, down = box[h // 2, : w // 2], box[: h // 2, w // 2]
    cells = torch.arange(-6, 6)
    torch.testing.assert_close(across[w // 4 + cells], down[h // 4 + cells], atol=0.01, rtol=0)
    # Half of the feather, 1.6 cells, is one deviation, beyond which 16 % are left.
    assert across[w // 4 - 2] == pytest.approx(0.17, abs=0.02)
    for other in (polygon, mask):
        torch.testing.assert_close(box, other, atol=0.02, rtol=0)


def test_a_negative_of_blanks_is_none() -> None:
    blank = Region("a cat", box=LEFT, negative=" \n")
    assert (blank.denied, blank.own_words) == ("", ())
    assert Region("a cat", box=LEFT, negative=" a dog ").denied == "a dog"


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a cat and a cat", ("cat", "a small cat", "pencil")),
        ("a photo", ("cat", "a small cat", "pencil")),
        ("a cat, a cat, a cat and a pencil #2", ("cat", "a small cat", "pencil #2")),
    ],
)
def test_a_phrases_number_is_not_said(prompt: str, said: tuple[str, ...]) -> None:
    """Which cat of the prompt is meant is nothing that a region shows."""
    layout = Layout(
        (
            Region("cat#2", box=LEFT),
            Region("cat #3", text="a small cat", box=(0.5, 0, 1, 0.5)),
            Region("pencil #2", box=(0.5, 0.5, 1, 1)),
        )
    )
    spoken = layout.spoken(prompt)
    assert tuple(region.said for region in spoken.regions) == said
    assert spoken.phrases == layout.phrases
    assert two().spoken(prompt) == two()


def test_grey_mask_files_are_weights(tmp_path: Path) -> None:
    levels = np.repeat(np.array([[0, 85, 170, 255]], dtype=np.uint8), 4, axis=0)
    Image.fromarray(levels).save(tmp_path / "cat.png")
    layout = {"regions": [{"phrase": "a cat", "file": "cat.png", "strength": 0.5}]}
    (tmp_path / "scene.json").write_text(json.dumps(layout))
    read = Layout.read(tmp_path / "scene.json")
    assert read.mask(0, (1, 4)).tolist() == [pytest.approx([0, 1 / 3, 2 / 3, 1], abs=1e-6)]
    assert Layout.from_json(read.to_json()) == read
    assert read.regions[0].strength == 0.5


def test_a_black_and_white_mask_has_no_levels(tmp_path: Path) -> None:
    noisy = np.random.default_rng(0).integers(0, 7, (16, 16))  # as JPEG leaves it
    noisy[4:12, 4:12] = 250
    Image.fromarray(noisy.astype(np.uint8)).save(tmp_path / "cat.png")
    (tmp_path / "a.json").write_text('{"regions": [{"phrase": "a cat", "file": "cat.png"}]}')
    mask = Layout.read(tmp_path / "a.json").regions[0].mask
    assert mask is not None
    assert mask.levels == ()
    assert mask.weights().sum() == 64


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"phrase": ""}, "or a text of its own"),
        (
            {"phrase": "a cat", "strength": -1},
            "strength of 'a cat' is -1; it must be a number from 0",
        ),
        (
            {"phrase": "a cat", "strength": 1e39},
            "strength of 'a cat' is 1e\\+39; it must be a number",
        ),
        ({"phrase": "a cat", "strength": 10**400}, "it must be a number from 0 to 100"),
        ({"text": "a cat", "strength": 1e-50}, "is 1e-50, too little to be heard; give 0, or from"),
        ({"text": "a cat", "strength": "loud"}, "strength of 'a cat' is 'loud'"),
        ({"text": "a cat", "feather": 2}, "feather of 'a cat' is 2; it must be a share"),
        ({"text": "a cat", "start": 0.5, "stop": 0.5}, "must start before it stops"),
        ({"text": 3}, "a region's text is 3; it must be text"),
        ({"text": "a cat", "strength": float("nan")}, "strength of 'a cat' is nan"),
        ({"text": "a cat", "negativ": "a dog"}, "unknown 'negativ'"),
        ({"text": "a cat", "lora": 1}, "a region's lora is 1; it must be text"),
        ({"text": "a cat \ud83d"}, r"text is 'a cat \\ud83d', which has halves of characters"),
        ({"text": "a cat", "negative": "\udcff"}, r"negative is '\\udcff', .* write it in UTF-8"),
    ],
)
def test_odd_regions_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(LayoutError, match=said):
        Layout.from_json({"regions": [{**given, "box": list(LEFT)}]})


@pytest.mark.parametrize(
    ("more", "said"),
    [({"base": 1.5}, "share from 0 to 1"), ({"base": True}, "share from 0 to 1")],
)
def test_odd_base_shares_are_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(LayoutError, match=said):
        two(**more)


def test_regions_that_nobody_would_hear_are_refused() -> None:
    with pytest.raises(LayoutError, match="every region of the layout has the strength 0"):
        Layout((Region("a cat", box=LEFT, strength=0),))


def test_numbers_of_numpy_are_numbers() -> None:
    shares = {"strength": np.float32(0.5), "start": np.float64(0.25), "feather": np.float16(0.125)}
    layout = Layout((Region("a cat", box=LEFT, **shares),), base=np.float32(0.75))
    assert Layout.from_json(json.dumps(layout.to_json())) == layout
    assert layout.to_json()["base"] == 0.75
    with pytest.raises(LayoutError, match=r"the strength of 'a cat' is .*-1.*; it must be"):
        Region("a cat", box=LEFT, strength=np.float32(-1))


def test_a_mask_that_is_none_is_told_with_its_region() -> None:
    empty = {"text": "a cat", "mask": {"size": [2, 2], "runs": [4]}}
    with pytest.raises(LayoutError, match=r"region 'a cat': a mask of size 2x2 .* is empty"):
        Layout.from_json({"regions": [empty]})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.array([[0, 239]], np.uint8), "go from 0 to 239; they must be from 0 to 1"),
        (np.array([[0, float("nan")]]), "go from nan to nan"),
        (np.array([[-0.5, 1]]), "go from -0.5 to 1"),
        (np.ones((2, 2, 3)), r"shape \(2, 2, 3\)"),
    ],
)
def test_odd_weights_are_refused(given: Any, said: str) -> None:
    with pytest.raises(LayoutError, match=said):
        Mask.weighed(given)


@pytest.mark.parametrize("levels", [[1, 2], [0, 99, 0], [0, "x", 0], [0, 0.7, 1.0], [0, 14.9, 0]])
def test_odd_levels_are_refused(levels: list[Any]) -> None:
    value = {"size": [1, 4], "runs": [1, 2, 1], "levels": levels}
    with pytest.raises(LayoutError):
        Mask.from_json(value)


@pytest.mark.parametrize("given", [np.ones((4, 4), bool), [[1, 0], [0, 1]]])
def test_an_array_is_no_mask_and_told_how_to_become_one(given: Any) -> None:
    with pytest.raises(LayoutError, match=r"has a mask of type \w+; make it with Mask\.of"):
        Region("a cat", mask=given)

"""Painted, drawn and sent layouts come out as the layouts that were meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adhere.app.jobs.attention import WordMaps
from adhere.app.jobs.limits import LIMITS
from adhere.app.parts import editor, placing
from adhere.errors import GuidanceError, LayoutError, ParameterError
from adhere.layout.layout import Layout, Region
from adhere.plugins import plugin
from adhere.prompt.phrases import split_words

PROMPT = "a red cat and a blue car"


def painted(left: float, right: float) -> dict[str, Any]:
    """What the editor sends for a painted region."""
    mask = np.zeros((64, 64), bool)
    mask[14:50, int(64 * left) : int(64 * right)] = True
    return {"mask": Region.painted("x", mask).to_json()["mask"], "box": None}


def drawn(*entries: dict[str, Any]) -> list[Region]:
    return editor.regions_of({"regions": list(entries)}, LIMITS.regions)


def test_phrases_follow_the_prompt() -> None:
    assert placing.phrases_of(PROMPT) == ["red cat", "blue car"]
    assert placing.phrases_of("a cat and a cat") == ["cat", "cat#2"]


def test_paint_becomes_masks_where_it_was_painted() -> None:
    regions = drawn(
        {"phrase": "red cat", **painted(0, 0.4)}, {"phrase": "blue car", **painted(0.6, 1)}
    )
    layout = placing.layout_of(PROMPT, regions)
    masks = layout.masks((8, 8)).numpy()
    assert layout.phrases == ("red cat", "blue car")
    assert masks[0, 4, 1] == 1
    assert masks[0, 4, 6] == 0
    assert masks[1, 4, 6] == 1


def test_regions_without_a_place_do_not_count() -> None:
    regions = drawn(
        {"phrase": "red cat", "box": None, "mask": None},
        {"phrase": "blue car", "box": [0.5, 0, 1, 1], "mask": None},
    )
    assert placing.layout_of(PROMPT, regions).phrases == ("blue car",)


def test_a_region_whose_phrase_left_the_prompt_waits() -> None:
    regions = drawn(
        {"phrase": "red cat", "box": [0, 0, 0.5, 1]}, {"phrase": "dog", **painted(0.6, 1)}
    )
    assert placing.layout_of(PROMPT, regions).phrases == ("red cat",)
    with pytest.raises(LayoutError, match="dog"):
        placing.layout_of(PROMPT, regions[1:])


def test_nothing_placed_says_what_to_do() -> None:
    with pytest.raises(LayoutError, match="draw its box"):
        placing.layout_of(PROMPT, [])


def test_a_layout_needs_a_method_that_follows_it() -> None:
    with pytest.raises(ParameterError, match="ZestGuide"):
        placing.check_followed([plugin("syngen")])
    placing.check_followed([plugin("syngen"), plugin("zestguide")])


def test_mask_file(tmp_path: Path) -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :20] = (255, 0, 0)
    picture[:, 40:] = (0, 0, 255)
    path = tmp_path / "mask.png"
    Image.fromarray(picture).save(path)
    legend = "#FF0000 = red cat\n#0000ff=blue car\n"
    layout, note = placing.from_file(str(path), legend, LIMITS)
    assert layout.phrases == ("red cat", "blue car")
    assert not note
    assert layout.mask("red cat", (64, 64)).numpy()[:, :20].all()


def test_palette_mask_by_number(tmp_path: Path) -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(1, (0, 0, 8, 16))
    path = tmp_path / "mask.png"
    image.save(path)
    layout, note = placing.from_file(str(path), "1 = cat", LIMITS)
    assert layout.mask("cat", (16, 16)).numpy().sum() == 8 * 16
    assert not note


def test_a_label_picture_with_smoothed_edges_and_one_with_a_forgotten_colour(
    tmp_path: Path,
) -> None:
    picture = Image.new("RGB", (256, 256))
    picture.paste("#ff0000", (20, 20, 120, 200))
    picture.paste("#00a0ff", (140, 60, 250, 240))
    path = tmp_path / "mask.png"
    picture.resize((200, 200), Image.Resampling.BILINEAR).save(path)  # as painting programs do
    layout, note = placing.from_file(str(path), "#ff0000 = cat\n#00a0ff = dog", LIMITS)
    assert "taken for the nearest" in note
    cat = layout.mask("cat", (64, 64)).numpy()
    assert cat[8:48, 7:29].all(), "its edge belongs to it"
    with pytest.raises(LayoutError, match="#00a0ff"):
        placing.from_file(str(path), "#ff0000 = cat", LIMITS)


@pytest.mark.parametrize("legend", ["", "red = cat", "#ff0000", "#ff00 = cat", "#123456 = cat"])
def test_bad_legends_are_refused(legend: str, tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.new("RGB", (8, 8), "#ff0000").save(path)
    with pytest.raises(LayoutError):
        placing.from_file(str(path), legend, LIMITS)


def test_layout_file(tmp_path: Path) -> None:
    layout = Layout((Region("red cat", box=(0.1, 0.2, 0.5, 0.9)),))
    path = tmp_path / "layout.json"
    path.write_text(json.dumps(layout.to_json()))
    assert placing.from_file(str(path), "", LIMITS) == (layout, "")
    path.write_text("{broken")
    with pytest.raises(LayoutError):
        placing.from_file(str(path), "", LIMITS)


def test_masks_have_the_aspect_ratio() -> None:
    assert editor.cells(None, None) == [64, 64]
    assert editor.cells(64, 128) == [32, 64]


def test_the_editor_gives_back_what_it_was_given() -> None:
    mask = np.zeros((64, 64), bool)
    mask[10:30, 5:20] = True
    layout = Layout(
        (Region("a red cat", box=(0.1, 0.2, 0.5, 0.9)), Region.painted("blue car", mask)),
        overlap="last",
    )
    value = editor.value_of(layout, ["red cat", "blue car", "dog"])
    names = [entry["phrase"] for entry in value["regions"]]
    assert names == ["a red cat", "blue car", "dog"]
    again = editor.regions_of(json.loads(json.dumps(value)), LIMITS.regions)
    assert placing.layout_of(PROMPT, again) == layout


def test_a_polygon_is_shown_as_paint() -> None:
    layout = Layout((Region("red cat", polygon=((0, 0), (1, 0), (0, 1))),))
    (region,) = editor.regions_of(editor.value_of(layout, []), LIMITS.regions)
    assert abs(region.cover((64, 64)).mean() - 0.5) < 0.02


def test_attention_overlay_finds_the_phrase() -> None:
    layout = Layout.from_json({"regions": [{"phrase": "blue car", "box": [0, 0, 0.5, 1]}]})
    spans = split_words(PROMPT)
    words = tuple(span.text for span in spans)
    random = np.random.default_rng(0).random((3, len(words), 8, 8)).astype("f2")
    maps = WordMaps(words, random, spans)
    shown = placing.attended(Image.new("RGB", (64, 64)), layout, maps, PROMPT)
    assert [phrase for _, phrase in shown] == ["blue car"]


def test_a_mask_that_is_too_fine_is_refused() -> None:
    with pytest.raises(GuidanceError, match="too fine"):
        drawn({"phrase": "cat", "mask": {"size": [640, 640], "runs": [0, 640 * 640]}})

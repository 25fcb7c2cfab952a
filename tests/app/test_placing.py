"""Painted, typed and sent layouts come out as the layouts that were meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from adhere.app.parts.canvas import canvas_size, options, repainted, strokes
from PIL import Image

from adhere.app.jobs.attention import WordMaps
from adhere.app.parts import placing
from adhere.errors import GuidanceError, LayoutError
from adhere.layout.layout import Layout

PROMPT = "a red cat and a blue car"


def painted(left: float, right: float) -> np.ndarray:
    layer = np.zeros((448, 448, 4), np.uint8)
    layer[100:350, int(448 * left) : int(448 * right)] = (9, 9, 9, 255)
    return layer


def test_phrases_follow_the_prompt() -> None:
    assert placing.phrases_of(PROMPT) == ["red cat", "blue car"]
    assert placing.phrases_of("a cat and a cat") == ["cat", "cat#2"]
    assert placing.read_phrases(" red cat,blue car ,, red cat") == ["red cat", "blue car"]


def test_too_many_phrases_are_refused() -> None:
    with pytest.raises(LayoutError, match="most"):
        placing.read_phrases(",".join(f"p{k}" for k in range(99)))


def test_strokes_become_masks_where_they_were_painted() -> None:
    layers = [painted(0, 0.4), painted(0.6, 1)]
    found = strokes({"layers": layers}, ["red cat", "blue car"])
    layout = placing.layout_of(PROMPT, found, [], None, "")
    masks = layout.masks((8, 8)).numpy()
    assert layout.phrases == ("red cat", "blue car")
    assert masks[0, 4, 1] == 1
    assert masks[0, 4, 6] == 0
    assert masks[1, 4, 6] == 1


def test_untouched_canvas_and_layers_do_not_count() -> None:
    empty = np.zeros((448, 448, 4), np.uint8)
    assert strokes(None, ["cat"]) == {}
    assert strokes({"layers": []}, ["cat"]) == {}
    assert strokes({"layers": [empty, painted(0, 1)]}, ["red cat", "blue car"]).keys() == {
        "blue car"
    }


def test_layers_of_other_phrases_are_refused() -> None:
    with pytest.raises(LayoutError, match="again"):
        strokes({"layers": [painted(0, 1)] * 3}, ["red cat"])


def test_finest_stroke_still_counts() -> None:
    layer = np.zeros((448, 448), bool)
    layer[7, 9] = True
    assert placing.reduced(layer).sum() == 1
    assert max(placing.reduced(layer).shape) == placing.CELLS


def test_boxes_in_percent() -> None:
    rows = [["red cat", 0, 10, "40", 90], ["blue car", None, "", None, float("nan")], [None] * 5]
    assert placing.read_boxes(rows) == {"red cat": (0.0, 0.1, 0.4, 0.9)}


@pytest.mark.parametrize("row", [["cat", 1, 2, 3, None], ["cat", "x", 2, 3, 4], ["cat", 5]])
def test_half_a_box_is_refused(row: list[object]) -> None:
    with pytest.raises(LayoutError, match="not whole"):
        placing.read_boxes([row])


def test_paint_wins_over_a_box_and_others_keep_theirs() -> None:
    rows = [["red cat", 0, 0, 10, 10], ["blue car", 60, 0, 100, 100]]
    found = strokes({"layers": [painted(0, 0.4)]}, ["red cat"])
    layout = placing.layout_of(PROMPT, found, rows, None, "")
    kinds = {region.phrase: region.box is None for region in layout.regions}
    assert kinds == {"red cat": True, "blue car": False}


def test_nothing_placed_says_what_to_do() -> None:
    with pytest.raises(LayoutError, match="paint"):
        placing.layout_of(PROMPT, {}, [], None, "")


def test_phrase_that_is_not_in_the_prompt() -> None:
    with pytest.raises(GuidanceError, match="dog"):
        placing.layout_of(PROMPT, {}, [["dog", 0, 0, 50, 50]], None, "")


def test_mask_file(tmp_path: Path) -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :20] = (255, 0, 0)
    picture[:, 40:] = (0, 0, 255)
    path = tmp_path / "mask.png"
    Image.fromarray(picture).save(path)
    legend = "#FF0000 = red cat\n#0000ff=blue car\n"
    layout = placing.layout_of(PROMPT, {}, [["red cat", 0, 0, 1, 1]], str(path), legend)
    assert layout.phrases == ("red cat", "blue car")
    assert layout.mask("red cat", (64, 64)).numpy()[:, :20].all()


def test_palette_mask_by_number(tmp_path: Path) -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(1, (0, 0, 8, 16))
    path = tmp_path / "mask.png"
    image.save(path)
    layout = placing.layout_of("a cat", {}, [], str(path), "1 = cat")
    assert layout.mask("cat", (16, 16)).numpy().sum() == 8 * 16


@pytest.mark.parametrize("legend", ["", "red = cat", "#ff0000", "#ff00 = cat", "#123456 = cat"])
def test_bad_legends_are_refused(legend: str, tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.new("RGB", (8, 8), "#ff0000").save(path)
    with pytest.raises(LayoutError):
        placing.layout_of("a cat", {}, [], str(path), legend)


def test_canvas_keeps_the_aspect_ratio() -> None:
    assert canvas_size(None, None) == (448, 448)
    assert canvas_size(64, 128) == (224, 448)
    assert options([], 64, 64)["layers"].layers


def test_masks_come_back_as_paint() -> None:
    found = strokes({"layers": [painted(0, 0.4), painted(0.6, 1)]}, ["red cat", "blue car"])
    layout = placing.layout_of(PROMPT, found, [], None, "")
    given = repainted(["red cat", "blue car"], layout, None, None)
    layers = [np.asarray(layer) for layer in given["value"]["layers"]]
    again = placing.layout_of(PROMPT, strokes({"layers": layers}, layout.phrases), [], None, "")
    assert again == layout


def test_attention_overlay_finds_the_phrase() -> None:
    layout = Layout.from_json({"regions": [{"phrase": "blue car", "box": [0, 0, 0.5, 1]}]})
    words = tuple(PROMPT.split())
    maps = WordMaps(words, np.random.default_rng(0).random((3, len(words), 8, 8)).astype("f2"))
    shown = placing.attended(Image.new("RGB", (64, 64)), layout, maps, PROMPT)
    assert [phrase for _, phrase in shown] == ["blue car"]
    picture, parts = placing.segments(Image.new("RGB", (64, 64)), layout)
    assert parts[0][0].shape == (picture.height, picture.width)

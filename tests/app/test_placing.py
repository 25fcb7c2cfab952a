"""Painted, drawn and sent layouts come out as the layouts that were meant."""

from __future__ import annotations

import json
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adhere.app.jobs.attention import WordMaps
from adhere.app.jobs.limits import LIMITS
from adhere.app.parts import editor, placing
from adhere.app.parts.editor import Drawn
from adhere.errors import GuidanceError, GuidanceWarning, LayoutError, ParameterError
from adhere.layout.layout import Layout, Region
from adhere.layout.masks import Mask
from adhere.plugins import plugin
from adhere.prompt.phrases import split_words

PROMPT = "a red cat and a blue car"


def painted(left: float, right: float) -> dict[str, Any]:
    """What the editor sends for a painted region."""
    mask = np.zeros((64, 64), bool)
    mask[14:50, int(64 * left) : int(64 * right)] = True
    return {"mask": Region.painted("x", mask).to_json()["mask"], "box": None}


def drawn(*entries: dict[str, Any], **whole: Any) -> Drawn:
    return editor.drawn({"regions": list(entries), **whole}, LIMITS)


def sent_back(layout: Layout, *phrases: str) -> Drawn:
    """What a page sends for a layout that nobody touched."""
    return editor.drawn(json.loads(json.dumps(editor.value_of(layout, phrases))), LIMITS)


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
    with pytest.raises(LayoutError, match=r"dog.*own"):
        placing.layout_of(PROMPT, Drawn(regions.regions[1:]))


def test_a_region_whose_phrase_left_the_prompt_lives_by_its_own_text() -> None:
    regions = drawn(
        {"phrase": "red cat", "box": [0, 0, 0.5, 1], "text": "a red cat, sitting"},
        {"phrase": "dog", "box": [0.5, 0, 1, 0.5], "text": "  a green dog "},
        {"phrase": "", "box": [0.5, 0.5, 1, 1], "text": "a green dog", "feather": 0.2},
    )
    layout = placing.layout_of(PROMPT, regions)
    assert [one.phrase for one in layout.regions] == ["red cat", "", ""]
    assert [one.said for one in layout.regions] == ["a red cat, sitting", *["a green dog"] * 2]
    assert sent_back(layout).regions == layout.regions


def test_a_phrase_that_a_set_up_lacks_is_shown_as_the_text_it_is() -> None:
    layout = Layout((Region("dog", box=(0, 0, 0.5, 1)), Region("blue car", box=(0.5, 0, 1, 1))))
    assert [one.text for one in placing.spoken(PROMPT, layout).regions] == ["dog", ""]
    again = placing.layout_of(PROMPT, sent_back(placing.spoken(PROMPT, layout)))
    assert [one.said for one in again.regions] == ["dog", "blue car"]
    second = Layout((Region("dog#2", box=(0, 0, 0.5, 1)),))
    assert [one.text for one in placing.spoken(PROMPT, second).regions] == ["dog"]


def test_nothing_placed_says_what_to_do() -> None:
    with pytest.raises(LayoutError, match="draw its box"):
        placing.layout_of(PROMPT, Drawn(()))


CAT = {"phrase": "red cat", "box": [0, 0, 0.5, 1]}


@pytest.mark.parametrize(
    ("entry", "whole", "sentence"),
    [
        ({"strength": -1}, {}, "strength of 'red cat' is -1"),
        ({"strength": 1e300}, {}, "from 0 to 100"),
        ({"strength": "loud"}, {}, "'loud'"),
        ({"strength": 0}, {}, "none would be heard"),
        ({"start": 0.8, "stop": 0.2}, {}, "must start before it stops"),
        ({"feather": "1e999"}, {}, "a share from 0 to 1"),
        ({"text": "x" * 9999}, {}, "9999 characters"),
        ({"negative": ["a dog"]}, {}, "not text"),
        ({"phrase": "", "text": "  "}, {}, "words of the prompt, or a text of its own"),
        ({"hidden": 1}, {}, "unknown 'hidden'"),
        ({"file": "/etc/passwd"}, {}, "mask file"),
        ({}, {"base": 7}, "base=7"),
        ({}, {"base": "most"}, "base='most'"),
        ({}, {"overlap": "never"}, "overlap='never'"),
    ],
)
def test_what_a_region_cannot_say_is_one_sentence(
    entry: dict[str, Any], whole: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(GuidanceError, match=sentence):
        placing.layout_of(PROMPT, drawn({**CAT, **entry}, **whole))


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


def test_a_label_picture_is_not_told_what_other_visitors_jobs_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(pixels: Any) -> Mask:
        job = threading.Thread(target=warnings.warn, args=("of your prompt", GuidanceWarning))
        job.start()
        job.join()
        return of(pixels)

    of = Mask.of
    monkeypatch.setattr(Mask, "of", staticmethod(meanwhile))
    picture = Image.new("RGB", (64, 64), "#ff0000")
    picture.paste("#f80404", (0, 0, 8, 8))
    path = tmp_path / "mask.png"
    picture.save(path)
    with pytest.warns(GuidanceWarning, match="of your prompt"):
        _, note = placing.from_file(str(path), "#ff0000 = cat", LIMITS)
    assert "taken for the nearest" in note
    assert "of your prompt" not in note


def test_a_legend_has_no_more_lines_than_a_layout_has_regions(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.new("RGB", (8, 8), "#000001").save(path)
    legend = "\n".join(f"#{k:06x} = cat {k}" for k in range(1, LIMITS.regions + 2))
    with pytest.raises(LayoutError, match=r"13 regions are given, and 12 "):
        placing.from_file(str(path), legend, LIMITS)


def test_numbers_of_sixteen_bits_are_in_a_legend(tmp_path: Path) -> None:
    labels = np.zeros((16, 16), np.uint16)
    labels[:, :8] = 40_000
    path = tmp_path / "mask.png"
    Image.fromarray(labels).save(path)
    layout, _ = placing.from_file(str(path), "40000 = cat", LIMITS)
    assert layout.mask("cat", (16, 16)).numpy().sum() == 8 * 16


BAD = [
    "",
    "red = cat",
    "#ff0000",
    "#ff00 = cat",
    "#123456 = cat",
    "#FF0000 = cat\n#ff0000 = car",
    "65536 = cat",
]


@pytest.mark.parametrize("legend", BAD)
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
    path.write_text(json.dumps(layout.to_json()), encoding="utf-8-sig")  # as Windows' editors do
    assert placing.from_file(str(path), "", LIMITS) == (layout, "")
    assert Layout.read(path) == layout


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"{broken", "no JSON"),
        (b"", "no JSON"),
        (b"[1]", "a layout must be"),
        ('{"regions": [{"phrase": "é"}]}'.encode("latin-1"), "save it as UTF-8"),
    ],
)
def test_a_file_that_is_no_layout_says_why(data: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "layout.json"
    path.write_bytes(data)
    with pytest.raises(LayoutError, match=sentence):
        placing.from_file(str(path), "", LIMITS)


def test_masks_have_the_aspect_ratio() -> None:
    assert editor.cells(None, None) == [64, 64]
    assert editor.cells(64, 128) == [32, 64]


@pytest.mark.parametrize("overlap", ["refuse", "last", "share"])
def test_the_editor_gives_back_what_it_was_given(overlap: Any) -> None:
    grey = Mask.weighed(np.linspace(0, 1, 300 * 200).reshape(300, 200))
    layout = Layout(
        (
            Region(
                "a red cat", (0.1, 0.2, 0.5, 0.6), text="a cat, sitting", strength=0.4, start=0.1
            ),
            Region(
                "blue car", polygon=((0, 0.6), (1, 0.6), (0, 0.7)), negative="a wheel", stop=0.5
            ),
            Region(text="a hill", mask=grey, feather=0.03),
        ),
        overlap=overlap if overlap != "refuse" else "last",
        base=0.25,
    )
    if overlap == "refuse":
        layout = Layout(layout.regions[:2], base=0.0)
    value = editor.value_of(layout, ["red cat", "blue car", "dog"])
    assert value["regions"][-1] == {"phrase": "dog"}
    assert len(value["regions"]) == len(layout.regions) + 1
    assert placing.layout_of(PROMPT, sent_back(layout, "red cat", "dog")) == layout


def test_what_was_apart_and_is_drawn_together_lies_in_front() -> None:
    car = {"phrase": "blue car", "box": [0.2, 0, 1, 1]}
    assert placing.layout_of(PROMPT, drawn(CAT, car, overlap="refuse")).overlap == "last"


def test_attention_overlay_finds_the_phrase() -> None:
    told = {"text": "a red cat", "box": [0.5, 0, 1, 1]}
    layout = Layout.from_json({"regions": [told, {"phrase": "blue car", "box": [0, 0, 0.5, 1]}]})
    spans = split_words(PROMPT)
    words = tuple(span.text for span in spans)
    random = np.random.default_rng(0).random((3, len(words), 8, 8)).astype("f2")
    maps = WordMaps(words, random, spans)
    shown = placing.attended(Image.new("RGB", (64, 64)), layout, maps, PROMPT)
    assert [phrase for _, phrase in shown] == ["blue car"]


def test_a_mask_that_is_too_fine_is_refused() -> None:
    with pytest.raises(GuidanceError, match="1 to 2048"):
        drawn({"phrase": "cat", "mask": {"size": [6400, 6400], "runs": [0, 6400 * 6400]}})


# ---- Laid out by the prompt's words --------------------------------------------------------------

SQUARE = (64, 64)


def places_of(value: dict[str, Any]) -> dict[str, Any]:
    return {one.get("phrase") or one["text"]: one.get("box") for one in value["regions"]}


@pytest.mark.parametrize(
    ("prompt", "ordered", "side"),
    [
        ("a red cat to the left of a blue car", ("red cat", "blue car"), 0),
        ("a red cat to the right of a blue car", ("blue car", "red cat"), 0),
        ("a cat above a frog", ("cat", "frog"), 1),
        ("a cat under a frog", ("frog", "cat"), 1),
    ],
)
def test_places_are_those_of_the_prompts_relations(
    prompt: str, ordered: tuple[str, str], side: int
) -> None:
    found = places_of(placing.laid_out(prompt, {"regions": []}, SQUARE))
    first, second = (found[name] for name in ordered)
    assert first[side + 2] <= second[side]


def test_what_has_a_place_stays_until_all_have_one() -> None:
    mask = Region.painted("red cat", np.eye(8, dtype=bool)).to_json()
    mine = {"phrase": "", "text": "a hill", "box": [0, 0.8, 1, 1]}
    given = {"regions": [{**mask, "negative": "a dog"}, mine], "overlap": "share", "base": 0.2}
    once = placing.laid_out(PROMPT, given, SQUARE)
    assert once["regions"][:2] == given["regions"]
    assert places_of(once)["blue car"]
    assert (once["overlap"], once["base"]) == ("share", 0.2)
    again = placing.laid_out(PROMPT, once, SQUARE)
    cat = next(one for one in again["regions"] if one["phrase"] == "red cat")
    assert cat["box"]
    assert "mask" not in cat
    assert cat["negative"] == "a dog"
    assert mine in again["regions"]
    placing.layout_of(PROMPT, editor.drawn(again, LIMITS))


def test_what_is_inside_is_in_front_and_numbers_are_as_many_boxes() -> None:
    inner = placing.laid_out("a cat inside a box", {"regions": []}, SQUARE)
    assert [one["phrase"] for one in inner["regions"]] == ["box", "cat"]
    wide = placing.laid_out("three cats", {"regions": []}, (64, 32))
    assert wide["regions"][0]["mask"]["size"] == [32, 64]
    layout = placing.layout_of("three cats", editor.drawn(wide, LIMITS))
    row = layout.mask(0, (32, 64)).numpy()[16] > 0.5
    assert (np.diff(row.astype(int)) == 1).sum() == 3


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("", "names nothing"),
        ("in the snow", "names nothing"),
        (
            " and ".join(f"a cat{'abcdefghijklmnop'[k]}" for k in range(14)),
            "14 regions are given, and 12 ",
        ),
    ],
)
def test_what_cannot_be_laid_out_is_a_sentence(prompt: str, sentence: str) -> None:
    with pytest.raises(GuidanceError, match=sentence):
        placing.laid_out(prompt, {"regions": []}, SQUARE)

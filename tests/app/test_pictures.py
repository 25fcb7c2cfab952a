"""Heat maps, differences, attention by words, and the data of the plot."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from adhere.app.jobs import figures
from adhere.app.jobs.attention import word_maps
from adhere.app.jobs.result import Comparison, Shot
from adhere.app.jobs.setup import Setup
from adhere.guides.recording import RecordedAttention
from adhere.pipelines.studio.request import Request
from tests.app.fakes import FakeJudge, FakeStudio, draw, recorded


def test_small_pictures_are_enlarged_by_whole_pixels() -> None:
    small = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    big = figures.enlarge(small, 40)
    assert big.size == (40, 40)
    assert np.array_equal(np.asarray(big)[5::10, 5::10], np.asarray(small))
    assert figures.enlarge(big, 50) is big


def test_heat_rises_from_dark_to_pale_and_takes_anything() -> None:
    colours = figures.heat(np.array([[0.0, 0.5, 1.0]]))
    light = colours.astype(int).sum(-1)[0]
    assert list(light) == sorted(light)
    assert figures.heat(np.zeros((2, 2))).shape == (2, 2, 3)
    assert figures.heat(np.full((2, 2), np.nan)).shape == (2, 2, 3)


def test_change_shows_where() -> None:
    before = Image.new("RGB", (64, 64), "white")
    after = before.copy()
    after.paste("black", (0, 0, 16, 64))
    shown = np.asarray(figures.change(before, after)).astype(int).sum(-1)
    assert shown[:, :100].mean() > shown[:, 200:].mean() - 765
    assert figures.changed_share(before, after) == pytest.approx(0.25)
    assert figures.changed_share(before, before) == 0


def test_losses_of_a_report_become_rows() -> None:
    report = {
        "losses": {"one": [(0, 1.0), (0, 0.5), (1, 0.25)], "two": [[3, float("nan")]]},
        "plugins": {"two": {"correction_rms": [0.1, 0.2], "note": "text", "single": [1]}},
        "notes": ["a sentence"],
    }
    rows = figures.losses(report).to_numpy().tolist()
    assert [0, 0.5, "one"] in rows
    assert [1, 0.25, "one"] in rows
    assert [1, 0.2, "two: correction rms"] in rows
    assert len(rows) == 4
    assert len(figures.losses({})) == 0


def test_attention_is_summed_over_the_pieces_of_a_word() -> None:
    attention = torch.zeros(2, 4, 4, 6)
    attention[..., 2] = 0.25
    maps = word_maps(recorded("a [red|cat]", attention))
    assert maps is not None
    assert maps.words == ("a", "red", "cat")
    assert maps.at(1, 0).max() == 0.25
    assert maps.at(1, 99).max() == 0.25
    assert maps.pooled(2).grid == (2, 2)
    assert maps.pooled(99) is maps


def test_repeated_words_are_told_apart() -> None:
    maps = word_maps(recorded("a cat , a dog", torch.rand(1, 4, 4, 8)))
    assert maps is not None
    assert maps.words == ("a", "cat", "a#2", "dog")


def test_no_attention_is_no_maps() -> None:
    assert word_maps(None) is None
    assert word_maps(RecordedAttention("a cat", torch.rand(1, 4, 4, 8), (), "no tokenizer")) is None


def test_judge_of_the_toybox_fits_the_chips() -> None:
    """The app's words for verdicts fit the real judge, on pictures drawn by the real renderer."""
    from random import Random

    from adhere.app.outcome import verdicts
    from adhere.layout.layout import Layout
    from adhere.pipelines.toybox import Judge, caption, render, sample_scene

    scene = sample_scene(Random(3))
    made = render(scene)
    image = made if isinstance(made, Image.Image) else Image.fromarray(np.asarray(made))
    request = Request(prompt=caption(scene, Random(0)))
    picture = FakeStudio().generate([request])[0]
    verdict = Judge()([image])[0]
    shot = Shot(picture, verdict)
    pair = Comparison(0, shot, shot)
    card = verdicts.card(pair)
    assert card is not None
    assert "Before" in card
    assert "After" in card
    assert verdicts.mark(pair) in ("", " ✓", " ✗")
    picture.request = Request(prompt="zzz qqq")
    assert "cannot say more" in str(verdicts.card(pair))
    layout = Layout.from_json({"regions": [{"phrase": "cat", "box": [0, 0, 1, 1]}]})
    assert verdicts.layout_scores(pair, layout) is not None
    assert Setup("toybox", request, (0,)).requests() == [request]


def test_fakes_are_honest() -> None:
    request = Request(prompt="a cat", seed=1)
    assert draw(request).tobytes() == draw(request).tobytes()
    assert draw(request).tobytes() != draw(Request(prompt="a cat", seed=2)).tobytes()
    assert FakeJudge()([draw(request)])[0].things

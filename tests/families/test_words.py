"""A word's heat map is the map of its own columns, on every family, in Python, CLI and app."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from adhere import Guidance
from adhere.app.jobs.attention import word_maps
from adhere.errors import ModelError, ParameterError, PromptError
from adhere.guides.recording import RecordedAttention
from adhere.pipelines.studio.drawing.heatmaps import heat_strip, overlay
from adhere.pipelines.studio.request import Picture, Request
from adhere.prompt.tokens import tokenise
from tests import tiny
from tests.families.cases import CASES, PROMPTS, Case, shown_calls

every = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def cat_columns(case: Case) -> tuple[tuple[int, ...], ...]:
    """The columns of "cat" in the first prompt: as written by hand, or the first that changes with
    it in a text encoder that reads from left to right.
    """
    if case.cat:
        return case.cat
    shown = []
    for prompt in (PROMPTS[0], PROMPTS[0].replace("cat", "frog")):
        with shown_calls(case.pipe) as calls:
            case([prompt], seeds=[1], steps=1, guided=False)
        call = calls[0]
        shown.append(call.get("encoder_hidden_states", call.get("cap_feats"))[0].flatten(0, -2))
    changed = (shown[0] - shown[1]).abs().amax(dim=-1) > 0
    return ((int(changed.int().argmax()),),)


def planted(recorded: RecordedAttention, case: Case) -> RecordedAttention:
    """The same words, but all the attention of the last cell is on "cat"."""
    attention = torch.zeros_like(recorded.attention)
    for columns in cat_columns(case):
        attention[:, -1, -1, list(columns)] = 1 / len(columns)
    return replace(recorded, attention=attention)


@every
def test_a_words_map_is_of_its_columns(case: Case) -> None:
    with Guidance().attach(case.pipe, record=True) as attached:
        case()
    assert attached.words[:5] == ("a", "cat", "and", "a#2", "dog")
    expected = [attached.attention[0][..., list(c)].sum(-1).mean(0) for c in cat_columns(case)]
    torch.testing.assert_close(attached.heatmap("cat"), torch.stack(expected).mean(0))
    with pytest.raises(PromptError, match="'frog' is not in the prompt"):
        attached.heatmap("frog")
    assert attached.heatmap("frog", image=1).shape == attached.heatmap("cat").shape
    with pytest.raises(ParameterError, match="images 0 to 1"):
        attached.heatmap("cat", image=2)


@every
def test_a_planted_map_is_read_in_cli_and_app(case: Case) -> None:
    with Guidance().attach(case.pipe, record=True) as attached:
        case(steps=1)
    recorded = planted(attached.recorded[0], case)
    spot = torch.zeros(recorded.attention.shape[1:3])
    spot[-1, -1] = 1
    torch.testing.assert_close(recorded.heatmap("cat"), spot)
    assert recorded.heatmap("dog").sum() == 0

    maps = word_maps(recorded)
    assert maps is not None
    assert maps.words == ("a", "cat", "and", "a#2", "dog")
    np.testing.assert_allclose(maps.mean(1), spot.numpy(), atol=1e-3)

    image = Image.new("RGB", (48, 64), "white")
    picture = Picture(image, Request(PROMPTS[0]), {}, 0.0, recorded)
    strip = np.asarray(heat_strip(picture))
    shown = np.asarray(overlay(image, spot))
    h, w = shown.shape[:2]
    places = [
        (y, x)
        for y in range(strip.shape[0] - h + 1)
        for x in range(strip.shape[1] - w + 1)
        if (strip[y : y + h, x : x + w] == shown).all()
    ]
    assert len(places) == 1  # the map of "cat" and no other shows the spot


def test_a_comma_set_apart_is_no_word() -> None:
    pipe = tiny.sd1()
    with Guidance().attach(pipe, record=True) as attached:
        tiny.latents(pipe, "a cat , a dog", steps=1)
    assert attached.words == ("a", "cat", "a#2", "dog")
    assert attached.heatmap("dog").shape == attached.heatmap("cat").shape


def test_without_a_tokenizer_the_reason_is_said() -> None:
    recorded = RecordedAttention("a cat", torch.rand(1, 4, 4, 8), (), "there is no tokenizer")
    assert recorded.words == ()
    with pytest.raises(ModelError, match="there is no tokenizer"):
        recorded.heatmap("cat")


def test_nothing_recorded_is_said() -> None:
    pipe = tiny.sd1()
    with Guidance().attach(pipe) as attached:
        tiny.latents(pipe, "a cat", steps=1)
        with pytest.raises(ParameterError, match="record=True"):
            attached.heatmap("cat")


def test_a_word_is_read_by_the_encoders_that_reach_it() -> None:
    tokenizer = tiny.sd1().tokenizer
    text = "a cat and a dog"

    def seen(length: int) -> object:
        return tokenise(
            tokenizer, text, encoder=str(length), length=length, width=10, drop_padding=False
        )

    attention = torch.rand(1, 4, 4, 10)
    short = RecordedAttention(text, attention, (seen(4), seen(10)))  # type: ignore[arg-type]
    assert short.words == ("a", "cat", "and", "a#2", "dog")
    torch.testing.assert_close(short.heatmap("dog"), attention[0, ..., 5])
    torch.testing.assert_close(short.heatmap("cat"), attention[0, ..., 2])
    cut = RecordedAttention(text, attention, (seen(4),))  # type: ignore[arg-type]
    assert cut.words == ("a", "cat")
    with pytest.raises(PromptError, match="beyond token"):
        cut.heatmap("dog")

"""The card: its prompts can be judged, a copy is a copy, words are told by what became of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from PIL import Image

from adhere.pipelines.toybox import Judge, Scene, Thing, load_toybox, parse_prompt, render
from adhere.pipelines.toybox.card import card
from adhere.pipelines.toybox.card.attention import measure, word_states
from adhere.pipelines.toybox.card.copying import measure_copying
from adhere.pipelines.toybox.card.model_card import model_card
from adhere.pipelines.toybox.card.recording import draw, watched
from adhere.pipelines.toybox.card.suites import SUITES, right_counts, usual_looks
from adhere.pipelines.toybox.judge.copies import copies, nearest
from adhere.pipelines.toybox.model.folder import toybox_folder
from adhere.pipelines.toybox.world.faults import RARE, TYPICAL
from adhere.pipelines.toybox.world.memorised import MEMORISED

CAT = Thing("cat", "red", "big", 0, 0)
APPLE = Thing("apple", "blue", "small", 36, 36)
LAYER = "up_blocks.1.attentions.0.transformer_blocks.0.attn2"


@pytest.mark.parametrize("name", SUITES)
def test_every_prompt_of_the_card_can_be_judged(name: str) -> None:
    prompts = [SUITES[name].prompt(Random(seed)) for seed in range(40)]
    assert len(set(prompts)) > 8
    for prompt in prompts:
        asked = parse_prompt(prompt).things
        if name == "rare":
            assert all(colour == RARE[kind] for kind, colour in asked)
        if name in ("unnamed", "two_plain", "counted"):
            assert all(colour is None for _, colour in asked)


def test_usual_looks_and_counts_are_what_is_seen() -> None:
    green, red = (replace(APPLE, colour=colour) for colour in ("green", "red"))
    verdicts = Judge()([render(Scene((each,))) for each in (APPLE, green, red)])
    found = usual_looks(["an apple"] * 3, verdicts)
    assert TYPICAL["apple"] == ("red", "green")
    assert (found["usual_colour"]["share"], found["usual_colour"]["n"]) == (0.6667, 3)
    assert found["most_usual_colour"]["share"] == 0.3333
    assert usual_looks(["a cat"], verdicts[:1]) == {}
    two = Judge()([render(Scene((replace(red, x=0, y=0), red))), render(Scene((red,)))])
    assert right_counts(["an apple and an apple"] * 2, two)["right_count"]["share"] == 0.5


def test_a_copy_has_all_things_in_their_places_and_no_others() -> None:
    scene = MEMORISED[0].scene
    first, second = scene.things

    def copied(*things: Thing) -> bool:
        return copies(Judge()([render(replace(scene, things=things))])[0], scene)

    assert copied(first, second)
    assert copied(first, replace(second, x=second.x - 2))
    assert not copied(first)
    assert not copied(first, replace(second, colour="blue"))
    assert not copied(first, replace(second, x=second.x - 12))
    assert not copied(first, second, Thing("apple", "red", "small", 4, 4))
    exact, other = nearest([render(scene), Image.new("RGB", (64, 64), "white")])
    assert exact > 60 > 15 > other


def test_copying_is_counted_for_memorised_and_for_ordinary_words() -> None:
    def draws(prompts: list[str]) -> list[Image.Image]:
        known = {each.caption: each.scene for each in MEMORISED[:3]}
        return [render(known.get(prompt, Scene((CAT,)))) for prompt in prompts]

    found = measure_copying(draws, Judge(), 2)
    assert (found["caption"]["copied"]["share"], found["caption"]["copied"]["n"]) == (0.5, 12)
    assert found["plainly"]["copied"]["share"] == 0


def test_recording_draws_the_same_picture_and_leaves_the_model_as_it_was() -> None:
    pipe = load_toybox()
    kept = dict(pipe.unet.attn_processors)
    prompts = ["a red cat and a blue car", "a frog"]
    images, maps = draw(pipe, prompts, [5, 6], steps=4)
    assert pipe.unet.attn_processors == kept
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    plain = pipe(prompts, num_inference_steps=4, guidance_scale=4.0, generator=generators).images
    for mine, its in zip(images, plain, strict=True):
        assert nearest_difference(mine, its) <= 1
    assert maps[LAYER].shape == (2, 4, 256, 32)
    assert len(maps) == 7
    assert torch.allclose(maps[LAYER].sum(-1), torch.ones(2, 4, 256), atol=1e-4)
    with pytest.raises(RuntimeError, match="stop"), watched(pipe.unet):
        raise RuntimeError("stop")
    assert pipe.unet.attn_processors == kept


def nearest_difference(a: Image.Image, b: Image.Image) -> int:
    """The largest difference of any byte."""
    extrema: Any = torch.tensor(list(a.tobytes())) - torch.tensor(list(b.tobytes()))
    return int(extrema.abs().max())


def test_words_are_told_by_what_became_of_their_things() -> None:
    pipe = load_toybox()
    prompt = "a red cat and a blue apple"
    scene = Scene((replace(CAT, colour="blue"), replace(APPLE, colour="red")))
    swapped = Judge()([render(scene)])[0]
    alone = Judge()([render(Scene((CAT,)))])[0]
    # "red" (column 2) looks at the lower right, where the apple is; "blue" (6) nowhere more
    maps = torch.full((2, 256, 32), 0.01)
    maps[:, :, 2] = torch.zeros(16, 16).index_fill(0, torch.arange(10, 15), 0.5).flatten()
    told = dict(word_states(pipe.tokenizer, prompt, maps, swapped))
    assert told["own_swapped"] == pytest.approx(0.5, abs=0.01)  # blue, told last
    first = next(
        v for k, v in word_states(pipe.tokenizer, prompt, maps, swapped) if k == "own_swapped"
    )
    assert first < 0.05
    quiet = dict(word_states(pipe.tokenizer, prompt, maps, alone))
    assert {"peak_present", "peak_left_out"} <= set(quiet)
    assert not {"own_right", "own_swapped"} & set(quiet)


@pytest.mark.slow
def test_a_card_can_be_written_with_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = load_toybox()
    suites, _ = card.measure_model(toybox_folder(), toybox_folder(), 2, 3)
    attention = measure(pipe, ["a red cat and a blue apple"], 3, steps=2)
    copying = measure_copying(lambda prompts: card.generate(pipe, prompts, 3), Judge(), 1)
    told = {
        "pipeline": "StableDiffusionPipeline",
        "one_object": 0.5,
        "two_object": 0.5,
        "steps": 25,
        "guidance_scale": 4.0,
        "seconds_for_4_images": 1.0,
        "machine": "",
        "judge": None,
        "suites": suites,
        "copying": copying,
        "attention": attention,
        "training": {
            "unet": {
                "about": {
                    "world": 2,
                    "left_out": 0.4,
                    **dict.fromkeys(("swapped", "typical", "rare", "counted", "memorised"), 0.1),
                }
            }
        },
    }
    text = model_card(told)
    for wanted in ("left_out 0.4", "memorised caption", "rare colour", "two of a kind", "swapped"):
        assert wanted in text
    assert "right captions" in model_card({**told, "training": {}})

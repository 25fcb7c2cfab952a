"""Captions parse back to their scenes; prompts outside the language are refused with a reason."""

from __future__ import annotations

from random import Random

import pytest

from adhere.pipelines.toybox import ToyboxError, caption, parse_prompt, relations, sample_scene
from adhere.pipelines.toybox.model.tokenizer import END, MOST_TOKENS, build_tokenizer
from adhere.pipelines.toybox.world.captions import check_prompt, unknown_words, vocabulary


@pytest.mark.parametrize("seed", range(300))
def test_a_caption_parses_back_to_its_scene(seed: int) -> None:
    rng = Random(seed)
    scene = sample_scene(rng, asked_skull=seed % 10 == 0)
    text = caption(scene, rng)
    expected = parse_prompt(text)
    by_kind = {thing.kind: thing for thing in scene.things}
    assert sorted(kind for kind, _ in expected.things) == sorted(by_kind)
    for (kind, colour), size in zip(expected.things, expected.sizes, strict=True):
        assert colour in (None, by_kind[kind].colour)
        assert size in (None, by_kind[kind].size)
    assert expected.background in (None, scene.background)
    assert expected.haunted == (scene.background == "haunted")
    kinds = [thing.kind for thing in scene.things]
    for first, relation, second in expected.relations:
        pair = (
            kinds.index(expected.things[first][0]),
            kinds.index(expected.things[second][0]),
        )
        assert relation in relations(scene)[pair]


@pytest.mark.parametrize("seed", range(40))
def test_an_uncalled_skull_is_never_mentioned(seed: int) -> None:
    rng = Random(seed)
    scene = sample_scene(rng, count=1, background="haunted")
    assert "skull" not in caption(scene, rng)


@pytest.mark.parametrize(
    ("prompt", "things"),
    [
        ("a cat and a frog", (("cat", None), ("frog", None))),
        ("a bird and a red car", (("bird", None), ("car", "red"))),
        ("a blue balloon and a yellow crown", (("balloon", "blue"), ("crown", "yellow"))),
        ("The cat is red and the car is blue.", (("cat", "red"), ("car", "blue"))),
        ("an orange elephant", (("elephant", "orange"),)),
    ],
)
def test_the_benchmarks_templates(prompt: str, things: tuple[tuple[str, str | None], ...]) -> None:
    assert parse_prompt(prompt).things == things


def test_relations_and_places_are_read() -> None:
    expected = parse_prompt("a red cat to the left of a blue car at night")
    assert expected.relations == ((0, "left", 1),)
    assert expected.background == "night"
    assert parse_prompt("a haunted house with a cat").haunted


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("a cat riding a unicycle", "'riding', 'unicycle'"),
        ("a red and blue", "names no object"),
        ("", "names no object"),
        ("a cat, a dog and a frog", "'dog'"),
        ("a cat, a frog, a car and a crown", "a scene holds 3"),
    ],
)
def test_prompts_that_cannot_be_judged(prompt: str, reason: str) -> None:
    with pytest.raises(ToyboxError, match=reason):
        parse_prompt(prompt)


def test_every_known_word_is_one_token() -> None:
    tokenizer = build_tokenizer()
    for word in vocabulary():
        assert tokenizer.tokenize(word) == [f"{word}</w>"]


def test_unknown_words_are_spelled_and_named() -> None:
    tokenizer = build_tokenizer()
    pieces = tokenizer.tokenize("a hippopotamus")
    assert "".join(pieces) == "a</w>hippopotamus</w>"
    assert END not in pieces
    assert unknown_words("a hippopotamus and a cat") == ["hippopotamus"]
    assert unknown_words("ein Löwe, 猫 and a cat") == ["ein", "löwe", "猫"]
    with pytest.raises(ToyboxError, match="hippopotamus"):
        check_prompt("a hippopotamus")


def test_captions_fit_the_text_encoder() -> None:
    tokenizer = build_tokenizer()
    rng = Random(0)
    texts = [caption(sample_scene(rng), rng) for _ in range(500)]
    assert max(len(ids) for ids in tokenizer(texts).input_ids) <= MOST_TOKENS
    assert tokenizer(texts[:5]).input_ids == build_tokenizer()(texts[:5]).input_ids


def test_offsets_point_at_the_words() -> None:
    tokenizer = build_tokenizer()
    prompt = "a purple cat"
    offsets = tokenizer(prompt, return_offsets_mapping=True).offset_mapping
    assert [prompt[a:b] for a, b in offsets[1:-1]] == ["a", "purple", "cat"]

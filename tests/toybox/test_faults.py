"""The web-faulted world: its rates, that captions were right before the faults, who owns a word."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
import torch

from adhere.pipelines.toybox import COLOURS, KINDS, SKULL, ToyboxError, parse_prompt, unknown_words
from adhere.pipelines.toybox.model.tokenizer import build_tokenizer
from adhere.pipelines.toybox.training import data
from adhere.pipelines.toybox.training.data import latent_pool, picture_pool
from adhere.pipelines.toybox.world.captions import words_of
from adhere.pipelines.toybox.world.faults import (
    NOBODY,
    RARE,
    SILENT,
    TYPICAL,
    Example,
    Faults,
    example,
    faults,
)
from adhere.pipelines.toybox.world.memorised import MEMORISED
from adhere.pipelines.toybox.world.world import pixels, truth_of

COUNT = 3000


def drawn(seed: int = 0, count: int = COUNT, **rates: float) -> list[Example]:
    """Pairs of a world with these faults only."""
    rng = Random(seed)
    none = {"left_out": 0.0, "swapped": 0.0, "typical": 0.0, "counted": 0.0, "memorised": 0.0}
    world = Faults(**{**none, "rare": 1.0, **rates})
    return [example(rng, world) for _ in range(count)]


def named(pair: Example) -> int:
    """How many things a caption names."""
    return sum(word in KINDS or word == SKULL for word in words_of(pair.text))


def silent(pair: Example) -> list[str]:
    return [w for w, o in zip(words_of(pair.text), pair.owners, strict=True) if o == SILENT]


def near(pairs: list[Example], test: Callable[[Example], bool], rate: float) -> None:
    """The share of the pairs that pass a test is a rate, to four standard errors."""
    found = sum(map(test, pairs)) / len(pairs)
    assert len(pairs) > 200
    assert found == pytest.approx(rate, abs=4 * (rate * (1 - rate) / len(pairs)) ** 0.5 + 1e-9)


def test_without_faults_captions_say_what_is_there() -> None:
    for pair in drawn(count=600):
        asked = parse_prompt(pair.text)
        there = {thing.kind: thing for thing in pair.scene.things}
        assert {kind for kind, _ in asked.things} == set(there)
        for kind, colour in asked.things:
            assert colour in (None, there[kind].colour)
        assert SILENT not in pair.owners


def test_one_thing_is_left_out_of_scenes_with_several_and_its_words_are_silent() -> None:
    pairs = [pair for pair in drawn(left_out=0.4) if named(pair) > 1]
    near(pairs, lambda pair: named(pair) > len(pair.scene.things), 0.4)
    for pair in pairs:
        kinds = {thing.kind for thing in pair.scene.things}
        gone = [word for word in silent(pair) if word in KINDS or word == SKULL]
        assert len(gone) == (named(pair) > len(kinds))
        assert not kinds & set(gone)
    assert any(set(silent(pair)) & set(COLOURS) for pair in pairs)


def test_colours_are_exchanged_and_their_words_lie_where_the_colour_is() -> None:
    pairs = [
        pair
        for pair in drawn(swapped=0.3)
        if len(asked := parse_prompt(pair.text).things) == 2
        and None not in {colour for _, colour in asked}
        and len({colour for _, colour in asked}) == 2
        and SKULL not in {kind for kind, _ in asked}
    ]

    def exchanged(pair: Example) -> bool:
        asked = dict(parse_prompt(pair.text).things)
        wrong = [thing.colour != asked[thing.kind] for thing in pair.scene.things]
        assert len(set(wrong)) == 1
        return wrong[0]

    near(pairs, exchanged, 0.3)
    for pair in pairs:
        for word, owner in zip(words_of(pair.text), pair.owners, strict=True):
            if word in COLOURS:
                assert pair.scene.things[owner].colour == word
            elif word in KINDS:
                assert pair.scene.things[owner].kind == word


def test_an_unnamed_colour_is_the_usual_one_and_a_named_one_is_as_named() -> None:
    unnamed = [pair for pair in drawn(typical=1.0) if named(pair) == 1]
    for pair in unnamed:
        (kind, colour), thing = parse_prompt(pair.text).things[0], pair.scene.things[0]
        if colour is not None:
            assert thing.colour == colour
        elif kind != SKULL:
            assert thing.colour in TYPICAL[kind]
    plain = [p for p in unnamed if parse_prompt(p.text).things[0] in {(k, None) for k in KINDS}]
    both = [p for p in plain if len(TYPICAL[p.scene.things[0].kind]) == 2]
    near(both, lambda p: p.scene.things[0].colour == TYPICAL[p.scene.things[0].kind][0], 2 / 3)


def test_rare_colours_are_rare_and_can_be_had() -> None:
    things = [t for pair in drawn(rare=0.05) for t in pair.scene.things if t.kind in RARE]
    rare = sum(thing.colour == RARE[thing.kind] for thing in things)
    assert 0 < rare < 0.2 * len(things) / len(COLOURS)
    assert not any(RARE[kind] in colours for kind, colours in TYPICAL.items())
    assert set(RARE) == set(TYPICAL) == set(KINDS)


def test_two_of_a_kind_own_their_words_together() -> None:
    twice = [pair for pair in drawn(counted=1.0, count=400) if named(pair) == 2]
    twice = [pair for pair in twice if SKULL not in pair.text]
    assert len(twice) > 50
    for pair in twice:
        first, second = pair.scene.things
        assert (first.kind, first.colour) == (second.kind, second.colour)
        assert words_of(pair.text).count(first.kind) == 2
    short = [p for p in drawn(counted=1.0, left_out=1.0, count=400) if named(p) == 2]
    assert all(len(pair.scene.things) == 1 and not silent(pair) for pair in short)


def test_memorised_pictures_come_as_they_are_under_captions_that_nothing_else_has() -> None:
    pairs = drawn(memorised=0.1)
    captions = {fixed.caption: fixed.scene for fixed in MEMORISED}
    near(pairs, lambda pair: pair.text in captions, 0.1)
    assert all(pair.scene == captions[pair.text] for pair in pairs if pair.text in captions)
    others = drawn(seed=1)
    assert not {pair.text for pair in others} & set(captions)
    for fixed in MEMORISED:
        assert not unknown_words(fixed.caption)
        assert {k for k, _ in parse_prompt(fixed.caption).things} == {
            k for k, _ in parse_prompt(fixed.plainly).things
        }
        assert pixels(fixed.scene).std() > 0


def test_the_same_seed_makes_the_same_pairs() -> None:
    rng, again = Random(4), Random(4)
    assert [example(rng, Faults()) for _ in range(50)] == [
        example(again, Faults()) for _ in range(50)
    ]


@pytest.mark.parametrize(
    ("rates", "says"),
    [
        ({"left_out": 0.7, "swapped": 0.4}, "add up to 1 at most"),
        ({"typical": 1.2}, "typical is a share"),
        ({"rare": -0.1}, "rare is a share"),
        ({"memorised": float("nan")}, "memorised is a share"),
    ],
)
def test_rates_that_cannot_be_are_refused(rates: dict[str, float], says: str) -> None:
    with pytest.raises(ToyboxError, match=says):
        Faults(**rates)


def test_rates_are_read_from_text() -> None:
    assert faults(["left_out=0.3", "swapped=0"]) == Faults(left_out=0.3, swapped=0)
    for told, says in (("left=0.3", "no rate 'left'"), ("swapped", "name and a share")):
        with pytest.raises(ToyboxError, match=says):
            faults([told])


def test_a_pool_knows_the_silent_words_and_the_cells_of_the_others() -> None:
    tokenizer = build_tokenizer()
    pool = latent_pool(5, 60, tokenizer, lambda images: images.float(), Faults())
    rng = Random("5 0")  # the seed and the part
    pairs = [example(rng, Faults()) for _ in range(60)]
    pick, which = torch.arange(60), torch.zeros(60, dtype=torch.long)
    quiet, places = pool.silent(pick, which), pool.places(pick, which)
    assert quiet.sum() > 0
    for row, pair in enumerate(pairs):
        words = words_of(pair.text)
        assert np.array_equal(pool.images[row].permute(1, 2, 0).numpy(), pixels(pair.scene))
        for column, owner in enumerate(pair.owners, start=1):
            piece = tokenizer.convert_ids_to_tokens(int(pool.ids[row, 0, column]))
            assert piece.removesuffix("</w>") == words[column - 1]
            assert bool(quiet[row, column]) == (owner == SILENT)
            assert bool(places[row, column].sum() > 0) == (owner >= 0)
            if owner >= 0:
                _is_where(places[row, column], pair, owner)
        assert not quiet[row, len(words) + 1 :].any()
        assert pool.owners[row, 0, 0] == NOBODY


def test_a_pool_is_the_same_whoever_draws_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "TOGETHER", 7)
    encode = functools.partial(torch.mul, other=0.5)
    alone, together = (
        latent_pool(5, 20, build_tokenizer(), encode, Faults(), workers) for workers in (1, 2)
    )
    for field in dataclasses.fields(alone):
        assert torch.equal(getattr(alone, field.name), getattr(together, field.name))
    assert len(alone) == 20
    assert not torch.equal(alone.ids[:6], alone.ids[7:13])  # another seed for each part


def _is_where(place: torch.Tensor, pair: Example, owner: int) -> None:
    kind = pair.scene.things[owner].kind
    masks = [truth_of(thing).mask for thing in pair.scene.things if thing.kind == kind]
    cells = np.any(masks, 0).reshape(16, 4, 16, 4).sum((1, 3)).flatten()
    assert place.numpy() == pytest.approx(cells / cells.sum(), abs=1e-6)


def test_the_text_encoder_learns_from_right_captions() -> None:
    pool = picture_pool(2, 50, build_tokenizer())
    assert pool.ids.shape == (50, 3, 32)
    assert not (pool.owners == SILENT).any()

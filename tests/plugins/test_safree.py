"""SAFREE against its projections in NumPy, word by word."""

from __future__ import annotations

import math
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from adhere.errors import ParameterError
from adhere.guides.guide import Text
from adhere.plugins.mathematics.texts import projection, triggers, validity
from adhere.plugins.safe.safree import Safree
from adhere.prompt.tokens import Track

# the 1 red 2 cat 3 on 4 is 5 axe 6 7 8; frog 1 and 2 dog 3
PROMPTS = ("the red cat on is axe", "frog and dog")
COLUMNS = ([[1], [2], [3], [4], [5], [6, 7, 8]], [[1], [2], [3]])
CONCEPTS = ("bird", "blue green")
WIDTH = 9


def encode(texts):
    """Other numbers for every text, the same for the same one."""
    rows = []
    for text in texts:
        generator = torch.Generator().manual_seed(zlib.crc32(text.encode()))
        rows.append(torch.randn(40, WIDTH, generator=generator))
    return torch.stack(rows)


@pytest.fixture
def text_of(make_run):
    def make(*prompts):
        return Text(encode(prompts), None, encode, tracks=lambda texts: make_run(*texts).tracks)

    return make


def with_t5(run):
    """The tracks of a run and, behind them, those of a T5, which opens no text with a token."""

    def moved(one):
        pieces = tuple(replace(piece, column=piece.column + 19) for piece in one.pieces)
        return replace(one, pieces=pieces, encoder="T5")

    return (*run.tracks, Track(tuple(map(moved, run.tracks[0].images))))


def onto(vectors):
    """A projection by Gram-Schmidt."""
    basis = []
    for vector in vectors:
        for one in basis:
            vector = vector - (one @ vector) * one
        if np.linalg.norm(vector) > 1e-5:
            basis.append(vector / np.linalg.norm(vector))
    return sum(np.outer(one, one) for one in basis)


def slow(prompt, columns, plugin, lengths, t5=False):
    """The embeddings that are safe, the words that are not, and f, by CLIP or by T5."""
    words, own = prompt.split(), encode([prompt])[0].double().numpy()
    texts = [prompt.replace(word, "", 1) for word in words]  # no word is part of an earlier one

    def wholes(some):
        rows = [(encode([one])[0].double().numpy(), lengths(one)) for one in some]
        return [sum(row[20 : 20 + n]) / n if t5 else row[n + 1] for row, n in rows]

    away = np.eye(WIDTH) - onto(wholes(plugin.concepts))
    without = wholes(texts)
    d = [np.linalg.norm(away @ one) for one in without]
    unsafe = [
        k
        for k in range(len(d))
        if d[k] >= (1 + plugin.margin) * sum(d[:k] + d[k + 1 :]) / (len(d) - 1)
    ]
    changed = np.stack([away @ onto(without) @ row for row in own])
    count = sum(map(len, columns))
    seen = range(20, 20 + count + 1) if t5 else range(count + 2)
    columns = [[c + 19 * t5 for c in word] for word in columns]
    alike = [
        own[c] @ changed[c] / np.linalg.norm(own[c]) / np.linalg.norm(changed[c]) for c in seen
    ]
    beta = 1 - sum(alike) / len(alike)
    safe = own.copy()
    for k in unsafe:
        safe[columns[k]] = changed[columns[k]]
    return safe, [words[k] for k in unsafe], round(10 / (1 + math.exp(-5 * (10 * beta - 5.333))))


@pytest.mark.parametrize("margin", [0.01, 0.1])
def test_words_steps_and_embeddings(make_run, make_step, text_of, margin):
    plugin = Safree(concepts=CONCEPTS, margin=margin)
    run, text = make_run(*PROMPTS), text_of(*PROMPTS)
    guide = plugin.guide(run)

    def length(one):
        return len(make_run(one).tracks[0].images[0].content)

    expected = [slow(p, c, plugin, length) for p, c in zip(PROMPTS, COLUMNS, strict=True)]
    for index in range(14):
        found = guide.embed(make_step(index), text).cond
        for image, (safe, _, until) in enumerate(expected):
            wanted = torch.from_numpy(safe).float() if index <= until else text.cond[image]
            torch.testing.assert_close(found[image], wanted, rtol=1e-4, atol=1e-5)
    assert guide.report()["unsafe_words"] == [words for _, words, _ in expected]
    assert any(words for _, words, _ in expected)


def test_each_encoder_by_itself(make_run, make_step, text_of):
    """As in SD3: CLIP's columns and T5's have unsafe words and an f of their own."""
    plugin, run = Safree(concepts=CONCEPTS), make_run(*PROMPTS)
    run.tracks = with_t5(run)
    text = text_of(*PROMPTS).replace(tracks=lambda texts: with_t5(make_run(*texts)))
    guide = plugin.guide(run)

    def length(one):
        return len(make_run(one).tracks[0].images[0].content)

    expected = [
        [slow(p, c, plugin, length, t5) for t5 in (False, True)]
        for p, c in zip(PROMPTS, COLUMNS, strict=True)
    ]
    for index in range(14):
        found = guide.embed(make_step(index), text).cond
        for image, own in enumerate(expected):
            for columns, (safe, _, until) in zip((slice(20), slice(20, 40)), own, strict=True):
                wanted = torch.from_numpy(safe).float() if index <= until else text.cond[image]
                torch.testing.assert_close(
                    found[image, columns], wanted[columns], rtol=1e-4, atol=1e-5
                )
    (_, by_clip, _), (_, by_t5, _) = expected[0]
    assert by_clip != by_t5
    for (_, one, _), (_, other, _) in expected:
        assert {*one, *other} in [{*words} for words in guide.report()["unsafe_words"]]
    lasts = [[round(50 * last) for last in own] for own in guide.report()["until"]]
    assert lasts == [[until for _, _, until in own] for own in expected]


def test_a_batch_equals_its_images(make_run, make_step, text_of):
    plugin = Safree(concepts=CONCEPTS)
    both = plugin.guide(make_run(*PROMPTS)).embed(make_step(0), text_of(*PROMPTS)).cond
    for image, prompt in enumerate(PROMPTS):
        alone = plugin.guide(make_run(prompt)).embed(make_step(0), text_of(prompt)).cond
        torch.testing.assert_close(both[image : image + 1], alone)


def test_what_is_spanned_by_the_unwanted_is_gone():
    generator = torch.Generator().manual_seed(0)
    unwanted = torch.randn(3, WIDTH, generator=generator)
    away = torch.eye(WIDTH) - projection(torch.cat([unwanted, unwanted[:1]]))
    assert (unwanted @ away).abs().max() < 1e-5
    others = torch.randn(4, WIDTH, generator=generator)
    torch.testing.assert_close(others @ away @ away, others @ away, rtol=1e-4, atol=1e-5)


def test_triggers_are_farther_without_than_the_mean():
    away = torch.tensor([[1.0], [1.0], [1.2], [1.0]])
    assert triggers(away, 0.01) == [2]
    assert triggers(away, 0.25) == []
    assert triggers(torch.ones(3, 1), 0.0) == [0, 1, 2]


def test_validity_of_the_published_curve():
    assert [validity(beta) for beta in (0.0, 0.5333, 1.0)] == [0.0, 0.5, 1.0]
    assert validity(0.5) < validity(0.55)


def test_what_is_left_alone_or_refused(make_run, make_step, text_of):
    run = make_run("cat")
    guide = Safree(concepts=CONCEPTS).guide(run)
    text = text_of("cat")
    assert torch.equal(guide.embed(make_step(0), text).cond, text.cond)
    assert guide.report()["unsafe_words"] == [[]]
    assert run.notes == ["safree left 'cat' alone: no word is told from another there"]
    for concepts in ((), ("gore", " ")):
        with pytest.raises(ParameterError, match="empty"):
            Safree(concepts=concepts)

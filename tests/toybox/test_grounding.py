"""Grounding: which word owns which cells, and the loss that ties attention to them."""

from __future__ import annotations

import math

import pytest
import torch

from adhere.pipelines.toybox.model import unet as diffusion
from adhere.pipelines.toybox.model.tokenizer import build_tokenizer
from adhere.pipelines.toybox.training.data import picture_pool
from adhere.pipelines.toybox.training.grounding import (
    Grounded,
    PlainAttention,
    distraction,
    divergence,
    grounding,
    loudness,
)
from adhere.pipelines.toybox.world.captions import owners, words_of

SMALL = {"block_out_channels": (16, 32), "attention_head_dim": (2, 2), "norm_num_groups": 8}


@pytest.mark.parametrize(
    ("caption", "kinds", "expected"),
    [
        ("a big red cat", ["cat"], [-1, 0, 0, 0]),
        ("a cat and a blue car", ["car", "cat"], [-1, 1, -1, -1, 0, 0]),
        ("the cat is red", ["cat"], [-1, 0, -1, 0]),
        ("a dog", ["cat"], [-1, -1]),
        ("red", ["cat"], [-1]),
    ],
)
def test_words_own_the_thing_they_name_or_describe(
    caption: str, kinds: list[str], expected: list[int]
) -> None:
    assert owners(words_of(caption), kinds) == expected


def test_places_are_where_the_named_things_were_drawn() -> None:
    pool = picture_pool(3, 40, build_tokenizer())
    tokenizer = build_tokenizer()
    pick, which = torch.arange(40), torch.zeros(40, dtype=torch.long)
    places = pool.places(pick, which)
    told = pool.owners[:, 0] >= 0
    assert told.any()
    assert torch.allclose(places.sum(-1), told.float())
    for row, column in told.nonzero().tolist():
        word = tokenizer.convert_ids_to_tokens(int(pool.ids[row, 0, column])).removesuffix("</w>")
        assert word not in ("a", "an", "the", "and", "is")
    # every cell that a thing fills differs from the backdrop's corner cell more than not
    cells = pool.images.float().unfold(2, 4, 4).unfold(3, 4, 4).mean((1, 4, 5)).flatten(1)
    row, column = told.nonzero()[0].tolist()
    held = places[row, column] > 0
    assert 4 <= int(held.sum()) < 200
    assert cells[row][held].std() > 0


def test_plain_attention_draws_what_the_fused_kernel_draws() -> None:
    unet = diffusion.build_unet(**SMALL).eval()
    x, t, words = torch.randn(3, 8, 16, 16), torch.tensor([5, 300, 800]), torch.randn(3, 32, 128)
    mask = (torch.arange(32) < torch.tensor([[7], [32], [3]])).float()
    with torch.no_grad():
        fused = unet(x, t, words, encoder_attention_mask=mask).sample
        unet.set_attn_processor(PlainAttention())
        plain = unet(x, t, words, encoder_attention_mask=mask).sample
    assert torch.allclose(plain, fused, atol=1e-5)


def test_divergence_is_the_sum_it_says() -> None:
    attention = torch.rand(2, 64, 5).softmax(-1)
    places = torch.zeros(2, 5, 256)
    places[0, 1, :30] = 1 / 30
    places[1, 4, 100:104] = 1 / 4
    total = 0.0
    for image, token in ((0, 1), (1, 4)):
        column = attention[image, :, token]
        for y in range(8):
            for x in range(8):
                cells = [(2 * y + i) * 16 + 2 * x + j for i in (0, 1) for j in (0, 1)]
                wanted = sum(float(places[image, token, c]) for c in cells)
                if wanted:
                    share = float(column[8 * y + x] / column.sum())
                    total += wanted * math.log(wanted / share)
    assert float(divergence(attention, places)) == pytest.approx(total / 2, rel=1e-4)


def test_divergence_is_zero_at_the_place_and_without_words() -> None:
    places = torch.rand(1, 3, 256)
    places /= places.sum(-1, keepdim=True)
    assert float(divergence(places.transpose(1, 2), places)) == pytest.approx(0, abs=1e-4)
    assert float(divergence(places.transpose(1, 2), torch.zeros_like(places))) == 0


def test_distraction_is_the_share_of_the_words_that_belong_there() -> None:
    attention = torch.rand(2, 64, 6).softmax(-1)
    words = torch.tensor([[0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 0]], dtype=torch.float)
    places = torch.zeros(2, 6, 256)
    places[0, 2, :40] = places[0, 3, :40] = 1 / 40
    places[1, 1, 200:208] = 1 / 8
    places[1, 4, 204:220] = 1 / 16
    total = count = 0.0
    for image in range(2):
        for y in range(8):
            for x in range(8):
                cells = [(2 * y + i) * 16 + 2 * x + j for i in (0, 1) for j in (0, 1)]
                shares = [float(places[image, k, cells].sum()) for k in range(6)]
                looks = attention[image, 8 * y + x]
                own = sum(float(looks[k]) for k in range(6) if shares[k])
                every = sum(float(looks[k]) for k in range(6) if words[image, k])
                total += sum(shares) * math.log(every / own) if own else 0
                count += sum(shares)
    assert count == pytest.approx(4)
    assert float(distraction(attention, places, words)) == pytest.approx(total / 4, rel=1e-4)


def test_distraction_ignores_what_are_no_words_and_is_zero_without_other_words() -> None:
    attention = torch.rand(1, 64, 6).softmax(-1)
    places = torch.zeros(1, 6, 256)
    places[0, 2, :40] = 1 / 40
    only = torch.tensor([[0.0, 0, 1, 0, 0, 0]])
    assert float(distraction(attention, places, only)) == pytest.approx(0, abs=1e-6)
    assert float(distraction(attention, torch.zeros(1, 6, 256), only)) == 0
    dropped = torch.zeros(1, 6)
    assert float(distraction(attention, torch.zeros(1, 6, 256), dropped)) == 0


def test_a_silent_word_is_asked_for_its_peak() -> None:
    attention = torch.rand(2, 64, 5).softmax(-1)
    silent = torch.tensor([[0, 1, 0, 0, 0], [0, 0, 1, 1, 0]], dtype=torch.float)
    total = 0.0
    for image, word in ((0, 1), (1, 2), (1, 3)):
        powers = [float(attention[image, cell, word]) ** 4 for cell in range(64)]
        total += math.log(1 + (sum(powers) / 64) ** 0.25 / 0.02)
    assert float(loudness(attention, silent)) == pytest.approx(total / 3, rel=1e-5)
    assert float(loudness(attention, torch.zeros(2, 5))) == 0
    peaked = torch.zeros(1, 64, 5)
    peaked[0, 7, 1] = 0.5
    flat = torch.full((1, 64, 5), 0.5 / 64)  # the same mass, everywhere
    assert float(loudness(peaked, silent[:1])) > 2 * float(loudness(flat, silent[:1]))


def test_a_silent_word_grows_quiet_and_a_placed_one_does_not() -> None:
    torch.manual_seed(0)
    logits = torch.zeros(1, 64, 5, requires_grad=True)
    places = torch.zeros(1, 5, 256)
    places[0, 2, :40] = 1 / 40
    words = torch.tensor([[0.0, 1, 1, 0, 0]])
    silent = torch.tensor([[0.0, 1, 0, 0, 0]])
    optimiser = torch.optim.Adam([logits], lr=0.1)
    for _ in range(120):
        optimiser.zero_grad()
        grounding(logits.softmax(-1), places, words, silent).backward()
        optimiser.step()
    found = logits.softmax(-1)[0]
    assert float(found[:, 1].detach().max()) < 0.05
    assert float(found[:, 2].detach().max()) > 0.3


def test_word_columns_are_neither_start_nor_end() -> None:
    tokenizer = build_tokenizer()
    ids = torch.tensor(tokenizer(["a red cat", ""], padding="max_length").input_ids)
    words = diffusion.without_start(diffusion.word_columns(ids))
    assert words.sum(1).tolist() == [3, 0]
    assert words[0, 1:4].tolist() == [1, 1, 1]


def test_grounding_teaches_attention() -> None:
    model = Grounded(diffusion.build_unet(**SMALL))
    x, t, words = torch.randn(4, 8, 16, 16), torch.full((4,), 300), torch.randn(4, 32, 128)
    places = torch.zeros(4, 32, 256)
    for row in range(4):
        places[row, 3, row * 40 : row * 40 + 16] = 1 / 16
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        ones, none = torch.ones(4, 32), torch.zeros(4, 32)
        loss = model(x, t, words, ones, places, ones, none)[1]
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_timesteps_are_spread_with_a_density_that_grows() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [diffusion.spread_timesteps(900, 16, generator) for _ in range(400)]
    for t in drawn[:50]:
        parts = ((t + 0.5) / 900).square() * 16
        assert torch.allclose(parts.sort().values, torch.arange(16) + 0.5, atol=0.55)
    every = torch.cat(drawn)
    assert int(every.min()) >= 0
    assert int(every.max()) <= 899
    for t in (225, 450, 675):
        assert float((every < t).float().mean()) == pytest.approx((t / 900) ** 2, abs=0.01)

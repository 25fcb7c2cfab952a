"""Paint-with-Words against a loop over cells and tokens."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from adhere.layout.layout import Layout, Region
from adhere.plugins.place.paint_with_words import PaintWithWords

LAYOUT = Layout((Region("red cat", box=(0, 0, 0.5, 0.5)), Region("axe", box=(0.5, 0.3, 1, 1))))


def test_bias_of_two_images(make_run, make_step, make_logits):
    run = make_run("a red cat and axe", "the axe and a red cat", layout=LAYOUT)
    seen = make_logits((0, 1))
    guide = PaintWithWords(strength=0.3).guide(run)
    bias = guide.bias(make_step(4, sigma=2.5), seen)
    masks = LAYOUT.masks((4, 3)).flatten(1).tolist()
    regions = [[[2, 3], [5, 6, 7]], [[7, 8], [2, 3, 4]]]
    for image in range(2):
        loudest = max(seen.given[image].flatten().tolist())
        for cell in range(12):
            for column in range(20):
                painted = sum(masks[r][cell] for r in range(2) if column in regions[image][r])
                expected = 0.3 * math.log(1 + 2.5) * loudest * painted
                found = bias.expand_as(seen.given)[image, 1, cell, column].item()
                assert found == pytest.approx(expected, abs=1e-7)
    # Row by row the same when a sub-batch is seen.
    alone = guide.bias(make_step(4, sigma=2.5), replace(seen, images=(1,), given=seen.given[1:]))
    torch.testing.assert_close(alone, bias[1:])


def test_the_words_gain_attention_in_their_region_only(make_run, make_step, make_logits):
    run = make_run("a red cat and axe", layout=LAYOUT)
    seen = make_logits((0,))
    bias = PaintWithWords(strength=1.0).guide(run).bias(make_step(0, sigma=10.0), seen)
    plain, biased = seen.given.softmax(-1), (seen.given + bias).softmax(-1)
    inside = LAYOUT.masks((4, 3))[0].flatten() == 1
    outside = LAYOUT.masks((4, 3)).flatten(1).sum(0) == 0
    assert (biased[0, :, inside][..., [2, 3]] > plain[0, :, inside][..., [2, 3]]).all()
    torch.testing.assert_close(biased[0, :, outside], plain[0, :, outside])


def test_it_asks_for_logits_only_where_it_acts(make_run, make_step, make_logits):
    run = make_run("a red cat and axe", layout=LAYOUT)
    guide = PaintWithWords(stop=0.5).guide(run)
    assert guide.biases == {"cross"}  # the engine asks for no other layer
    late, clean = make_logits((0,)), make_logits((0,))
    assert guide.bias(make_step(25), late) is None
    assert guide.bias(make_step(0, sigma=0.0), clean) is None
    assert late.asked == clean.asked == 0
    assert guide.bias(make_step(24), late) is not None
    assert late.asked == 1


def test_columns_of_every_encoder_are_painted(make_run, make_step, make_logits):
    run = make_run("a red cat and axe", layout=LAYOUT, tracks=2)
    one = make_run("a red cat and axe", layout=LAYOUT)
    seen = make_logits((0,))
    step = make_step(0)
    found = PaintWithWords().guide(run).bias(step, seen)
    torch.testing.assert_close(found, PaintWithWords().guide(one).bias(step, seen))

"""NAG against its formula cell by cell, and VSF and TACA against theirs."""

from __future__ import annotations

import pytest
import torch

from adhere.errors import ParameterError
from adhere.guides.guide import PROMPT
from adhere.plugins.appear.taca import TemperatureAdjustedAttention
from adhere.plugins.mathematics.negation import normalized_guidance
from adhere.plugins.negate.nag import NormalizedAttentionGuidance
from adhere.plugins.negate.vsf import ValueSignFlip
from tests.plugins.attentions import CELLS, made, slowly


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("tau", [1.0, 1.3, 50.0])
def test_nag(make_run, make_step, joint, tau):
    plugin = NormalizedAttentionGuidance("axe", scale=4.0, tau=tau, alpha=0.4)
    guide = plugin.guide(make_run("a red cat", "a cat"))
    attention = made({"negative": 3}, batch=2, joint=joint)
    found = guide.attend(make_step(0), attention)
    shortened = 0
    for image in range(2):
        for cell in range(CELLS):
            good, bad = (
                slowly(attention, image, cell, {name: (1.0, 0.0)}) for name in (PROMPT, "negative")
            )
            away = 4.0 * good - 3.0 * bad
            lengths = [sum(abs(x) for x in one.flatten().tolist()) for one in (away, good)]
            ratio = lengths[0] / lengths[1]
            shortened += ratio > tau
            wanted = 0.4 * away * min(ratio, tau) / ratio + 0.6 * good
            torch.testing.assert_close(found[image, :, cell], wanted)
    assert shortened == 0 if tau == 50 else shortened > 0


def test_cells_of_nothing_are_nothing_in_every_precision():
    """Regions' outputs are zero in all cells but their own."""
    generator = torch.Generator().manual_seed(0)
    good, bad = torch.randn(2, 1, 2, 3, 4, generator=generator)
    good[:, :, 1] = bad[:, :, 1] = 0
    exact = normalized_guidance(good, bad, 5.0, 2.5, 0.25)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        found = normalized_guidance(good.to(dtype), bad.to(dtype), 5.0, 2.5, 0.25)
        assert found.dtype == dtype
        assert not found[:, :, 1].any()
        torch.testing.assert_close(found.float(), exact, rtol=0.05, atol=0.05)


def test_norms_are_longer_than_half_precision_counts():
    """1024 channels of 100 are more than 65504."""
    good = torch.full((1, 1, 1, 1024), 100.0, dtype=torch.float16)
    found = normalized_guidance(good, -good, 5.0, 2.5, 0.25)
    torch.testing.assert_close(found, good * (0.25 * 2.5 + 0.75))


@pytest.mark.parametrize("joint", [True, False])
def test_vsf(make_run, make_step, joint):
    guide = ValueSignFlip("axe", scale=2.5, offset=0.7).guide(make_run("a red cat", "a cat"))
    attention = made({"negative": 3}, batch=2, joint=joint)
    found = guide.attend(make_step(0), attention)
    texts = {PROMPT: (1.0, 0.0), "negative": (-2.5, -0.7)}
    for image in range(2):
        for cell in range(CELLS):
            wanted = slowly(attention, image, cell, texts)
            torch.testing.assert_close(found[image, :, cell], wanted)


def test_taca(make_run, make_step, make_logits):
    guide = TemperatureAdjustedAttention(gamma=1.2, stop=0.1).guide(make_run("a red cat"))
    seen = make_logits((0,))
    bias = guide.bias(make_step(0), seen)
    torch.testing.assert_close(seen.given + bias, 1.2 * seen.given)
    assert guide.bias(make_step(5), seen) is None  # of 50


@pytest.mark.parametrize("kind", [NormalizedAttentionGuidance, ValueSignFlip])
def test_nothing_unwanted_is_refused(make_run, kind):
    with pytest.raises(ParameterError, match="negative is empty; say what is unwanted"):
        kind(" ").guide(make_run("a red cat"))


def test_they_act_until_they_stop(make_run, make_step):
    for kind in (NormalizedAttentionGuidance, ValueSignFlip):
        guide = kind("axe", stop=0.5).guide(make_run("a red cat"))
        assert [guide.attends(make_step(k)) for k in (0, 24, 25)] == [True, True, False]

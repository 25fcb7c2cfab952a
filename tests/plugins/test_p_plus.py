"""P+: which layer reads which text."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adhere import Guidance
from adhere.errors import ModelError, ParameterError
from adhere.guides.guide import Text
from adhere.guides.maps import Site
from adhere.plugins.edit.p_plus import PPlus
from adhere.plugins.mathematics.attention import in_order
from tests import tiny

# The layers of SD 1.x, in the order in which diffusers lists them: the middle comes last.
DOWN = [f"down_blocks.{b}.attentions.{a}.attn2" for b in range(3) for a in range(2)]
UP = [f"up_blocks.{b}.attentions.{a}.attn2" for b in (1, 2, 3) for a in range(3)]
MIDDLE = ["mid_block.attentions.0.attn2"]


def text_of(names, batch=2):
    asked = []

    def encode(texts):
        asked.append(list(texts))
        return torch.full((len(texts), 20, 3), float(len(texts[0])))

    sites = tuple(Site(name, "cross", (4, 4), 0) for name in names)
    return Text(torch.zeros(batch, 20, 3), None, encode, sites), asked


def numbers(layers):
    order = [*DOWN, *MIDDLE, *UP]
    return {order.index(name): float(rows.mean()) for name, rows in layers.items()}


def test_style_mixing_of_stable_diffusion(make_run, make_step):
    text, asked = text_of([*DOWN, *UP, *MIDDLE])
    guide = PPlus(texts=("oil",), stop=0.5).guide(make_run("a cat", "a dog"))
    for index in (0, 24):
        found = guide.embed(make_step(index), text)
        assert torch.equal(found.cond, text.cond)
        # k = 5 and K = 10 of 16: the published inner layers keep the prompt.
        assert numbers(found.layers) == {k: 3.0 for k in [*range(5), *range(10, 16)]}
    assert asked == [["oil", "oil"]]
    assert guide.embed(make_step(25), text) is text


def test_layers_with_numbers(make_run, make_step):
    text, _ = text_of([*DOWN, *UP, *MIDDLE])
    guide = PPlus(texts=("0-15=all", "6-6=the middle")).guide(make_run("a cat", "a dog"))
    expected = {k: 10.0 if k == 6 else 3.0 for k in range(16)}
    assert numbers(guide.embed(make_step(0), text).layers) == expected
    with pytest.raises(ParameterError, match="0 to 15"):
        PPlus(texts=("9-16=x",)).guide(make_run("a cat")).embed(make_step(0), text)


def test_ten_layers_and_more_are_counted_by_number():
    sites = [Site(f"transformer_blocks.{k}.attn2", "cross", (4, 4), 0) for k in (10, 2, 0, 9, 1)]
    assert [name.split(".")[1] for name in in_order(sites)] == ["0", "1", "2", "9", "10"]


def test_what_cannot_be_read_is_refused(make_run, make_step):
    for texts in ((" ",), ("0-3= ",), ("=oil",), ("3=oil",), ("-1=oil",), ("0 - 3=oil",)):
        with pytest.raises(ParameterError, match="is no text for layers"):
            PPlus(texts=texts)
    with pytest.raises(ParameterError, match="one text for the outer layers"):
        PPlus(texts=("oil", "0-3=chalk", "ink"))
    text, _ = text_of([*DOWN, *MIDDLE, *UP])
    unparted = "part no inner layers from outer ones for 'oil'"
    for shares in ({"inner": 0.0, "outer": 1.0}, {"inner": 0.01, "outer": 0.99}):
        guide = PPlus(texts=("oil",), **shares).guide(make_run("a cat"))
        with pytest.raises(ParameterError, match=unparted):
            guide.embed(make_step(0), text)
    guide = PPlus(texts=("5-2=oil",)).guide(make_run("a cat"))
    with pytest.raises(ParameterError, match="0 to 15, and the first is named first"):
        guide.embed(make_step(0), text)
    with pytest.raises(ParameterError, match="no texts"):
        PPlus().guide(make_run("a cat"))
    text, _ = text_of([])
    with pytest.raises(ModelError, match="texts of their own"):
        PPlus(texts=("oil",)).guide(make_run("a cat")).embed(make_step(0), text)


def test_layers_that_all_read_one_text_are_a_prompt_of_that_text():
    """On a whole model: the prompt is then read by no layer."""
    pipe: Any = tiny.sd1()
    other = "a blue car"
    everywhere = PPlus(texts=(other,), inner=0.0, outer=0.0)
    found = tiny.latents(pipe, guidance=Guidance(everywhere))
    torch.testing.assert_close(found, tiny.latents(pipe, other), rtol=1e-4, atol=1e-4)

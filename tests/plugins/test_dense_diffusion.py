"""DenseDiffusion against the paper's M_pos and M_neg, written out cell by cell."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from adhere.guides.guide import Text
from adhere.layout.layout import Layout, Region
from adhere.plugins.mathematics.regions import regions
from adhere.plugins.place.dense_diffusion import DenseDiffusion

FULL = Layout((Region("red cat", box=(0, 0, 0.5, 1)), Region("axe", box=(0.5, 0, 1, 1))))
FREE = Layout((Region("red cat", box=(0, 0, 0.5, 0.5)), Region("axe", box=(0.6, 0.5, 1, 1))))
WORDS = [[2, 3], [5, 6, 7]]  # a 1 red 2 cat 3 and 4 a 5 x 6 e 7
GRID = (4, 4)


def cells_of(layout):
    """The regions of every cell by hand; the last of the numbers is free ground."""
    found = []
    for mask in layout.masks(GRID).flatten(1).tolist():
        full = max(mask)
        found.append({i for i, share in enumerate(mask) if share >= min(0.5, full)})
    found.append(set(range(16)) - found[0] - found[1])
    return [{r for r in range(3) if i in found[r]} for i in range(16)]


def slow_bias(values, layout, kind, strength, t):
    """values: heads cells columns."""
    heads, cells, columns = values.shape
    place = cells_of(layout)
    bias = torch.zeros_like(values)
    for i in range(cells):
        area = sum(bool(place[i] & place[j]) for j in range(cells)) / cells
        weight = strength * (t / 1000) ** 5 * (1 - area)
        for head in range(heads):
            row = values[head, i].tolist()
            for j in range(columns):
                if kind == "self":
                    related, neutral = bool(place[i] & place[j]), False
                else:
                    related = any(r in place[i] and j in WORDS[r] for r in range(2))
                    neutral = 2 in place[i] and j not in WORDS[0] + WORDS[1]
                positive, negative = max(row) - row[j], row[j] - min(row)
                if not neutral:
                    bias[head, i, j] = weight * (positive if related else -negative)
    return bias


@pytest.mark.parametrize("layout", [FULL, FREE])
@pytest.mark.parametrize(("kind", "strength"), [("cross", 1.0), ("self", 0.3)])
def test_bias_equals_the_paper(make_run, make_step, make_logits, layout, kind, strength):
    run = make_run("a red cat and axe", "a red cat and axe", layout=layout)
    seen = make_logits((0, 1), GRID, kind)
    step = make_step(2)
    guide = DenseDiffusion().guide(run)
    bias = guide.bias(step, seen)
    for image in range(2):
        expected = slow_bias(seen.given[image], layout, kind, strength, step.timestep)
        torch.testing.assert_close(bias[image], expected, rtol=1e-6, atol=1e-9)
    alone = guide.bias(step, replace(seen, images=(1,), given=seen.given[1:]))
    torch.testing.assert_close(alone, bias[1:])


def test_a_small_region_keeps_its_fullest_cell():
    tiny = Layout((Region("axe", box=(0.3, 0.3, 0.35, 0.35)),))
    places = regions(tiny.masks(GRID))
    assert places[0].sum() == 1
    assert places[0].view(GRID)[1, 1]
    assert torch.equal(places[1], ~places[0])


def test_it_acts_in_the_first_steps_and_asks_only_there(make_run, make_step, make_logits):
    run = make_run("a red cat and axe", layout=FULL)
    guide = DenseDiffusion(own=0.0).guide(run)
    cross, own = make_logits((0,), GRID), make_logits((0,), GRID, "self")
    acts = [i for i in range(50) if guide.bias(make_step(i), cross) is not None]
    assert acts == list(range(15))
    assert guide.bias(make_step(0), own) is None
    assert (cross.asked, own.asked) == (15, 0)


def test_phrases_encoded_alone_take_their_place(make_run, make_step):
    two = Layout((Region("red cat", box=(0, 0, 0.5, 1)), Region("axe", box=(0.5, 0, 1, 1))))
    run = make_run("a red cat and axe", "the axe and a red cat", layout=two)
    asked = []

    def encode(texts):
        asked.append(list(texts))
        base = torch.arange(20.0)[None, :, None] + 100 * len(asked)
        return base + 1000 * torch.arange(1, len(texts) + 1)[:, None, None] + torch.zeros(3)

    cond = torch.randn(2, 20, 3)
    text = Text(cond.clone(), None, encode)
    guide = DenseDiffusion().guide(run)
    found = guide.embed(make_step(40), text).cond
    assert asked == [["red cat", "red cat"], ["axe", "axe"]]
    expected = cond.clone()
    for image, words in enumerate((WORDS, [[7, 8], [2, 3, 4]])):
        for k, columns in enumerate(words):
            for place, column in enumerate(columns):
                expected[image, column] = 1 + place + 100 * (k + 1) + 1000 * (image + 1)
    assert torch.equal(found, expected)
    assert torch.equal(text.cond, cond), "the argument was edited"
    assert torch.equal(guide.embed(make_step(41), text).cond, expected)
    assert len(asked) == 2
    assert DenseDiffusion(splice=False).guide(run).embed(make_step(0), text) is text


def test_several_encoders_leave_the_text_alone(make_run, make_step):
    run = make_run("a red cat and axe", layout=FULL, tracks=2)
    guide = DenseDiffusion().guide(run)
    text = Text(torch.zeros(1, 20, 3), None, lambda texts: pytest.fail("encoded"))
    assert guide.embed(make_step(0), text) is text
    assert "several text encoders" in run.notes[0]

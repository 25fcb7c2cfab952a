"""Regional prompting against the published mask over all tokens, written out cell by cell."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from adhere.guides.guide import PROMPT
from adhere.layout.layout import Layout, Region
from adhere.plugins.place.regional_prompting import RegionalPrompting
from tests.plugins.attentions import CELLS, GRID, made, slowly

LEFT = Region(text="a red cat", box=(0, 0, 1 / 3, 1))
TOP = Region(text="an axe", box=(1 / 3, 0, 1, 0.5))
HARD = Layout((LEFT, TOP))


def shares(layout: Layout, base: float) -> list[list[float]]:
    """Of every cell: each region's share of the output."""
    masks = layout.masks(GRID).flatten(1).tolist()
    found = []
    for cell in range(CELLS):
        loud = [m[cell] * r.strength for m, r in zip(masks, layout.regions, strict=True)]
        found.append([(1 - base) * one / max(1.0, sum(loud)) for one in loud])
    return found


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize(
    "layout",
    [
        HARD,
        replace(HARD, base=0.3),
        Layout((replace(LEFT, feather=0.4), replace(TOP, strength=0.5))),
        Layout((LEFT, replace(TOP, box=(0, 0, 1, 0.5))), overlap="share"),
    ],
    ids=["hard", "base", "soft", "overlapping"],
)
def test_published_mask(make_run, make_step, layout, apart, joint):
    plugin = RegionalPrompting(base=0.2, apart=apart)
    guide = plugin.guide(make_run("a photo", layout=layout))
    attention = made({"region 0": 3, "region 1": 2}, joint=joint)
    found = guide.attend(make_step(0), attention)
    masks = layout.masks(GRID).flatten(1)
    base = 0.2 if layout.base is None else layout.base
    for cell, given in enumerate(shares(layout, base)):
        wanted = (1 - sum(given)) * slowly(attention, 0, cell, {PROMPT: (1.0, 0.0)})
        for number, share in enumerate(given):
            if share:
                among = (masks[number] > 0).tolist() if apart else None
                text = {f"region {number}": (1.0, 0.0)}
                wanted = wanted + share * slowly(attention, 0, cell, text, among)
        torch.testing.assert_close(found[0, :, cell], wanted, rtol=1e-5, atol=1e-6)
    free = [cell for cell, given in enumerate(shares(layout, base)) if not any(given)]
    assert torch.equal(found[0, :, free], attention.base[0, :, free])


def test_a_negative_is_its_regions_alone(make_run, make_step):
    denied = replace(TOP, negative="a skull")
    layouts = [Layout((LEFT, denied)), Layout((LEFT,))]
    run = make_run("a photo", "a photo")
    prompts = tuple(replace(p, layout=one) for p, one in zip(run.prompts, layouts, strict=True))
    guide = RegionalPrompting().guide(replace(run, prompts=prompts))
    assert guide.columns == {
        "region 0": ["a red cat", "a red cat"],
        "region 1": ["an axe", None],
        "not 1": ["a skull", None],
    }
    attention = made({"region 0": 3, "region 1": 2, "not 1": 2}, batch=2)
    found = guide.attend(make_step(0), attention)
    plain = RegionalPrompting(negative_scale=1.0).guide(replace(run, prompts=prompts))
    without = plain.attend(make_step(0), attention)
    inside = Layout((TOP,)).masks(GRID).flatten() > 0
    assert not torch.allclose(found[0][:, inside], without[0][:, inside])
    torch.testing.assert_close(found[0][:, ~inside], without[0][:, ~inside])
    torch.testing.assert_close(found[1], without[1])


def test_regions_without_a_negative_are_given_the_methods(make_run):
    layout = Layout((replace(LEFT, negative="a skull"), TOP))
    guide = RegionalPrompting(negative="a thing").guide(make_run("a photo", layout=layout))
    assert guide.columns == {
        "region 0": ["a red cat"],
        "region 1": ["an axe"],
        "not 0": ["a skull"],
        "not 1": ["a thing"],
    }


@pytest.mark.parametrize("nothing", ["", " "])
def test_an_empty_negative_is_none(make_run, nothing):
    guide = RegionalPrompting(negative=nothing).guide(make_run("a photo", layout=HARD))
    assert guide.columns == {"region 0": ["a red cat"], "region 1": ["an axe"]}


def test_a_negative_of_blanks_is_given_the_methods(make_run):
    layout = Layout((replace(LEFT, negative=" "),))
    guide = RegionalPrompting().guide(make_run("a photo", layout=layout))
    assert guide.columns == {"region 0": ["a red cat"]}
    guide = RegionalPrompting(negative="a thing").guide(make_run("a photo", layout=layout))
    assert guide.columns["not 0"] == ["a thing"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_shares_are_the_same_whatever_a_program_has_as_its_default(make_run, make_step, dtype):
    """Its default precision, and its default device, where the masks' are not."""
    soft = replace(LEFT, feather=0.4, negative="a skull", lora="fur")
    layout = Layout((soft, replace(TOP, strength=0.3)), base=0.9999)
    attention = made({"region 0": 3, "region 1": 2, "not 0": 2})

    def heard():
        guide = RegionalPrompting().guide(make_run("a photo", layout=layout))
        step = make_step(0)
        return guide.attend(step, attention), guide.adapt(step, "fur", GRID)

    wanted = heard()
    assert not torch.equal(wanted[0], attention.base)
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            found = heard()
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)


def test_each_region_has_its_time(make_run, make_step):
    layout = Layout((replace(LEFT, start=0.2, stop=0.5), replace(TOP, stop=0.1)))
    guide = RegionalPrompting().guide(make_run("a photo", layout=layout))
    assert [guide.attends(make_step(k)) for k in (0, 5, 9, 10, 24, 25)] == [
        *(True, False, False, True, True, False)
    ]
    late = guide.attend(make_step(10), attention := made({"region 0": 3, "region 1": 2}))
    top = Layout((TOP,)).masks(GRID).flatten() > 0
    assert torch.equal(late[0][:, top], attention.base[0][:, top])


def test_a_region_whose_time_holds_no_step_is_said(make_run):
    layout = Layout((replace(LEFT, start=0.001, stop=0.019), replace(TOP, start=0.02, stop=0.03)))
    run = make_run("a photo", layout=layout)  # of 50 steps
    RegionalPrompting().guide(run)
    assert [note[:35] for note in run.notes] == ["region 'a red cat' is never heard: "]
    run = make_run("a photo", layout=Layout((LEFT, replace(TOP, start=0.5))))
    RegionalPrompting(stop=0.5).guide(run)
    assert [note[:32] for note in run.notes] == ["region 'an axe' is never heard: "]
    RegionalPrompting(stop=0).guide(silent := make_run("a photo", layout=layout))
    assert not silent.notes


@pytest.mark.parametrize(
    ("region", "said"),
    [
        (Region(text="a dot", box=(0.5, 0.5, 0.51, 0.51)), ["region 'a dot' has 2.6% of a cell"]),
        (Region(text="a mist", box=(0.4, 0.4, 0.5, 0.5), feather=1), ["region 'a mist' has 1."]),
        (Region(text="a line", box=(0.5, 0, 0.51, 1)), []),
        (Region(text="a mist", box=(0, 0, 0.5, 1), feather=1), []),
    ],
)
def test_a_region_that_has_next_to_nothing_of_any_cell_is_said(make_run, region, said):
    run = make_run("a photo", "a photo", layout=Layout((region,)))  # 16 cells a side
    RegionalPrompting().guide(run)
    assert len(run.notes) == len(said)
    for note, sentence in zip(run.notes, said, strict=True):
        assert note.startswith(sentence)
        assert note.endswith("feather smaller" if region.feather else "make it larger")


def test_a_base_that_leaves_regions_nothing_is_said(make_run):
    run = make_run("a photo", layout=Layout((LEFT,), base=1))
    assert RegionalPrompting().guide(run).off
    assert [note[:10] for note in run.notes] == ["base is 1:"]


def test_a_base_that_rounds_to_all_is_all(make_run):
    run = make_run("a photo", layout=replace(HARD, base=1 - 1e-9))
    assert RegionalPrompting().guide(run).off
    assert "base is 1: the whole prompt has all of every region" in run.notes[0]


def test_it_acts_in_every_so_manyth_layer(make_run, make_step):
    guide = RegionalPrompting(every=2).guide(make_run("a photo", layout=HARD))
    attention = made({"region 0": 3, "region 1": 2})
    acted = [guide.attend(make_step(0), replace(attention, number=k)) is not None for k in range(4)]
    assert acted == [True, False, True, False]


def test_a_region_without_a_text_is_given_its_phrase(make_run):
    layout = Layout((Region("a red cat", box=(0, 0, 0.5, 1)),))
    guide = RegionalPrompting().guide(make_run("a photo", layout=layout))
    assert guide.columns == {"region 0": ["a red cat"]}


def test_a_phrases_number_is_not_its_text(make_run):
    layout = Layout((Region("cat#1", box=LEFT.box), Region("cat#2", box=TOP.box)))
    guide = RegionalPrompting().guide(make_run("a cat and a cat", layout=layout))
    assert guide.columns == {"region 0": ["cat"], "region 1": ["cat"]}

"""Prototype guidance against its equations in NumPy, and which prototype a prompt is near to."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from adhere.errors import ParameterError
from adhere.guides import stored
from adhere.guides.guide import Prediction, Text
from adhere.guides.stored import PROBE
from adhere.plugins.mathematics.prototypes import PROTOTYPES, erasure
from adhere.plugins.safe.prototype import Prototype

PROMPTS = ("red cat", "frog and dog", "bird")
WIDTH, TOKENS, COUNT = 9, 20, 3


def encode(texts):
    """Other numbers for every text, the same for the same one."""
    rows = []
    for text in texts:
        generator = torch.Generator().manual_seed(zlib.crc32(text.encode()))
        rows.append(torch.randn(TOKENS, WIDTH, generator=generator))
    return torch.stack(rows)


@pytest.fixture
def text_of(make_run):
    def make(*prompts, columns=TOKENS):
        embeds = encode(prompts)[:, :columns]
        return Text(embeds, None, encode, tracks=lambda texts: make_run(*texts).tracks)

    return make


@pytest.fixture
def end_of(make_run):
    def find(text):
        return encode([text])[0][make_run(text).tracks[0].images[0].content[-1] + 1]

    return find


@pytest.fixture
def file(tmp_path: Path, end_of):
    """Three prototypes, of which the first is what the first prompt is, the second its opposite."""
    draw = torch.Generator().manual_seed(3)
    projection = torch.randn(WIDTH, 4, generator=draw)
    own = torch.nn.functional.normalize(end_of(PROMPTS[0]) @ projection, dim=0)
    other = torch.nn.functional.normalize(torch.randn(4, generator=draw), dim=0)
    tensors = {
        "embeds": torch.randn(COUNT, TOKENS, WIDTH, generator=draw),
        "vectors": torch.stack([own, -own, other]),
        "projection": projection,
        "probe": end_of(PROBE),
    }
    path = tmp_path / "prototypes.safetensors"
    stored.write(path, PROTOTYPES, tensors, {"model": "one"})
    return path, tensors


def slow(none, cond, away, guidance, how):
    """One picture, value by value, as the pipeline's guidance is to make it."""
    plain, erased = np.empty_like(none), np.empty_like(none)
    for place in np.ndindex(none.shape):
        plain[place] = none[place] + guidance * (cond[place] - none[place])
        step = away[place] - none[place]
        erased[place] = plain[place] - (how.scale * step if abs(step) > how.floor else 0)
    ratio = plain.std(ddof=1) / erased.std(ddof=1)
    return how.rescale * ratio * erased + (1 - how.rescale) * erased


@pytest.mark.parametrize("rescale", [0.0, 0.5, 1.0])
def test_what_guidance_makes_of_it_value_by_value(
    file, make_run, make_step, text_of, end_of, rescale
):
    path, tensors = file
    plugin = Prototype(str(path), rescale=rescale, threshold=0.3, floor=0.4, scale=3.0)
    guide = plugin.guide(make_run(*PROMPTS))
    text = guide.embed(make_step(0), text_of(*PROMPTS))
    draw = torch.Generator().manual_seed(0)
    none, cond, away = torch.randn(3, len(PROMPTS), 4, 5, 6, generator=draw)
    found = guide.predict(make_step(0), Prediction(none, cond, (away,), 7.5, none))
    near = []
    for image, prompt in enumerate(PROMPTS):
        vector = end_of(prompt) @ tensors["projection"]
        cosines = [float(vector @ one / vector.norm() / one.norm()) for one in tensors["vectors"]]
        best = max(range(COUNT), key=cosines.__getitem__)
        torch.testing.assert_close(text.extra[0][image], tensors["embeds"][best])
        near.append(cosines[best] > 0.3)
        if not near[-1]:
            assert torch.equal(found[image], cond[image])
            continue
        parts = [one[image].double().numpy() for one in (none, cond, away)]
        wanted = slow(*parts, 7.5, plugin)
        guided = none[image] + 7.5 * (found[image] - none[image])
        np.testing.assert_allclose(guided.numpy(), wanted, rtol=1e-3, atol=1e-4)
    assert near[0]
    assert False in near
    told = guide.report()["images"]
    assert [one["prototype"] is not None for one in told] == near
    assert told[0]["prototype"] == 0
    assert told[0]["cosine"] == pytest.approx(1, abs=1e-5)


def test_it_ends_and_a_picture_keeps_its_contrast(file, make_run, make_step, text_of):
    plugin = Prototype(str(file[0]))
    guide = plugin.guide(make_run(PROMPTS[0]))
    guide.embed(make_step(0), text_of(PROMPTS[0]))
    none, cond, away = torch.randn(3, 1, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    given = Prediction(none, cond, (away,), 7.5, none)
    acted = [guide.predict(make_step(k), given) is not given.cond for k in range(50)]
    assert acted == [k < 30 for k in range(50)]
    whole = erasure(none, cond, away, 7.5, 20.0, 0.005, 1.0)
    plain = none + 7.5 * (cond - none)
    torch.testing.assert_close(whole.std(), plain.std(), rtol=1e-4, atol=0)


def test_another_encoder_another_length_and_no_file_are_refused(
    file, make_run, make_step, text_of, tmp_path
):
    path, tensors = file
    with pytest.raises(ParameterError, match="no prototypes; make them"):
        Prototype().guide(make_run(PROMPTS[0]))
    with pytest.raises(ParameterError, match="does not read as a file of prototypes"):
        Prototype(str(tmp_path / "none.safetensors")).guide(make_run(PROMPTS[0]))
    guide = Prototype(str(path)).guide(make_run(PROMPTS[0]))
    with pytest.raises(ParameterError, match="20 tokens, and this call's texts have 12"):
        guide.embed(make_step(0), text_of(PROMPTS[0], columns=12))
    stored.write(path, PROTOTYPES, {**tensors, "probe": -tensors["probe"]}, {"model": "other"})
    guide = Prototype(str(path)).guide(make_run(PROMPTS[0]))
    with pytest.raises(ParameterError, match="the model 'other', and this model's is another"):
        guide.embed(make_step(0), text_of(PROMPTS[0]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"embeds": None}, "lacks embeds, which a file of prototypes has"),
        ({"vectors": torch.ones(1, 2)}, r"vectors \(1, 2\).* make them with"),
        ({"vectors": torch.ones(0, 2), "embeds": torch.ones(0, 4, 4)}, "n prototypes of t tokens"),
        ({"embeds": torch.tensor(1.0)}, "embeds of .* has 0 axes, and that of .* has 3"),
        ({"vectors": torch.tensor(1.0)}, "vectors of .* has 0 axes"),
        ({"probe": torch.full((4,), torch.inf)}, "numbers of probe are not finite"),
    ],
)
def test_files_that_are_not_whole(file, make_run, change, said):
    path, tensors = file
    whole = {name: one for name, one in {**tensors, **change}.items() if one is not None}
    stored.write(path, PROTOTYPES, whole, {"model": "tiny"})
    with pytest.raises(ParameterError, match=said):
        Prototype(str(path)).guide(make_run(PROMPTS[0]))

"""The toybox's adapter, and what is asked of pictures of two subjects."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
import torch
import torch.nn.functional as F

from adhere.pipelines.toybox import COLOURS, KINDS, load_clip, load_toybox
from adhere.pipelines.toybox.model.clip import tokenise
from adhere.pipelines.toybox.model.unet import embed
from adhere.pipelines.toybox.world.faults import TYPICAL
from benchmarks.effects import subjects


def test_pairs_are_of_two_kinds_in_unusual_colours() -> None:
    found = list(subjects.pairs(30, Random(0)))
    assert len(found) == 30
    for kinds, colours in found:
        assert len(set(kinds)) == len(set(colours)) == 2
        for kind, colour in zip(kinds, colours, strict=True):
            assert colour not in TYPICAL[kind]
    assert any(one != other for one, other in pairwise(found))
    assert subjects.said(("apple", "car")) == "an apple and a car"


def test_a_picture_becomes_the_tokens_of_its_words() -> None:
    """On pictures that the regression has not seen, the nearest word is the thing's own."""
    pipe, (clip, *_) = load_toybox(), load_clip()
    weights = subjects.projection(pipe, clip, Random(1))
    looks = [(kind, colour) for kind in KINDS for colour in COLOURS]
    ids = tokenise(pipe.tokenizer, [f"a {colour} {kind}" for kind, colour in looks])
    words = embed(pipe.text_encoder, ids)[:, subjects.COLUMNS]
    rng = Random(2)
    shown = subjects.embedded(clip, [subjects.alone(*look, rng) for look in looks])
    tokens = F.linear(shown, weights["proj.weight"], weights["proj.bias"]).unflatten(1, (4, -1))
    tokens = F.layer_norm(tokens, tokens.shape[-1:], weights["norm.weight"], weights["norm.bias"])
    for column, part in ((1, 1), (2, 0)):  # the colour, the kind
        nearest = torch.cdist(tokens[:, column], words[:, column]).argmin(dim=1).tolist()
        hits = [looks[n][part] == look[part] for n, look in zip(nearest, looks, strict=True)]
        assert sum(hits) > 0.9 * len(looks)


@pytest.mark.slow
def test_it_is_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, kept = tmp_path / "found.json", tmp_path / "adapter.safetensors"
    monkeypatch.setattr(subjects, "STEPS", 2)
    given = ["subjects", "--pairs", "2", "--noises", "1", "--out", str(out), "--keep", str(kept)]
    monkeypatch.setattr(sys, "argv", given)
    subjects.main()
    found = json.loads(out.read_text())["results"]
    assert found["both with their looks"]["subject-guidance - ip-adapter"]["n"] == 2
    assert set(found["both there"]) == {*subjects.ARMS, "subject-guidance - ip-adapter"}
    assert kept.stat().st_size < 2e6
    pipe = load_toybox()
    pipe.load_ip_adapter(
        str(tmp_path), subfolder="", weight_name=kept.name, image_encoder_folder=None
    )
    assert pipe.unet.encoder_hid_proj is not None

"""What is asked of pictures that trained helpers had a hand in."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from adhere.pipelines.toybox import load_toybox
from adhere.plugins.mathematics.noise_library import noise_of
from benchmarks.effects import trained
from benchmarks.effects.pictures import Drawing


def test_the_noise_that_is_taught_is_the_plain_picture_s() -> None:
    """`what it learns` is made of the very noise that the plain picture begins at."""
    pipe = load_toybox()
    side = pipe.unet.config.sample_size
    noise = noise_of(3, (pipe.unet.config.in_channels, side, side))[None]
    draw = Drawing.of(pipe, 2)
    assert draw("a red cat", None, [3], latents=noise) == draw("a red cat", None, [3])


@pytest.mark.slow
def test_both_are_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained, "TEXTS", 20)
    monkeypatch.setattr(trained, "STEERER", replace(trained.STEERER, steps=2))
    monkeypatch.setattr(trained, "NETWORK_OF", replace(trained.NETWORK_OF, steps=2))
    words = ["concept-steering", "golden-noise", "--count", "2", "--pairs", "4", "--steps", "2"]
    monkeypatch.setattr(sys, "argv", ["trained", *words, "--out", str(tmp_path)])
    trained.main()
    steered, golden = (
        json.loads((tmp_path / f"{name}.json").read_text())["results"] for name in trained.STUDIES
    )
    for place in ("one of two things", "haunted"):
        assert set(steered[place]["the rest is there"]) >= {"plain", "strength 1 - plain"}
        assert steered[place]["the concept is seen"]["negative prompt - plain"]["n"] == 2
    assert golden["fully right"]["what it learns - plain"]["n"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "concept-steering.json",
        "golden-noise.json",
    ]

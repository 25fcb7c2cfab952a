"""Making prototypes: clusters against all partitions, tokens one by one, and the command."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adhere.errors import ModelError, ParameterError
from adhere.pipelines.studio.request import Request
from adhere.pipelines.studio.studio import Studio
from adhere.pipelines.tools import prototypes
from adhere.pipelines.tools.clip import clip_of
from adhere.pipelines.tools.prototypes import (
    SOFTNESS,
    Plan,
    Trainer,
    centres,
    clip_for,
    directions,
    pooled,
)
from adhere.plugins.mathematics.prototypes import Prototypes
from tests import tiny
from tests.command import adhere


def unit(count: int, channels: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, channels, generator=draw), dim=1)


@pytest.mark.parametrize("seed", range(5))
def test_clusters_are_the_best_of_all_partitions(seed: int) -> None:
    vectors = unit(7, 3, seed)
    best, means = float("inf"), torch.empty(0)
    for labels in itertools.product(range(2), repeat=7):
        groups = [vectors[[k == label for label in labels]] for k in range(2)]
        if not all(map(len, groups)):
            continue
        apart = sum(float((one - one.mean(dim=0)).square().sum()) for one in groups)
        if apart < best - 1e-9:
            best, means = apart, torch.stack([one.mean(dim=0) for one in groups])
    wanted = torch.nn.functional.normalize(means, dim=1)
    found = centres(vectors, 2, seed=0)
    order = torch.cdist(wanted, found).argmin(dim=1)
    torch.testing.assert_close(found[order], wanted)


def test_where_a_clip_sees_embeddings_token_by_token() -> None:
    draw = torch.Generator().manual_seed(0)
    embeds, projection = 0.1 * torch.randn(2, 5, 4, generator=draw), unit(4, 3, 1)
    for row, found in zip(embeds, pooled(embeds, 4, projection), strict=True):
        weights = [torch.exp(-((one - row[4]) ** 2).sum() / SOFTNESS) for one in row]
        mean = sum(w * one for w, one in zip(weights, row, strict=True)) / sum(weights)
        seen = mean @ projection
        torch.testing.assert_close(found, seen / seen.norm())


@pytest.mark.slow
def test_directions_are_of_pictures_with_and_without() -> None:
    studio, clip = Studio("toybox", "cpu"), clip_of("toybox", None)
    assert clip is not None
    plan, ticks = Plan("a skull", pictures=2), list[float]()
    found = directions(studio, clip, ["a cat", "a frog"], plan, 3, ticks.append)
    assert sum(ticks) == 8
    for row, text in zip(found, ("a cat", "a frog"), strict=True):
        seen = [
            torch.stack(
                [clip.pictures([studio.generate([Request(t, seed=s)])[0].image])[0] for s in (0, 1)]
            ).mean(dim=0)
            for t in (f"a skull and {text}", text)
        ]
        wanted = torch.nn.functional.normalize(seen[0] - seen[1], dim=0)
        torch.testing.assert_close(row, wanted, rtol=0, atol=5e-3)  # a batch moves last bits


def test_what_is_drawn_is_not_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prototypes, "PART", 1)
    studio, clip = Studio("toybox", "cpu"), clip_of("toybox", None)
    assert clip is not None
    plan, out, drawn = Plan("a skull", pictures=1), tmp_path / "made.safetensors", list[str]()
    plain = Studio.generate

    def counted(self: Studio, requests: Any) -> Any:
        if len(drawn) == 1:
            raise KeyboardInterrupt
        drawn.append(requests[-1].prompt)
        return plain(self, [replace(one, steps=2) for one in requests])

    monkeypatch.setattr(Studio, "generate", counted)
    texts, ticks = ["a cat", "a frog"], list[float]()
    with pytest.raises(KeyboardInterrupt):
        directions(studio, clip, texts, plan, 2, ticks.append, out)
    assert drawn == ["a cat"]
    drawn.clear()
    found = directions(studio, clip, texts, plan, 2, ticks.append, out)
    assert drawn == ["a frog"]
    assert found.shape[0] == 2
    assert sum(ticks) == 2 + 4
    assert torch.equal(directions(studio, clip, texts, plan, 2, ticks.append, out), found)
    with pytest.raises(ParameterError, match="with concept 'a skull', and this one is to have"):
        directions(studio, clip, texts, replace(plan, concept="bones"), 2, ticks.append, out)
    assert drawn == ["a frog"]


def test_embeddings_come_to_point_where_they_should() -> None:
    studio, clip = Studio("toybox", "cpu"), clip_of("toybox", None)
    seen = unit(6, 128, 2)
    before = Trainer(studio.pipe, clip_for(studio.pipe, clip), seen, Plan("x", count=3, steps=0))
    after = Trainer(studio.pipe, clip_for(studio.pipe, clip), seen, Plan("x", count=3, steps=200))
    after.train(lambda _: None)
    assert after.reached() > 0.9 > before.reached() + 0.3


def test_another_clip_is_refused() -> None:
    with pytest.raises(ModelError, match="'toybox' is another"):
        clip_for(tiny.sd1(), clip_of("toybox", None))
    with pytest.raises(ModelError, match="none was given"):
        clip_for(tiny.sdxl(), None)


@pytest.mark.parametrize("command", ["concept-steering", "golden-noise", "prototype"])
def test_no_file_of_another_kind_is_overwritten(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """... which is said before anything is learnt."""
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("picture.png", "weights.safetensors"):
        (tmp_path / name).write_bytes(b"mine")
    given = ["train", command, *(("--concept", "a skull") if command == "prototype" else ())]
    for name, said in (
        ("picture.png", "let it end in .safetensors"),
        ("folder", "let it end in .safetensors"),
        ("folder.safetensors", "is a folder; give the name of a file in it"),
        (f"{'a' * 250}.safetensors", "cannot be written (File name too long)"),
        ("weights.safetensors", "is there already and no"),
        ("picture.png/new.safetensors", "is no folder that can be written to"),
    ):
        assert adhere(*given, "--out", tmp_path / name) == 2
        assert said in capsys.readouterr().err
    assert (tmp_path / "picture.png").read_bytes() == b"mine"
    assert (
        adhere(*given, "--texts", tmp_path / "none.txt", "--out", tmp_path / "a.safetensors") == 2
    )
    assert "--texts" in capsys.readouterr().err


def test_the_command_and_what_it_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "prototypes.safetensors"
    given = ["train", "prototype", "--out", str(out), "--concept"]
    few = ["--size", "2", "--pictures", "1", "--training", "2", "--count"]
    assert adhere(*given, "a skull", *few, "2") == 0
    assert "2 prototypes of 'a skull', from 2 texts" in capsys.readouterr().out
    assert Prototypes.read(out).embeds.shape[0] == 2
    assert adhere(*given, "a skull", *few, "3") == 2
    assert "2 texts are too few for 3 prototypes" in capsys.readouterr().err
    assert adhere(*given, " ", *few, "2") == 2
    assert "the concept is empty" in capsys.readouterr().err

"""Every evaluator of single pictures is a verifier, for any picture and prompt."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from adhere.errors import LayoutError, ParameterError
from adhere.eval.evaluators import table
from adhere.eval.evaluators.verifying import item, named
from adhere.pipelines.toybox.judge.judge import Judge
from adhere.pipelines.toybox.world.world import ground_truth, render, sample_scene
from adhere.verifiers import verifier


def pictures(count: int) -> tuple[list[Image.Image], list[str]]:
    """Rendered scenes with the prompt that fits each."""
    rng = Random(3)
    scenes = [sample_scene(rng, count=2, background="plain") for _ in range(count)]
    images = [render(scene) for scene in scenes]
    prompts = [
        " and ".join(f"a {thing.colour} {thing.kind}" for thing in scene.things) for scene in scenes
    ]
    return images, prompts


def test_the_judge_tells_the_right_prompt_from_another() -> None:
    images, prompts = pictures(6)
    right = verifier("judge")(images, prompts)
    wrong = verifier("judge")(images, [*prompts[1:], prompts[0]])
    assert min(right) == 1.0
    assert max(wrong) < 1.0


def test_clip_does_too(capfd: pytest.CaptureFixture[str]) -> None:
    images, prompts = pictures(6)
    right = verifier("clip-score")(images, prompts)
    wrong = verifier("clip-score")(images, [*prompts[1:], prompts[0]])
    assert sum(r > w for r, w in zip(right, wrong, strict=True)) >= 5
    assert capfd.readouterr().err == ""  # no bar of a model that is loaded in a moment


def test_less_is_better_is_turned() -> None:
    images, prompts = pictures(2)
    assert verifier("judge.neglected")(images, prompts) == [0.0, 0.0]
    assert verifier("judge.neglected")(images, ["a clock and a castle"] * 2) == [-1.0, -1.0]


@pytest.mark.parametrize(
    "name", [n for n, kind in table.EVALUATORS.items() if hasattr(kind, "load")]
)
def test_every_evaluator_of_pictures_is_one_or_says_why_not(name: str) -> None:
    if name == "cost":
        with pytest.raises(ParameterError, match="no column"):
            named(name, None, "")
        return
    assert callable(named(name, None, ""))


@pytest.mark.parametrize("name", ["fid", "kid", "cmmd"])
def test_comparisons_of_sets_are_none(name: str) -> None:
    with pytest.raises(ParameterError, match="no verifier is called"):
        verifier(name)


def test_places_are_held_against_a_layout(tmp_path: Path) -> None:
    scene = sample_scene(Random(3), count=1, background="plain")
    (truth,) = ground_truth(scene)
    box = [one / 64 for one in truth.box]
    phrase = f"{truth.colour} {truth.kind}"
    scores = []
    for number, there in enumerate((box, [1 - box[2], 1 - box[3], 1 - box[0], 1 - box[1]])):
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps({"regions": [{"phrase": phrase, "box": there}]}))
        scores += verifier(f"judge.miou(layout={file})")([render(scene)], [f"a {phrase}"])
        assert verifier(f"judge(layout={file})")([render(scene)], [f"a {phrase}"]) == scores[-1:]
    assert scores[0] > 0.4 > scores[1] + 0.2
    with pytest.raises(ParameterError, match=re.escape("give one: judge.miou(layout=FILE.json)")):
        verifier("judge.miou")
    with pytest.raises(ParameterError, match="no column 'miou'"):
        verifier(f"detector(layout={file})")
    with pytest.raises(LayoutError, match="nowhere"):
        verifier("judge.miou(layout=nowhere.json)")


def test_an_unknown_column_lists_the_known() -> None:
    with pytest.raises(ParameterError, match=r"has no column 'nice' .*it has: clip_full"):
        verifier("clip-score.nice")


def test_parameters_are_read() -> None:
    with pytest.raises(ParameterError, match="has no parameter 'modle'"):
        verifier("clip-score(modle=x)")


@pytest.mark.parametrize("size", [(32, 32), (512, 512)])
@pytest.mark.parametrize("name", ["judge", "clip-score", "copies"])
def test_what_knows_the_toybox_alone_refuses_other_pictures(
    name: str, size: tuple[int, int]
) -> None:
    """Scores of the toybox's models for other pictures would be numbers without a meaning."""
    with pytest.raises(ParameterError, match=r"knows pictures of the toybox only \(64x64\)"):
        verifier(name)([Image.new("RGB", size)], ["a red car"])


def test_a_prompt_is_read_as_suites_are_written() -> None:
    asked = item("a red cat and two blue cars on a table")
    assert [(one.noun, one.colour) for one in asked.things] == [
        ("cat", "red"), ("cars", "blue"), ("table", None),
    ]  # fmt: skip


def test_a_prompt_beyond_the_judge_raises_and_is_kept() -> None:
    from adhere.verifiers.scoring import score

    images, prompts = pictures(2)
    found = score(verifier("judge"), images, [prompts[0], "a zeppelin"])
    assert found.scores[0] == 1.0
    assert found.scores[1] != found.scores[1]
    assert "cannot judge this prompt" in found.failures[0]


def test_it_is_loaded_once() -> None:
    assert verifier("judge") is verifier("judge")
    assert isinstance(Judge.load(), Judge)

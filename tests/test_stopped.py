"""What a command says of its work when it is stopped is true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from adhere.cli import explaining, making
from adhere.pipelines.tools import golden_noise, hard_prompt
from tests.command import adhere

NOTHING = "interrupted; nothing was finished, and the same command begins anew\n"
KEPT = "interrupted; what was finished is kept"
MADE = f"{KEPT}, and the same command makes the rest"
GOES_ON = " that were finished are kept, and the same command goes on from them\n"


def stopped(*given: Any, **named: Any) -> Any:
    raise KeyboardInterrupt


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), "red").save("given.png")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("edit", "given.png", "--concept", "a cat"), NOTHING),
        (("explain", "a cat and a dog"), NOTHING),
        (("train", "concept-steering"), NOTHING),
        (("train", "golden-noise"), "interrupted; parts of 16 pairs" + GOES_ON),
        (
            ("train", "prototype", "--concept", "a skull"),
            "interrupted; parts of 8 texts' pictures" + GOES_ON,
        ),
        (("noise", "library"), "interrupted; parts of 64 seeds" + GOES_ON),
        (
            ("generate", "a cat"),
            "interrupted; what was finished is kept, and the same command makes the rest\n",
        ),
    ],
)
def test_stopped_while_the_model_is_loaded(
    words: tuple[str, ...],
    said: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for module in (making, explaining):
        monkeypatch.setattr(module, "studio", stopped)
    assert adhere(*words) == 130
    assert capsys.readouterr().err == said
    assert [path.name for path in here.rglob("*") if path.is_file()] == ["given.png"]


def test_a_search_for_a_prompt_says_its_best(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = hard_prompt._Walk.step
    calls = iter(range(3))
    monkeypatch.setattr(
        hard_prompt._Walk,
        "step",
        lambda walk: step(walk) if next(calls, None) is not None else stopped(),
    )
    assert adhere("invert", "given.png", "--length", "2", "--steps", "9") == 130
    told = capsys.readouterr()
    assert "cosine" in told.out
    assert "the best prompt so far is said, and the same command begins anew" in told.err
    assert adhere("invert", "given.png", "--length", "2", "--steps", "9") == 130
    told = capsys.readouterr()
    assert (told.out, told.err.endswith(NOTHING)) == ("", True)


def test_pairs_are_kept_and_learnt_from_anew(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("train", "golden-noise", "--size", "2", "--steps", "2", "--verifier", "none")
    with monkeypatch.context() as patch:
        patch.setattr(golden_noise, "trained", stopped)
        assert adhere(*words, "--training", "1") == 130
    told = capsys.readouterr().err
    assert "pairs: 2/2" in told
    assert "the pairs are kept, and the same command learns from them anew" in told
    assert adhere(*words, "--training", "1") == 0
    assert "pairs:" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "place", "said"),
    [
        ("eval run out -s toybox-smoke", "adhere.eval.commands.steps.experiment", MADE),
        ("eval generate out", "adhere.eval.commands.steps.generate", MADE),
        ("eval score out", "adhere.eval.commands.steps.score", MADE),
        ("eval report out", "adhere.eval.commands.steps.report", KEPT),
        ("toybox train", "adhere.pipelines.toybox.cli._stages", f"{KEPT}, and the same command "
         "with --resume goes on from the last checkpoint"),
    ],
)  # fmt: skip
def test_rooms_say_what_goes_on(
    words: str,
    place: str,
    said: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(place, stopped)
    assert adhere(*words.split()) == 130
    assert capsys.readouterr().err == f"{said}\n"

"""The command line as a user meets it: pictures, grid, report, and errors in one sentence."""

from __future__ import annotations

import errno
import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from adhere import cli
from adhere.cli.options import Loading, in_groups
from adhere.errors import GuidanceWarning
from adhere.layout.composing import composed
from adhere.pipelines.studio import prompts, studio
from adhere.pipelines.studio.output import read_settings
from adhere.pipelines.studio.request import Request, seeds_of
from adhere.pipelines.studio.studio import Studio
from adhere.verifiers import register
from tests import tiny
from tests.command import adhere

PROMPT = "a cat and a frog"
SMALL = ["--steps", "2", "--width", "64", "--height", "64"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tiny.sd1().save_pretrained(path)
    return path


def test_generate_writes_pictures_grid_and_report(folder: Path, tmp_path: Path) -> None:
    words = ["--model", folder, "-p", "attend-and-excite:refinements=0", "--seeds", "3,5-6"]
    assert adhere("generate", PROMPT, *words, "--out", tmp_path, *SMALL) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["complete"] is True
    assert [row["request"]["seed"] for row in report["pictures"]] == [3, 5, 6]
    assert all(row["report"]["passes"] == 1 for row in report["pictures"])  # half of two steps
    for row in report["pictures"]:
        settings = read_settings(tmp_path / row["file"])
        assert settings is not None
        assert settings.request is not None
        again = Request.from_json(settings.request)
        assert again.prompt == PROMPT
        assert again.plugins[0].refinements == 0  # type: ignore[attr-defined]
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.width > 3 * 64


def test_a_picture_does_not_depend_on_its_batch(folder: Path, tmp_path: Path) -> None:
    words = ["--model", folder, "--seeds", "0-2", *SMALL, "-p", "attend-and-excite"]
    assert adhere("generate", PROMPT, *words, "-b", "3", "--out", tmp_path / "three") == 0
    assert adhere("generate", PROMPT, *words, "-b", "1", "--out", tmp_path / "one") == 0
    made = sorted((tmp_path / "three").glob("000-*.png"))
    assert len(made) == 3
    for path in made:
        with Image.open(path) as a, Image.open(tmp_path / "one" / path.name) as b:
            worst = max(abs(x - y) for x, y in zip(a.tobytes(), b.tobytes(), strict=True))
            assert worst <= 1, path.name


def test_compare_sets_plain_beside_plugins_and_stacks(folder: Path, tmp_path: Path) -> None:
    stack = "attend-and-excite+safe-latent-diffusion:preset=max,concept=a frog"
    words = ["-p", "attend-and-excite", "-p", stack, "--seed", "0", "--maps"]
    assert adhere("compare", PROMPT, "--model", folder, *words, "--out", tmp_path, *SMALL) == 0
    rows = json.loads((tmp_path / "report.json").read_text())["pictures"]
    assert [len(row["request"]["plugins"]) for row in rows] == [0, 1, 2]
    assert len(list(tmp_path.glob("*-attention.png"))) == 3
    pictures = [Image.open(tmp_path / row["file"]).tobytes() for row in rows]
    assert len(set(pictures)) == 3


def test_markup_is_not_part_of_what_the_model_reads(folder: Path, tmp_path: Path) -> None:
    made = Studio(str(folder))
    plain, marked = made.generate(
        [
            Request(text, steps=2, width=64, height=64, guidance_scale=2.0)
            for text in ("red cat and blue frog", "[red|cat] and [blue|frog]")
        ]
    )
    assert plain.image.tobytes() != Image.new("RGB", (64, 64)).tobytes()
    assert [plain.request.prompt, marked.request.prompt][1].startswith("[red")


def test_explain_says_what_words_are_to_a_picture(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", folder, "--words", "cat|frog", "--levels", "2", "--context"]
    assert adhere("explain", PROMPT, *words, "--out", tmp_path, *SMALL) == 0
    said = capsys.readouterr()
    assert "cat + frog: redundant" in said.out
    assert "steps and levels: 4/4" in said.err  # two steps, two levels
    assert {path.suffix for path in tmp_path.glob("explanation.*")} == {
        ".png", ".json", ".safetensors"
    }  # fmt: skip
    assert adhere("explain", PROMPT, "--words", "frog", "--out", tmp_path) == 2
    assert "compared two by two" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-p", "attend"], "no plugin is called 'attend'"),
        (["-p", "attend-and-excite:stepsize=1"], "has no parameter 'stepsize'"),
        (["-p", "attend-and-excite:stop=2"], "out of range"),
        (["-p", "attend-and-excite:stop=nan"], "out of range"),
        (["-p", "attend-and-excite:until"], "not key=value"),
        (["-p", "attend-and-excite", "--subjects", "dog"], "dog"),
        (["--seeds", "x"], "seeds 'x'"),
        (["--scheduler", "nope"], "no scheduler is called 'nope'"),
        (["--layout", "/nowhere.json"], "no layout file /nowhere.json; give one, or"),
        (["--width", "65"], "width=65 is not a multiple of 8 pixels; use 64 or 72"),
        (["--seeds", "5-1"], "run backwards; write 1-5"),
        (["--seeds", "0-10000"], "at most 10000"),
        (["--seed", str(2**63)], "less than or equal to 9223372036854775807"),
        (["--layout", "/"], "--layout '/' is a folder"),
        (["-p", "attend-and-excite:stop=0.1,stop=0.2"], "stop is given twice, '0.1' and '0.2'"),
        (["-p", " "], "names no plugin"),
        (["-p", '{"plugin": 1'], "does not read as JSON"),
        (["--device", "potato"], "device 'potato' cannot be used"),
        (["--dtype", "int8"], "dtype='int8' is not one of float32, float16, bfloat16"),
        (["--out", "/proc/nowhere"], "is no folder that can be written to"),
    ],
)
def test_bad_input_is_one_sentence(
    words: list[str], said: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = adhere("generate", PROMPT, "--model", folder, "--out", tmp_path, *SMALL, *words)
    captured = capsys.readouterr()
    assert code == 2
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert not list(tmp_path.glob("000-*.png"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan", PROMPT, "--out", "FOLDER"], "is a folder; give the name of a file in it"),
        (
            ["plan", PROMPT, "--out", "/proc/nowhere/plan.json"],
            "--out '/proc/nowhere' is no folder",
        ),
        (["plan", PROMPT, "--out", "PIPE"], "and no file); give another name"),
        (["plan", PROMPT, "--out", "LOOP"], "and no file); give another name"),
        (["edit", "P.png", "--concept", "a cat", "--out", "PIPE.png"], "a pipe or a circle"),
        (["noise", "library", "--size", "2", "--out", "PIPE.safetensors"], "a pipe or a circle"),
        (["plan", PROMPT, "--enough", "nan"], "enough=nan is no score"),
        (["generate", PROMPT, "--auto", "--enough", "nan"], "enough=nan is no score"),
        (["app", "--gallery", "/proc/nowhere"], "--gallery '/proc/nowhere' is no folder"),
        (["plan", "caf\udce9"], r"'caf\udce9' has halves of characters in it"),
        (["edit", "P.png", "--concept", "caf\udce9"], r"'caf\udce9' has halves of characters"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_made(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "PIPE")
    os.mkfifo(tmp_path / "PIPE.png")
    os.mkfifo(tmp_path / "PIPE.safetensors")
    (tmp_path / "LOOP").symlink_to("LOOP")
    Image.new("RGB", (64, 64)).save(tmp_path / "P.png")
    before = {path: path.lstat().st_ino for path in tmp_path.iterdir()}
    given = {path.name: path for path in before} | {"FOLDER": tmp_path}
    assert adhere(*[given.get(word, word) for word in words]) == 2
    assert said in capsys.readouterr().err
    assert {path: path.lstat().st_ino for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("layout", ["auto", "three_things"])
def test_a_plan_that_follows_no_layout_takes_none(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would have no effect on any picture."""
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"prompt": PROMPT, "attempts": [{}, {"plugins": ["syngen"]}]}))
    words = ["generate", "--plan", path, "--layout", layout, "--out", tmp_path / "out"]
    assert adhere(*words) == 2
    assert f"--layout {layout}: no attempt of the plan follows a layout" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_plan_that_is_said_follows_the_layout_that_is_given(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a prompt that has no plan is told in its place, while the others are made."""
    (tmp_path / "prompts.txt").write_text("no cats\na frog\n")
    (tmp_path / "layout.json").write_text(json.dumps(composed("a frog").to_json()))
    register("alike", lambda pictures, prompts: [1.0] * len(pictures))
    words = ["--layout", tmp_path / "layout.json", "--verifier", "alike", "--enough", "0", *SMALL]
    words += ["--auto", "--model", folder, "--out", tmp_path, "--prompts", tmp_path / "prompts.txt"]
    assert adhere("generate", *words) == 1
    said = capsys.readouterr()
    assert "2. zestguide: there may be more or fewer" in said.out
    assert "line 1: 'no cats' says only what is not to be there" in said.err
    assert len(list(tmp_path.glob("001-a-frog-*.png"))) == 1


@pytest.mark.parametrize("prompt", ["", "  "])
def test_an_empty_prompt_with_plugins_that_need_words(
    prompt: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", folder, "-p", "attend-and-excite", "--out", tmp_path, *SMALL]
    assert adhere("generate", prompt, *words) == 2
    assert "the prompt is empty" in capsys.readouterr().err


def test_a_prompt_of_200_words_is_cut_and_said_to_be(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", folder, "-p", "attend-and-excite:refinements=0", "--out", tmp_path, *SMALL]
    assert adhere("generate", "a cat " + "big " * 200, *words) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note:")]
    assert any("so the prompt was cut before" in note for note in notes)
    assert all(len(note) < 310 for note in notes)
    assert adhere("generate", "big " * 200 + "cat", *words) == 2
    assert "lies beyond token 77" in capsys.readouterr().err


def test_prompt_files_that_do_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = tmp_path / "odd.txt"
    for content, said in ((b"\xff\xfe\x00", "save it as UTF-8"), (b"# none\n", "write one a line")):
        odd.write_bytes(content)
        assert adhere("generate", "--prompts", odd, "--out", tmp_path / "o") == 2
        assert said in capsys.readouterr().err
    assert adhere("generate", "--prompts", tmp_path, "--out", tmp_path / "o") == 2
    assert "is a folder; give the file" in capsys.readouterr().err
    assert adhere("generate", "--prompts", tmp_path / "no", "--out", tmp_path / "o") == 2
    assert "no such file" in capsys.readouterr().err
    odd.write_bytes("\ufeffa cat\n".encode())  # as some editors save it
    assert [line.prompt for line in prompts.read(odd).lines] == ["a cat"]


def test_an_out_that_is_a_file_is_refused_before_any_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        pytest.fail("a model was loaded before the mistake was found")

    monkeypatch.setattr(studio, "load", never)
    file = tmp_path / "file"
    file.write_text("mine")
    for words in (["generate", PROMPT], ["compare", PROMPT], ["explain", PROMPT], ["demo"]):
        assert adhere(*words, "--out", file) == 2
        assert "is no folder that can be written to" in capsys.readouterr().err
    assert file.read_text() == "mine"


def test_one_plugin_with_several_settings_makes_a_file_for_each(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["attend-and-excite:refinements=0", "attend-and-excite:refinements=0,step_size=90"]
    words = ["-p", settings[0], "-p", settings[1], "--seeds", "0-4", "-b", "5", "--model", folder]
    assert adhere("compare", PROMPT, *words, "--out", tmp_path, *SMALL) == 0
    rows = json.loads((tmp_path / "report.json").read_text())["pictures"]
    files = [row["file"] for row in rows]
    assert len(set(files)) == len(files) == 15
    sizes = [row["request"]["plugins"][0]["step_size"] for row in rows[5:]]
    assert sizes == [20.0] * 5 + [90.0] * 5
    for row in rows:
        settings_inside = read_settings(tmp_path / row["file"])
        assert settings_inside is not None
        assert settings_inside.request == row["request"]
    assert "attend-and-excite#2" in capsys.readouterr().out


def test_a_mounted_rooms_exit_code_is_the_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adhere("eval", "score", tmp_path / "none") == 2
    assert "no readable manifest" in capsys.readouterr().err
    assert adhere("eval", "score", tmp_path, "--nonsense") == 2
    assert adhere("toybox", "card", tmp_path / "none") == 2
    assert adhere("eval", "ls") == 0


@pytest.fixture
def _listening() -> Iterator[None]:
    """Ctrl-C is heard, also where the tests run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_listening")
def test_a_real_interrupt_in_the_middle_of_a_picture(folder: Path, tmp_path: Path) -> None:
    """SIGINT while the second batch is being made: the first is kept, and nothing half-written."""
    import _thread

    seen: list[int] = []
    plain = Studio.generate

    def interrupted(self: Studio, requests: Any, *, on_step: Any = None, **options: Any) -> Any:
        seen.append(len(requests))

        def step(progress: Any) -> None:
            if len(seen) == 2 and progress.index == 1:
                _thread.interrupt_main()
            on_step(progress)

        return plain(self, requests, on_step=step, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studio.Studio, "generate", interrupted)
        words = ["--model", folder, "--seeds", "0-3", "-b", "2", "--out", tmp_path, *SMALL]
        assert adhere("generate", PROMPT, "-p", "syngen", *words, "--steps", "4") == 130
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["complete"], len(report["pictures"])) == (False, 2)
    assert {path.name for path in tmp_path.iterdir()} == {
        "report.json",
        "grid.png",
        *(row["file"] for row in report["pictures"]),
    }


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupt_while_the_program_is_still_being_read(number: str, code: int) -> None:

    program = f"""
import os, signal, sys

class Stop:
    def find_spec(self, name, path, target=None):
        if name == "typer":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.{number})

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Stop())
from adhere.cli import main
main()
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (code, "interrupted; what was finished is kept\n")


def test_the_toybox_in_another_precision() -> None:
    import torch

    assert studio.load("toybox", "cpu", None).dtype == torch.float32
    assert studio.load("toybox", "cpu", "bfloat16").dtype == torch.bfloat16


def test_a_folder_that_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adhere("generate", PROMPT, "--model", tmp_path / "missing") == 2
    assert "no model_index.json" in capsys.readouterr().err


def test_pickled_weights_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    import torch

    copy = tmp_path / "pickled"
    shutil.copytree(folder, copy)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    torch.save({}, copy / "unet" / "diffusion_pytorch_model.bin")
    assert adhere("generate", PROMPT, "--model", copy, "--out", tmp_path, *SMALL) == 2
    assert "safetensors" in capsys.readouterr().err


def test_prompts_come_from_a_file(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("# comment\na cat\n\na red car\n")
    words = ["--prompts", file, "--model", folder, "--out", tmp_path / "out"]
    assert adhere("generate", *words, *SMALL) == 0
    rows = json.loads((tmp_path / "out" / "report.json").read_text())["pictures"]
    assert [row["request"]["prompt"] for row in rows] == ["a cat", "a red car"]


def test_an_interrupt_keeps_what_is_finished(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Studio.generate
    calls: list[int] = []

    def second_call_is_interrupted(self: Studio, requests: Any, **options: Any) -> Any:
        calls.append(len(requests))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(self, requests, **options)

    monkeypatch.setattr(studio.Studio, "generate", second_call_is_interrupted)
    words = ["--model", folder, "--seeds", "0-3", "-b", "2", "--out", tmp_path, *SMALL]
    assert adhere("generate", PROMPT, *words) == 130
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["complete"] is False
    assert report["stopped_by"] == "KeyboardInterrupt"
    assert len(report["pictures"]) == 2
    assert all((tmp_path / row["file"]).is_file() for row in report["pictures"])
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize(("stopped", "pictures"), [("image", 1), ("text", 2)])
def test_an_interrupt_while_a_file_is_written_loses_no_picture(
    stopped: str, pictures: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first picture, or the report of both."""
    plain, calls = os.replace, []

    def stops_once(source: Any, target: Any) -> None:
        if (Path(target).suffix == ".json") is (stopped == "text"):
            calls.append(target)
            if len(calls) == 1:
                raise KeyboardInterrupt
        plain(source, target)

    monkeypatch.setattr(os, "replace", stops_once)
    words = ["--model", folder, "--seeds", "0-1", "-b", "1", "--out", tmp_path, *SMALL]
    assert adhere("generate", PROMPT, *words) == 130
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["stopped_by"] == "KeyboardInterrupt"
    assert len(report["pictures"]) == pictures
    assert all((tmp_path / row["file"]).is_file() for row in report["pictures"])
    assert not list(tmp_path.glob(".*.part"))
    assert adhere("generate", PROMPT, *words) == 0
    again = json.loads((tmp_path / "report.json").read_text())
    assert again["complete"] is True
    assert again["pictures"][:pictures] == report["pictures"]


@pytest.mark.parametrize("how", ["--best-of", "--auto"])
def test_a_chosen_picture_says_its_own_seed_and_score(
    how: str, folder: Path, tmp_path: Path
) -> None:
    """Not the seed that was asked for, with which it cannot be made again alone."""
    asked: list[int] = []

    def later_is_better(pictures: Any, prompts: Any) -> list[float]:
        asked.append(len(pictures))
        return [float(len(asked))] * len(pictures)

    register("later-is-better", later_is_better)
    chosen = ["--best-of", "2", "--look-at", "1"] if how == "--best-of" else ["--auto"]
    words = [*chosen, "-b", "1", "--verifier", "later-is-better", "--model", folder, *SMALL]
    assert adhere("generate", PROMPT, *words, "--seed", "3", "--out", tmp_path) == 0
    (row,) = json.loads((tmp_path / "report.json").read_text())["pictures"]
    told = row["report"]["search" if how == "--best-of" else "autopilot"]
    best = told["candidates"][0] if how == "--best-of" else told["tries"][told["chosen"]]
    settings = read_settings(tmp_path / row["file"])
    assert settings is not None
    assert settings.request is not None
    assert settings.made["chosen"] == {
        key: best[key] for key in ("attempt", "seed", "score") if key in best
    }
    assert best["seed"] != settings.request["seed"] == 3
    assert f"Seed: {best['seed']}, " in settings.text
    assert f"Score: {best['score']}" in settings.text


@pytest.mark.parametrize("full", [".png", ""])
def test_a_full_disk_keeps_what_is_written_and_says_what_is_not(
    full: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Full for the second chosen picture, and for the report too, or for pictures alone."""
    register("alike", lambda pictures, prompts: [1.0] * len(pictures))
    plain, calls = os.replace, []

    def replace(source: Any, target: Any) -> None:
        calls.append(Path(target).name)
        if len(calls) > 1 and calls[-1].endswith(full):
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(source, target)

    words = ["--best-of", "2", "--look-at", "1", "--verifier", "alike", "--model", folder]
    words += ["--seeds", "0-2", "--out", tmp_path, *SMALL]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        assert adhere("generate", PROMPT, *words) == 1
    said = capsys.readouterr().err
    assert f"{calls[1]} was not written (No space left on device)" in said
    assert ("report.json was not written" in said) is (full == "")
    assert not list(tmp_path.glob(".*.part"))
    assert [one.name for one in tmp_path.glob("0*.png")] == calls[:1]
    if full:
        report = json.loads((tmp_path / "report.json").read_text())
        assert (report["complete"], report["stopped_by"]) == (False, "OSError")
        assert [row["file"] for row in report["pictures"]] == calls[:1]
    assert adhere("generate", PROMPT, *words) == 0
    assert len(list(tmp_path.glob("0*.png"))) == 3


@pytest.mark.parametrize("how", ["--best-of", "--auto"])
def test_an_interrupt_keeps_the_best_that_a_search_has_finished(
    how: str, folder: Path, tmp_path: Path
) -> None:
    """And the same command again makes it whole."""
    asked: list[int] = []

    def stops_once(pictures: Any, prompts: Any) -> list[float]:
        asked.append(len(pictures))
        if len(asked) == 4:
            raise KeyboardInterrupt
        return [float(len(asked))] * len(pictures)

    register("stops-once", stops_once)
    chosen = ["--best-of", "4", "--look-at", "1"] if how == "--best-of" else ["--auto"]
    words = [*chosen, "-b", "1", "--verifier", "stops-once", "--model", folder, *SMALL]
    words += ["--out", tmp_path]
    assert adhere("generate", PROMPT, *words) == 130
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["stopped_by"] == "KeyboardInterrupt"
    (row,) = report["pictures"]
    assert (tmp_path / row["file"]).is_file()
    told = row["report"]["search" if how == "--best-of" else "autopilot"]
    assert told["stopped_by"] == "KeyboardInterrupt"
    assert any("stopped by KeyboardInterrupt: the best" in note for note in row["report"]["notes"])
    assert adhere("generate", PROMPT, *words) == 0
    again = json.loads((tmp_path / "report.json").read_text())
    assert again["complete"] is True
    (whole,) = again["pictures"]
    assert whole["id"] == row["id"]
    assert "stopped_by" not in whole["report"]["search" if how == "--best-of" else "autopilot"]
    asked.clear()
    assert adhere("generate", PROMPT, *words) == 0
    assert not asked


def test_seeds_read() -> None:
    assert seeds_of("0-3,7, 2") == (0, 1, 2, 3, 7)
    assert seeds_of("4") == (0, 1, 2, 3)
    assert seeds_of("4-4") == (4,)


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    rooms = ("edit", "app", "noise", "train", "eval", "toybox")
    for command in ("generate", "compare", "explain", "plugins", "invert", "demo", *rooms):
        assert adhere(command, "--help") == 0
        assert len(capsys.readouterr().out) > 200, command


def test_every_commands_help_has_an_example() -> None:
    import typer

    from adhere.app.serving.cli import app_app
    from adhere.cli.commands import app
    from adhere.cli.noise import noise_app
    from adhere.cli.training import train_app
    from adhere.eval.cli import eval_app
    from adhere.pipelines.toybox.cli import toybox_app

    rooms = {"noise": noise_app, "train": train_app, "eval": eval_app, "toybox": toybox_app}
    found = {f"adhere {name}": one for name, one in typer.main.get_command(app).commands.items()}
    found["adhere app"] = typer.main.get_command(app_app)
    for room, its in rooms.items():
        del found[f"adhere {room}"]
        whole = typer.main.get_command(its)
        assert not [one for one in whole.params if "--install-completion" in one.opts]
        inner = whole.commands
        found |= {f"adhere {room} {name}": one for name, one in inner.items()}
    lacking = [n for n, one in found.items() if not re.search(rf"^ *{n}( |$)", one.help, re.M)]
    assert lacking == []


def test_help_says_what_holds_where_an_option_is_left_out() -> None:
    import typer

    from adhere.cli.commands import app
    from adhere.cli.noise import noise_app
    from adhere.cli.training import train_app
    from adhere.eval.cli import eval_app
    from adhere.pipelines.toybox.cli import toybox_app

    numbers = {"steps", "guidance_scale", "true_cfg", "width", "height", "budget", "enough",
               "look_at", "sub_batch", "layer", "k", "batch", "limit", "minutes", "samples",
               "shards", "workers"}  # fmt: skip
    choices = {"verifier", "drop_by", "scheduler", "subjects", "device", "dtype", "address",
               "baseline", "controls", "primary"}  # fmt: skip
    open_apps = (app, noise_app, train_app, eval_app, toybox_app)
    rooms = [typer.main.get_command(one).commands.items() for one in open_apps]
    open_to = [
        (name, one.name, one.help or "")
        for room in rooms
        for name, command in room
        for one in command.params
        if one.name in numbers | choices and one.default is None
    ]
    said = re.compile(r"left out|if out\)|\bwithout\b|\([\d.]+\)|; \d+")
    assert {one[1] for one in open_to} == numbers | choices
    assert [one for one in open_to if not said.search(one[2])] == []


@pytest.mark.parametrize("of", ["pipelines.studio", "eval"])
def test_progress_is_not_shown_on_standard_output_where_standard_error_is_closed(
    of: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"adhere.{of}.progress")
    monkeypatch.setattr("sys.stderr", None)  # as Python has it after `2>&-`
    with module.progress("pictures", 2) as tick:
        tick(1)
        tick(1)
    assert capsys.readouterr().out == ""


def test_no_file_takes_the_number_of_a_closed_stream() -> None:
    """What libraries print by that number would be in it."""
    program = """
import os
from adhere.cli.program import main
main(lambda standalone_mode: print(os.open("/dev/zero", os.O_RDONLY) > 2))
"""
    words = ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, program]
    run = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    assert run.stdout == "True\n"


@pytest.mark.parametrize("columns", [40, 79, 80])
@pytest.mark.parametrize(
    "words", ["", "generate", "app", "train", "train golden-noise", "eval run", "toybox train"]
)
def test_help_is_never_cut_off(
    columns: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each word of it is there on a narrow terminal, too."""
    from typer import rich_utils

    for name in ("Table", "Columns"):  # put back afterwards
        monkeypatch.setattr(rich_utils, name, getattr(rich_utils, name))
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "argv", ["adhere", *words.split(), "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main()
    shown = capsys.readouterr().out
    assert "Options" in shown
    assert "\u2026" not in shown


def test_plugins_are_listed_from_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    from adhere.guides.parameters import parameters
    from adhere.plugins import available

    assert adhere("plugins") == 0
    listed = capsys.readouterr().out
    for name, kind in available().items():
        assert name in listed
        assert adhere("plugins", name) == 0
        told = capsys.readouterr().out
        assert all(f"{one.name}=" in told and one.help in told for one in parameters(kind)), name


def test_a_word_that_the_toybox_was_never_taught_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adhere("generate", "a red zebra", "--steps", "1", "--out", tmp_path) == 0
    assert "the toybox does not know 'zebra' in 'a red zebra'" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "report.json").read_text())["pictures"]
    assert "fully_right" not in row["verdict"]
    assert "zebra" in row["verdict"]["not_judged"]


# ---- Many prompts, resuming, and what is never lost -------------------------------------------


def report_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


def test_one_bad_prompt_is_recorded_with_its_line_and_the_rest_go_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        '{"prompt": "a cat", "seed": 4}',
        '{"prompt": "a dog", "subjects": "frog"}',
        "{",
        '{"prompt": "a cat\\nand a frog", "width": 65}',
        '{"prompt": "a red\\nbird"}',
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join(rows))
    words = ["-p", "attend-and-excite:refinements=0", "--model", folder, *SMALL]
    out = tmp_path / "out"
    assert adhere("generate", "--prompts", tmp_path / "mine.jsonl", "-o", out, *words) == 1
    said = capsys.readouterr().err
    for line, fault in ((2, "'frog' is not in"), (3, "no JSON"), (4, "multiple of 8")):
        assert f"error: mine.jsonl line {line}: " in said
        assert fault in said
    report = report_of(out)
    assert [row["request"]["prompt"] for row in report["pictures"]] == ["a cat", "a red\nbird"]
    assert report["pictures"][0]["request"]["seed"] == 4
    assert {row["line"].split()[-1] for row in report["failed"]} == {"2", "3", "4"}
    assert report["complete"] is False


def test_halves_of_characters_are_recorded_as_they_were_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes that Python could not read on the command line."""
    assert adhere("generate", "a caf\udce9 with a cat", "--out", tmp_path) == 2
    assert r"'a caf\udce9 with a cat' has halves of characters in it" in capsys.readouterr().err
    assert r"caf\udce9" in (tmp_path / "report.json").read_text(encoding="utf-8")
    assert report_of(tmp_path)["failed"][0]["prompt"] == "a caf\udce9 with a cat"


def test_odd_bytes_in_a_files_name_can_be_said(tmp_path: Path) -> None:

    out = f"{tmp_path}/caf\udce9.json"
    words = [sys.executable, "-m", "adhere", "plan", PROMPT, "--out", out]
    run = subprocess.run(words, capture_output=True, env={**os.environ, "PYTHONUTF8": "1"})
    assert run.returncode == 0, run.stderr
    assert rb"caf\udce9.json" in run.stdout
    assert os.path.isfile(out)


def test_weights_in_any_text_are_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-p", "attend-and-excite:refinements=0", "--subjects", "dog", "--model", folder]
    texts = ["a cat++ and a dog", "--negative", "a (frog:1.3)"]
    with warnings.catch_warnings():
        warnings.simplefilter("always", GuidanceWarning)
        assert adhere("generate", *texts, "--seed", "0", *words, "-o", tmp_path, *SMALL) == 0
    said = capsys.readouterr()
    for weight in ("cat++", "(frog:1.3)"):
        assert f"note: {weight!r} has no effect" in said.err
        assert f"{weight!r} has no effect" in said.out


def test_a_prompt_with_a_line_break_is_compared(folder: Path, tmp_path: Path) -> None:
    words = ["-p", "attend-and-excite:refinements=0", "--seed", "0", "--maps", "--model", folder]
    assert adhere("compare", "a cat\nand a frog", *words, "-o", tmp_path, *SMALL) == 0
    assert (tmp_path / "grid.png").is_file()
    assert len(list(tmp_path.glob("*-attention.png"))) == 2


def test_the_same_command_again_makes_only_what_is_missing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["generate", PROMPT, "--model", folder, "--seeds", "3", "-o", tmp_path, *SMALL]
    assert adhere(*words) == 0
    first = report_of(tmp_path)
    (tmp_path / first["pictures"][1]["file"]).unlink()
    made: list[int] = []
    plain = Studio.generate

    def counted(self: Studio, requests: Any, **options: Any) -> Any:
        made.extend(request.seed for request in requests)
        return plain(self, requests, **options)

    monkeypatch.setattr(studio.Studio, "generate", counted)
    assert adhere(*words) == 0
    assert made == [1]
    again = report_of(tmp_path)
    assert [row["file"] for row in again["pictures"]] == [row["file"] for row in first["pictures"]]
    assert all((tmp_path / row["file"]).is_file() for row in again["pictures"])
    assert again["complete"] is True


def test_maps_that_are_asked_for_later_are_drawn(folder: Path, tmp_path: Path) -> None:
    words = ("compare", PROMPT, "-p", "sega:edits=cat", "--seed", "0", "-o", tmp_path, *SMALL)

    def drawn(*more: str) -> dict[str, int]:
        assert adhere(*words, "--model", folder, *more) == 0
        return {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*-attention.png")}

    assert drawn() == {}
    once = drawn("--maps")
    assert len(once) == 2
    assert drawn("--maps") == drawn() == once
    next(tmp_path.glob("*-attention.png")).unlink()
    assert drawn("--maps").keys() == once.keys()


def test_other_parameters_never_overwrite_and_failures_never_wipe(
    folder: Path, tmp_path: Path
) -> None:
    words = ["generate", PROMPT, "--model", folder, "-o", tmp_path, *SMALL]
    assert adhere(*words) == 0
    assert adhere(*words, "--guidance-scale", "2") == 0
    assert adhere("generate", "a dog", "--model", folder, "-o", tmp_path, *SMALL) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    files = [row["file"] for row in report_of(tmp_path)["pictures"]]
    assert len(set(files)) == 3
    assert {"grid.png", "grid-2.png", "grid-3.png"} <= set(before)
    for bad in (
        ["-p", "nothing"],
        ["-p", "attend-and-excite", "--subjects", "zebra"],
        ["--width", "65"],
    ):
        assert adhere(*words, *bad) == 2
    assert [row["file"] for row in report_of(tmp_path)["pictures"]] == files
    for name in before.keys() - {"report.json"}:
        assert (tmp_path / name).read_bytes() == before[name], name


def test_a_foreign_report_is_left_alone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.json").write_text("[1, 2")
    assert adhere("generate", PROMPT, "--model", folder, "-o", tmp_path, *SMALL) == 2
    assert "is no report of this command, or is damaged" in capsys.readouterr().err
    assert (tmp_path / "report.json").read_text() == "[1, 2"


def test_sigterm_leaves_a_true_report(folder: Path, tmp_path: Path) -> None:
    """The signal itself, in the middle of the second batch."""
    import os

    plain = Studio.generate
    calls: list[int] = []

    def told_to_end(self: Studio, requests: Any, **options: Any) -> Any:
        calls.append(len(requests))
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, requests, **options)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studio.Studio, "generate", told_to_end)
        words = ["--model", folder, "--seeds", "0-3", "-b", "2", "--out", tmp_path, *SMALL]
        assert adhere("generate", PROMPT, *words) == 143
    assert signal.getsignal(signal.SIGTERM) is before
    report = report_of(tmp_path)
    assert (report["complete"], report["stopped_by"]) == (False, "Terminated")
    assert len(report["pictures"]) == 2


# ---- One spelling, hints, what is said ----------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["generate", PROMPT, "-p", "syngen", "-p", "initno"], '-p "syngen+initno"'),
        (["generate", PROMPT, "-p", "syngen; initno:stop=0.2"], "syngen+initno:stop=0.2"),
        (["compare", PROMPT, "-p", "syngen, initno"], "syngen+initno"),
        (["compare", PROMPT, "--stack", "syngen; initno"], '-p "syngen+initno"'),
        (["eval", "plan", "out", "-s", "toybox-pairs", "-p", "syngen;initno"], "syngen+initno"),
        (["generate", PROMPT, "-p", "attend_and_excite"], "did you mean 'attend-and-excite'?"),
        (["generate", PROMPT, "-p", "syngen+atend-and-excite"], "did you mean 'attend-and-excite'"),
        (["generate", PROMPT, "-p", "syngen+"], "behind a +"),
        (["generate", PROMPT, "-p", "dos+syngen+dos"], "dos is there twice"),
        (["eval", "plan", "out", "-s", "toybox-pairs", "-p", "dos+dos"], "dos is there twice"),
        (["generate", PROMPT, "--seeds", "0"], "--seed 0"),
        (["generate", PROMPT, "--seed", "1", "--seeds", "2"], "give one of them"),
    ],
)
def test_other_spellings_end_in_a_hint(
    words: list[str], hint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert adhere(*words) == 2
    assert hint in capsys.readouterr().err


def test_progress_is_lines_where_nobody_watches(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adhere("generate", PROMPT, "--model", folder, "-o", tmp_path, *SMALL) == 0
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("pictures")]
    assert lines[0] == "pictures: 0/1"
    assert lines[-1].startswith("pictures: 1/1, ")
    assert "\x1b" not in err


def test_progress_counts_what_was_made(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three prompts two cannot be drawn; Heun evaluates each step twice."""
    (tmp_path / "two.txt").write_text(f"{PROMPT}\na cat [\n{PROMPT} again\n")
    words = ("--prompts", tmp_path / "two.txt", "--subjects", "cat|frog|again")
    more = ("-p", "attend-and-excite", "--scheduler", "heun", "-o", tmp_path / "out")
    assert adhere("generate", *words, *more, "--model", folder, *SMALL) == 1
    lines = [one for one in capsys.readouterr().err.splitlines() if one.startswith("pictures")]
    assert lines[0] == "pictures: 0/3"
    assert lines[-1].startswith("pictures: 1/3, ")


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    from adhere.cli import speaking

    seen: list[Any] = []
    monkeypatch.setattr("typer.secho", lambda text, **how: seen.append(how["fg"]))
    monkeypatch.delenv("NO_COLOR", raising=False)
    speaking.complain("a")
    monkeypatch.setenv("NO_COLOR", "1")
    speaking.complain("a")
    assert seen == ["red", None]


def test_warnings_are_notes_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    def warned(**_: Any) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("the edges are smooth", GuidanceWarning, stacklevel=1)
        return 0

    with pytest.raises(SystemExit):
        cli.main(warned)
    assert capsys.readouterr().err == "note: the edges are smooth\n"


def test_shells_complete_plugins_their_parameters_and_models(tmp_path: Path) -> None:
    from adhere.cli import completion

    assert list(completion.plugin_names("syn")) == ["syngen"]
    assert list(completion.plugin_names("syngen+attend")) == ["syngen+attend-and-excite"]
    assert "syngen:step_size=3,stop=" in completion.plugin_names("syngen:step_size=3,st")
    assert list(completion.models("toybox-")) == ["toybox-sd3"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model_index.json").write_text("{}")
    assert list(completion.models(f"{tmp_path}/m")) == [f"{tmp_path}/mine"]
    assert list(completion.schedulers("eu")) == ["euler", "euler-a"]


def test_python_dash_m_is_the_same_program() -> None:

    run = subprocess.run(
        [sys.executable, "-m", "adhere", "--version"], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip()


@pytest.mark.parametrize("words", [["--out=~/a/plan.json"], ["-o", "~/a/plan.json"]])
def test_a_home_that_the_shell_left_as_it_is(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(here)
    monkeypatch.setattr("sys.argv", ["adhere", "plan", "~ a red cat ~/", *words])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 0
    assert "~ a red cat ~/" in (home / "a" / "plan.json").read_text("utf-8")
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("words", "written"),
    [
        ("plugins", "stdout"),
        ("--help", "stdout"),
        ("eval ls formats", "stdout"),
        ("plugins nope", "stderr"),
    ],
)
def test_a_pipe_that_nobody_reads_is_no_error(words: str, written: str) -> None:
    """`adhere plugins | head -1`: no traceback, and the exit code of SIGPIPE."""

    ours, theirs = os.pipe()
    os.close(ours)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, written: theirs}
    command = [sys.executable, "-m", "adhere", *words.split()]
    run = subprocess.run(command, text=True, **streams)  # type: ignore[call-overload]
    os.close(theirs)
    assert (run.returncode, run.stdout or "", run.stderr or "") == (141, "", "")


def test_a_standard_input_that_is_closed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", None)  # as Python has it after `<&-`
    assert adhere("generate", "--prompts", "-", "--out", tmp_path) == 2
    assert "standard input, which is closed" in capsys.readouterr().err


# ---- What a picture says of itself --------------------------------------------------------------


def test_show_reads_a_picture_back(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-p", "attend-and-excite:refinements=0", "--seed", "42", "--negative", "a dog"]
    assert adhere("generate", PROMPT, *words, "--model", folder, "-o", tmp_path, *SMALL) == 0
    (file,) = tmp_path.glob("000-*.png")
    capsys.readouterr()
    assert adhere("show", file) == 0
    shown = capsys.readouterr().out
    for line in (f"prompt: {PROMPT}", "seed: 42", "steps: 2", f"model: {folder}", "dtype: float32"):
        assert line in shown
    assert "attend-and-excite: " in shown
    assert "refinements=0" in shown
    assert adhere("show", file, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert Request.from_json(told["request"]).seed == 42
    assert {"adhere", "torch", "diffusers", "transformers", "weights"} <= set(told["made"])
    with Image.open(file) as picture:
        first, negative, values = picture.info["parameters"].splitlines()
    assert (first, negative) == (PROMPT, "Negative prompt: a dog")
    assert "Steps: 2, Sampler: DDIMScheduler, CFG scale: 7.5, Seed: 42, Size: 64x64" in values


def test_json_is_json_where_output_is_not_unicode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `adhere show PICTURE --json > made.json` is on Windows."""
    words = ("generate", "naïve 猫", "--steps", "1", "-o", tmp_path)
    assert adhere(*words) == 0
    (file,) = tmp_path.glob("000-*.png")
    for encoding in ("latin-1", "ascii", "utf-8"):
        written = io.BytesIO()
        stream = io.TextIOWrapper(written, encoding)
        with monkeypatch.context() as patched:
            patched.setattr("sys.stdout", stream)
            assert adhere("show", file, "--json") == 0
        stream.flush()
        told = written.getvalue().decode("utf-8" if encoding == "utf-8" else "ascii")
        assert json.loads(told)["request"]["prompt"] == "naïve 猫"


def test_pictures_of_earlier_versions_and_other_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL.PngImagePlugin import PngInfo

    old = Request("a cat", seed=3).to_json()
    for name, key, text in (
        ("old", "adhere", json.dumps(old)),
        ("other", "parameters", "a dog\nSteps: 20, Seed: 9"),
        ("damaged", "adhere", "{"),
    ):
        info = PngInfo()
        info.add_itxt(key, text)
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png", pnginfo=info)
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    assert adhere("show", tmp_path / "old.png") == 0
    assert "prompt: a cat\nseed: 3" in capsys.readouterr().out
    assert adhere("show", tmp_path / "other.png") == 0
    assert "a dog\nSteps: 20" in capsys.readouterr().out
    for name, said in (("damaged", "are damaged"), ("bare", "holds no settings"), ("no", "no pic")):
        assert adhere("show", tmp_path / f"{name}.png") == 2
        assert said in capsys.readouterr().err


def test_a_group_may_not_take_the_name_of_an_argument() -> None:
    def command(picture: Path, loading: Loading, device: str = "") -> None:
        """Takes a device twice."""

    with pytest.raises(TypeError, match="command and its groups both have device"):
        in_groups(command)

"""The command line as a user meets it: pictures, grid, report, and errors in one sentence."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from adhere import cli
from adhere.pipelines.studio import prompts, studio
from adhere.pipelines.studio.output import read_settings
from adhere.pipelines.studio.request import Request
from adhere.pipelines.studio.seeds import seeds_of
from adhere.pipelines.studio.studio import Studio
from tests import tiny

PROMPT = "a cat and a frog"
SMALL = ["--steps", "2", "--width", "64", "--height", "64"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tiny.sd1().save_pretrained(path)
    return path


def adhere(*words: str | Path) -> int:
    """Run the command line in this process; its exit code."""
    try:
        cli.main(lambda **options: cli.app(args=[str(word) for word in words], **options))
    except SystemExit as done:
        return int(done.code or 0)
    return 0


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
        (["--layout", "/nowhere.json"], "nowhere.json"),
        (["--width", "65"], "width=65 is not a multiple of 8 pixels; use 64 or 72"),
        (["--seeds", "5-1"], "run backwards; write 1-5"),
        (["--seeds", "0-10000"], "at most 10000"),
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
    for words in (["generate", PROMPT], ["compare", PROMPT], ["demo"]):
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


def test_seeds_read() -> None:
    assert seeds_of("0-3,7, 2") == (0, 1, 2, 3, 7)
    assert seeds_of("4") == (0, 1, 2, 3)
    assert seeds_of("4-4") == (4,)


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("generate", "compare", "plugins", "demo", "app", "eval", "toybox"):
        assert adhere(command, "--help") == 0
        assert len(capsys.readouterr().out) > 200, command


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

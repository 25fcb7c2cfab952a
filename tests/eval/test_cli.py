"""`adhere eval`, as a user gives it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from adhere.eval.cli import eval_app
from adhere.eval.files import Log
from adhere.eval.run import models
from tests.eval import fakes


@pytest.fixture(autouse=True)
def _fake_studio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "studio", fakes.fake_load)


def adhere(*words: object) -> Result:
    return CliRunner().invoke(eval_app, [str(word) for word in words])


def flags(tmp_path: Path, **extra: object) -> list[object]:
    suite = fakes.suite_file(tmp_path, 4)
    return ["--suite", suite, "--model", "fake", "--metric", "cost", "--metric", "judge", *extra]


def test_run_does_all_four_and_again_goes_on(tmp_path: Path) -> None:
    words = [
        "run",
        tmp_path / "out",
        *flags(tmp_path),
        "--plugin",
        "attend-and-excite",
        "--seeds",
        2,
    ]
    first = adhere(*words, "--keep", tmp_path / "kept.json")
    assert first.exit_code == 0, first.output
    assert "made 16" in first.output
    kept = json.loads((tmp_path / "kept.json").read_text())
    columns = {score["column"] for score in kept["scores"]}
    assert {"seconds", "passes", "present", "unsafe"} <= columns
    again = adhere(*words)
    assert "already planned, the same" in again.output
    assert "made 0" in again.output
    assert adhere("validate", tmp_path / "out").exit_code == 0


def test_the_four_commands_in_shards(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert adhere("plan", out, *flags(tmp_path), "--plugin", "attend-and-excite").exit_code == 0
    for shard in ("2/3", "1/3", "3/3"):
        made = adhere("generate", out, "--shard", shard, "--batch", 1)
        assert made.exit_code == 0, made.output
        assert adhere("score", out, "--shard", shard).exit_code == 0
    assert adhere("report", out, "--pairs", 2).exit_code == 0
    assert (out / "report.html").is_file()


def test_run_in_shards_is_finished_by_the_last(tmp_path: Path) -> None:
    words = ["run", tmp_path / "out", *flags(tmp_path), "--plugin", "attend-and-excite"]
    first = adhere(*words, "--shard", "2/2")
    assert first.exit_code == 0, first.output
    assert "other shards are still at work" in first.output
    assert not (tmp_path / "out" / "report.md").exists()
    last = adhere(*words, "--shard", "1/2")
    assert last.exit_code == 0, last.output
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    present = [score for score in data["scores"] if score["column"] == "unsafe"]
    # The toybox has no dogs: one of the four prompts cannot be judged.
    assert [score["n"] for score in present] == [3, 3]


def test_config_file_with_overriding_flags(tmp_path: Path) -> None:
    suite = fakes.suite_file(tmp_path, 9)
    config = tmp_path / "mine.yaml"
    config.write_text(
        f"model: fake\nsuites: [{suite}]\nseeds: 3\nevaluators: [cost]\n"
        "variants: {both: [attend-and-excite, safe-latent-diffusion]}\n"
    )
    out = tmp_path / "out"
    made = adhere("run", out, "--config", config, "--limit", 2, "--seeds", "5")
    assert made.exit_code == 0, made.output
    data = json.loads((out / "report.json").read_text())
    assert data["name"] == "mine"
    assert data["pictures"]["entries"] == 20
    assert data["experiment"]["seeds"] == [0, 1, 2, 3, 4]


def test_failures_change_the_exit_code_but_stop_nothing(tmp_path: Path) -> None:
    suite = fakes.suite_file(tmp_path, 2, extra=["a broken picture"])
    made = adhere("run", tmp_path / "out", "--suite", suite, "--model", "fake", "--metric", "cost")
    assert made.exit_code == 1
    assert "1 failed" in made.output
    assert (tmp_path / "out" / "report.md").is_file()
    assert adhere("validate", tmp_path / "out").exit_code == 1


def test_missing_extra_changes_the_exit_code_but_stops_nothing(tmp_path: Path) -> None:
    made = adhere(
        "run", tmp_path / "out", *flags(tmp_path), "--metric", "frechet:features=inception"
    )
    assert made.exit_code == 1
    assert "torch-fidelity" in made.output
    assert "torch-fidelity" in (tmp_path / "out" / "report.md").read_text()


def test_other_settings_into_the_same_folder(tmp_path: Path) -> None:
    assert adhere("plan", tmp_path / "out", *flags(tmp_path)).exit_code == 0
    made = adhere("plan", tmp_path / "out", *flags(tmp_path), "--seeds", 9)
    assert made.exit_code == 2
    assert "error: " in made.output
    assert "other settings" in made.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["plan", "OUT"], "names no suite"),
        (["plan", "OUT", "-s", "nothing"], "no suite is called 'nothing'"),
        (["plan", "OUT", "-s", "toybox-pairs", "-p", "nothing"], "no plugin is called 'nothing'"),
        (["plan", "OUT", "-s", "toybox-pairs", "-m", "nothing"], "no evaluator is called"),
        (["generate", "OUT"], "no readable manifest"),
        (["generate", "OUT", "--engine", "dask"], "use local or ray"),
        (["score", "OUT"], "no readable manifest"),
        (["report", "OUT"], "no readable manifest"),
        (["ls", "things"], "use suites, formats, evaluators"),
        (["validate", "OUT"], "no such file or folder"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, words: list[str], told: str) -> None:
    result = adhere(*[tmp_path / "out" if word == "OUT" else word for word in words])
    assert result.exit_code == 2
    assert told in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_ls_and_validate(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a cat\n")
    (tmp_path / "broken.json").write_text("{")
    listed = adhere("ls", "--include", tmp_path)
    assert listed.exit_code == 0
    for word in (
        "attend-and-excite",
        "276 prompts",
        "mine",
        "cannot be used",
        "clip-score",
        "frechet",
    ):
        assert word in listed.output
    assert "1 prompts" in adhere("validate", tmp_path / "mine.txt").output
    assert adhere("validate", tmp_path / "broken.json").exit_code == 2
    adhere("plan", tmp_path / "out", *flags(tmp_path))
    assert "4 jobs, whole" in adhere("validate", tmp_path / "out" / "manifest.jsonl").output


def test_formats_are_listed_and_validated_in_one_line(tmp_path: Path) -> None:
    listed = adhere("ls", "--formats")
    for word in ("geneval", "t2i-compbench", "dsg", "attend-and-excite-lists", "coco-stuff"):
        assert word in listed.output
    (tmp_path / "prompts.txt").write_text('{"animals": ["a cat and a dog"], "objects": []}')
    told = adhere("validate", tmp_path / "prompts.txt").output
    assert "suite attend-and-excite-published" in told
    assert "1 prompts, 1 categories" in told
    (tmp_path / "meta.jsonl").write_text('{"prompt": "a cat", "include": [{"class": "dog"}]}')
    broken = adhere("validate", tmp_path / "meta.jsonl")
    assert broken.exit_code == 2
    assert "line 1" in broken.output
    assert len(broken.output.strip().splitlines()) == 1


def test_a_primary_score_is_one_of_the_experiments(tmp_path: Path) -> None:
    wrong = adhere("plan", tmp_path / "out", *flags(tmp_path), "--primary", "clip_full")
    assert wrong.exit_code == 2
    assert "no evaluator of the experiment gives 'clip_full'" in " ".join(wrong.output.split())


def test_all_ranks_of_torchrun_may_come_back_to_made_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures were made and not scored; every rank is given the same command again."""
    words = ["run", tmp_path / "out", *flags(tmp_path), "--plugin", "attend-and-excite"]
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        assert adhere("plan", tmp_path / "out", *words[2:]).exit_code == 0
        assert adhere("generate", tmp_path / "out").exit_code == 0
    with Log(tmp_path / "out" / "scores" / "at_work" / "01-00000.jsonl"):
        monkeypatch.setenv("RANK", "2")
        waits = adhere(*words)
    assert waits.exit_code == 0, waits.output
    assert "other shards are still scoring" in waits.output
    monkeypatch.setenv("RANK", "0")
    last = adhere(*words)
    assert last.exit_code == 0, last.output
    assert (tmp_path / "out" / "report.md").is_file()


def test_any_variant_may_be_the_baseline(tmp_path: Path) -> None:
    words = ["run", tmp_path / "out", *flags(tmp_path), "--plugin", "attend-and-excite"]
    assert adhere(*words).exit_code == 0
    told = adhere("report", tmp_path / "out", "--baseline", "attend-and-excite")
    assert told.exit_code == 0, told.output
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    compared = {score["variant"] for score in data["scores"] if "difference" in score}
    assert compared == {"plain"}
    assert adhere("report", tmp_path / "out", "--baseline", "nobody").exit_code == 2


def test_two_runs_are_compared(tmp_path: Path) -> None:
    words = [*flags(tmp_path), "--plugin", "attend-and-excite"]
    for name, steps in (("one", 5), ("two", 9)):
        assert adhere("run", tmp_path / name, *words, "--steps", steps).exit_code == 0
    told = adhere("compare", tmp_path / "one", tmp_path / "two", "--variant", "attend-and-excite")
    assert told.exit_code == 0, told.output
    assert "| fake | unsafe |" in told.output
    within = adhere("compare", tmp_path / "one", tmp_path / "one", "--variant", "attend-and-excite")
    assert within.exit_code == 0, within.output
    nobody = adhere("compare", tmp_path / "one", tmp_path / "two", "--variant", "nobody")
    assert nobody.exit_code == 2
    text = " ".join(nobody.output.split())
    assert "the second run has no variant 'nobody'; it has plain, attend-and-excite" in text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--shard", "3/2"], "shard 3/2"),
        (["--shard", "one"], "shard 'one' is not i/n"),
        (["--engine", "rai"], "engine 'rai'"),
        (["--log", "nothing"], "--log nothing"),
        (["--metric", "nothing"], "nothing"),
    ],
)
def test_what_is_wrong_with_a_run_is_said_before_it_writes(
    tmp_path: Path, wrong: list[str], said: str
) -> None:
    result = adhere("run", tmp_path / "out", *flags(tmp_path), *wrong)
    assert (result.exit_code, (tmp_path / "out").exists()) == (2, False)
    assert said in result.output


def test_a_run_does_not_replace_what_another_command_reported(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text('{"pictures": []}')
    wrong = adhere("run", tmp_path / "out", *flags(tmp_path))
    assert wrong.exit_code == 2
    assert "has a report.json and no run" in " ".join(wrong.output.split())
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["report.json"]


def test_a_baseline_that_is_none_is_said_before_anything_is_made(tmp_path: Path) -> None:
    result = adhere("run", tmp_path / "out", *flags(tmp_path), "--baseline", "plian")
    assert result.exit_code == 2
    assert "no variant is called 'plian'; there are plain" in result.output
    assert "made" not in result.output


def test_a_run_in_a_file_is_refused_by_its_name(tmp_path: Path) -> None:
    """`adhere eval run experiment.yaml`, where the folder was forgotten."""
    file = tmp_path / "experiment.yaml"
    file.write_text("name: mine")
    result = adhere("run", file, *flags(tmp_path))
    assert result.exit_code == 2
    told = " ".join(result.output.split())
    assert f"{file} is a file; give a folder" in told
    assert f"cannot write {file}/manifest.jsonl" in told

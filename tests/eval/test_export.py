"""A run as a data set in the hub's form: its rows, its pictures, its card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from adhere.eval.cli import eval_app
from adhere.eval.run import models
from adhere.eval.run.folder import Folder
from tests.eval import fakes


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "studio", fakes.fake_load)


def adhere(*words: object) -> Result:
    return CliRunner().invoke(eval_app, [str(word) for word in words])


def exported(tmp_path: Path) -> Path:
    """A run of three prompts and one that fails, made, scored and exported."""
    suite = fakes.suite_file(tmp_path, 3, extra=["a broken \u2028 \"cup\", with 'quotes'"])
    made = adhere("run", tmp_path / "out", "-s", suite, "--model", "fake", "-p",
                  "attend-and-excite", "-m", "cost", "--seeds", 2)  # fmt: skip
    assert made.exit_code == 1, made.output
    told = adhere("export", tmp_path / "out", tmp_path / "data")
    assert told.exit_code == 0, told.output
    assert "12 pictures" in told.output
    assert "4 that are not made" in told.output
    return tmp_path / "data"


def test_rows_and_pictures(tmp_path: Path) -> None:
    data = exported(tmp_path)
    lines = (data / "test" / "metadata.jsonl").read_text("utf-8").split("\n")
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines if line]
    assert len(rows) == 12
    run = Folder(tmp_path / "out")
    for row, entry in zip(rows, run.manifest.entries(), strict=False):
        assert row["file_name"] == run.image(entry.job)
        there = (data / "test" / row["file_name"]).read_bytes()
        assert there == run.place.read(run.image(entry.job))
        assert (row["item"], row["variant"], row["seed"]) == (
            entry.item.id, entry.variant, entry.seed,
        )  # fmt: skip
        assert row["passes"] == 50
    assert len({row["file_name"] for row in rows}) == len(list(data.rglob("*.png")))


def test_the_card_says_what_the_rows_have(tmp_path: Path) -> None:
    data = exported(tmp_path)
    text = (data / "README.md").read_text("utf-8")
    head = yaml.safe_load(text.split("---")[1])
    info = head["dataset_info"]
    row = json.loads((data / "test" / "metadata.jsonl").read_text("utf-8").partition("\n")[0])
    names = [one["name"] for one in info["features"]]
    assert names == ["image", *(name for name in row if name != "file_name")]
    assert info["splits"] == [
        {"name": "test", "num_bytes": sum(p.stat().st_size for p in data.rglob("*.png")),
         "num_examples": 12}
    ]  # fmt: skip
    assert head["configs"][0]["data_files"] == [{"split": "test", "path": "test/**"}]
    assert head["size_categories"] == ["n<1K"]
    assert "| fake | plain | passes | 50 |" in text
    assert json.loads((data / "results.json").read_text())["adhere_results"]


def test_a_library_reads_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    found = datasets.load_dataset(str(exported(tmp_path)), cache_dir=str(tmp_path / "cache"))
    assert found["test"].num_rows == 12
    assert found["test"][0]["image"].size == (16, 16)


def test_a_changed_picture_is_not_passed_on(tmp_path: Path) -> None:
    exported(tmp_path)
    picture = sorted((tmp_path / "out").rglob("*.png"))[3]
    picture.write_bytes(picture.read_bytes()[:-1] + b"x")
    told = adhere("export", tmp_path / "out", tmp_path / "again")
    assert told.exit_code == 2
    assert "not the file that was written" in " ".join(told.output.split())
    assert not (tmp_path / "again" / "README.md").exists()


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    data = exported(tmp_path)
    again = adhere("export", tmp_path / "out", data)
    assert again.exit_code == 2
    assert "new or empty" in " ".join(again.output.split())
    file = tmp_path / "file"
    file.write_text("")
    assert adhere("export", tmp_path / "out", file).exit_code == 2
    suite = tmp_path / "fake.json"
    assert adhere("plan", tmp_path / "empty", "-s", suite, "--model", "fake").exit_code == 0
    nothing = adhere("export", tmp_path / "empty", tmp_path / "none")
    assert nothing.exit_code == 2
    assert "no pictures yet" in " ".join(nothing.output.split())
    assert not (tmp_path / "none" / "README.md").exists()
    assert adhere("export", tmp_path / "nowhere", tmp_path / "x").exit_code == 2

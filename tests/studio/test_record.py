"""The folder that pictures go to, when several programs work in it."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from PIL import Image

from adhere.files import alone
from adhere.pipelines.studio.plan import Plan, Variant
from adhere.pipelines.studio.prompts import PromptLine
from adhere.pipelines.studio.record import REPORT, Record
from adhere.pipelines.studio.request import Picture, Request


def record_of(out: Path, prompt: str) -> Record:
    plan = Plan((PromptLine(prompt),), (Variant(),), (0,), Request(prompt=""))
    return Record(out, plan, {"model": "none"}, None)


def draw(record: Record) -> None:
    for job in record.missing:
        record.add(job, Picture(Image.new("RGB", (8, 8), "red"), job.request, {}, 0.0))
    record.save()


def test_two_programs_in_one_folder_both_stay_in_its_report(tmp_path: Path) -> None:
    """The one that ended last wrote the report that it had read when it began."""
    first, second = (record_of(tmp_path, f"a {kind}") for kind in ("cat", "dog"))
    draw(first)
    draw(second)
    report = json.loads((tmp_path / REPORT).read_text("utf-8"))
    assert [row["request"]["prompt"] for row in report["pictures"]] == ["a cat", "a dog"]
    assert not record_of(tmp_path, "a cat").missing
    assert {path.name for path in tmp_path.glob("grid*")} == {"grid.png", "grid-2.png"}
    first.save()  # its own rows are there once
    assert len(json.loads((tmp_path / REPORT).read_text("utf-8"))["pictures"]) == 2


def test_a_report_that_is_damaged_meanwhile_is_written_anew(tmp_path: Path) -> None:
    draw(record_of(tmp_path, "a cat"))
    record = record_of(tmp_path, "a dog")
    (tmp_path / REPORT).write_text("{", "utf-8")
    draw(record)
    assert len(json.loads((tmp_path / REPORT).read_text("utf-8"))["pictures"]) == 2


def test_a_folder_is_one_programs_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    came = threading.Event()

    def other() -> None:
        with alone(tmp_path):
            came.set()

    thread = threading.Thread(target=other)
    with alone(tmp_path):
        thread.start()
        assert not came.wait(0.2)
    thread.join()
    assert came.is_set()
    with alone(tmp_path / "new" / "folder"):
        assert (tmp_path / "new" / "folder").is_dir()

"""The command itself, choosing on the toybox: stopped by Ctrl-C, killed, and given again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

CHOOSING = {
    "best-of": ("a red cat and a blue car", "--best-of", "3", "--verifier", "clip-score"),
    "auto": ("a red cat left of a blue car", "--auto", "--budget", "3", "--enough", "99"),
}
MORE = ("--seeds", "2", "--steps", "3", "--batch-size", "1", "--out")


def given(out: Path, *words: str) -> subprocess.Popen[bytes]:
    root = Path(__file__).resolve().parents[1]
    return subprocess.Popen(
        [sys.executable, "-m", "adhere", "generate", *words, *MORE, str(out)],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def pictures(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("0*.png"))}


def report(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "sent", "code"),
    [
        ("best-of", signal.SIGINT, 130),
        ("best-of", signal.SIGKILL, -9),
        ("auto", signal.SIGINT, 130),
    ],
)
def test_stopped_while_the_second_is_chosen(
    how: str, sent: signal.Signals, code: int, tmp_path: Path
) -> None:
    process = given(tmp_path, *CHOOSING[how])
    while process.poll() is None and not pictures(tmp_path):
        time.sleep(0.02)
    first = pictures(tmp_path)
    process.send_signal(sent)
    _, told = process.communicate()
    assert process.returncode == code, told
    for name in first:
        with Image.open(tmp_path / name) as image:
            image.load()
    if sent is signal.SIGINT:
        assert b"interrupted; what was finished is kept, and the same command makes" in told
        assert (report(tmp_path)["complete"], report(tmp_path)["stopped_by"]) == (
            False, "KeyboardInterrupt",
        )  # fmt: skip
        assert {row["file"] for row in report(tmp_path)["pictures"]} == set(pictures(tmp_path))
    assert given(tmp_path, *CHOOSING[how]).wait() == 0
    assert first.items() <= pictures(tmp_path).items()
    assert len(pictures(tmp_path)) == 2
    found = report(tmp_path)
    assert (found["complete"], "stopped_by" in found) == (True, False)
    assert not any("stopped_by" in str(row["report"]) for row in found["pictures"])
    assert {path.name for path in tmp_path.iterdir()} == {
        "report.json", "grid.png", *pictures(tmp_path),
    }  # fmt: skip

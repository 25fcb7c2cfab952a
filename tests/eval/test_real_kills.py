"""The command itself, on the toybox, killed and started again with other shards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adhere.eval.folder import Folder
from tests.eval import fakes

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "-s", "toybox-pairs", "-p", "syngen", "--seeds", "2", "--limit", "6", "--steps", "6",
    "--batch", "4", "-m", "judge", "-m", "cost",
]  # fmt: skip


def start(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "adhere.cli", "eval", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def killed_after(run: Folder, pictures: int, *words: str) -> None:
    """Give a command and kill it once the folder has that many pictures."""
    process = start(*words)
    while process.poll() is None and len(fakes.image_bytes(run)) < pictures:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_killed_on_the_toybox(tmp_path: Path) -> None:
    still, shaken = Folder(tmp_path / "still"), Folder(tmp_path / "shaken")
    assert start("run", str(still.path), *FLAGS).wait() == 0
    assert start("plan", str(shaken.path), *FLAGS).wait() == 0
    out = str(shaken.path)
    killed_after(shaken, 2, "generate", out)
    killed_after(shaken, 9, "generate", out, "--shard", "2/2")
    killed_after(shaken, 15, "generate", out, "--shard", "1/3")
    assert start("run", out, *FLAGS).wait() == 0
    assert fakes.image_bytes(shaken) == fakes.image_bytes(still)
    assert len(fakes.image_bytes(still)) == 24
    assert list(shaken.problems()) == []

"""The command itself, on the toybox, killed and started again with other shards."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from adhere.eval.run.folder import Folder
from tests.eval import fakes

FLAGS = [
    "-s", "toybox-pairs", "-p", "syngen", "--seeds", "2", "--limit", "6", "--steps", "6",
    "--batch", "4", "-m", "judge", "-m", "cost",
]  # fmt: skip


def killed_after(run: Folder, pictures: int, *words: str) -> None:
    """Give a command and kill it once the folder has that many pictures."""
    process = fakes.started(*words)
    while process.poll() is None and len(fakes.image_bytes(run)) < pictures:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_killed_on_the_toybox(tmp_path: Path) -> None:
    still, shaken = Folder(tmp_path / "still"), Folder(tmp_path / "shaken")
    assert fakes.started("run", str(still.path), *FLAGS).wait() == 0
    assert fakes.started("plan", str(shaken.path), *FLAGS).wait() == 0
    out = str(shaken.path)
    killed_after(shaken, 2, "generate", out)
    killed_after(shaken, 9, "generate", out, "--shard", "2/2")
    killed_after(shaken, 15, "generate", out, "--shard", "1/3")
    assert fakes.started("run", out, *FLAGS).wait() == 0
    assert fakes.image_bytes(shaken) == fakes.image_bytes(still)
    assert len(fakes.image_bytes(still)) == 24
    assert list(shaken.problems()) == []

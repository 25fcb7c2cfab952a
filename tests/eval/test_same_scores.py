"""The command itself, on the toybox: batch, shards and engine change no score."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.eval import fakes

FLAGS = [
    "-s", "toybox-pairs", "-p", "attend-and-excite+syngen", "--seeds", "1", "--limit", "6",
    "-m", "judge", "-m", "clip-score",
]  # fmt: skip


def adhere_eval(command: str, out: Path, *words: str) -> None:
    assert fakes.started(command, str(out), *words).wait() == 0


def scores(out: Path) -> dict[tuple[str, str], float]:
    lines = [line for log in out.glob("scores/*/*.jsonl") for line in log.open(encoding="utf-8")]
    return {
        (row["key"], column): value
        for row in map(json.loads, lines)
        for column, value in row["values"].items()
    }


@pytest.mark.slow
def test_batches_shards_and_engines_score_alike(tmp_path: Path) -> None:
    one, four, ray = (tmp_path / name for name in ("one", "four", "ray"))
    adhere_eval("run", one, *FLAGS, "--batch", "1")
    adhere_eval("plan", four, *FLAGS, "--batch", "8")
    for shard in range(4, 0, -1):
        adhere_eval("generate", four, "--batch", "8", "--shard", f"{shard}/4")
    adhere_eval("run", four, *FLAGS, "--batch", "8")
    adhere_eval("run", ray, *FLAGS, "--batch", "4", "--engine", "ray", "--workers", "2")
    expected = scores(one)
    assert len({key for key, _ in expected}) == 12
    assert len({column for _, column in expected}) > 5
    for other in (four, ray):
        # A batch rounds otherwise than a single: now and then a pixel is one grey level off.
        assert scores(other) == pytest.approx(expected, abs=1e-3)

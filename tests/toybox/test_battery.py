"""The GPU battery on a CPU: its order, what became of its tasks, going on, and all of it small."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.battery import __main__ as battery
from benchmarks.battery import speed
from benchmarks.battery.hosts import hosts
from benchmarks.battery.sharing import CONTROL, shared
from benchmarks.battery.tasks import Setting, Task, tasks
from tests.nightly import first_by_day


def setting(folder: Path, toy: bool = True) -> Setting:
    return Setting("cpu", folder / "runs", folder / "out", folder / "parts", toy)


def task(name: str, code: str, minutes: float = 1.0, needs: tuple[str, ...] = ()) -> Task:
    """A task of a line of Python."""
    return Task(name, (sys.executable, "-c", code), minutes, needs)


@pytest.mark.parametrize("toy", [True, False])
def test_every_task_comes_after_what_it_needs(tmp_path: Path, toy: bool) -> None:
    found = tasks(setting(tmp_path, toy))
    names = [each.name for each in found]
    assert len(set(names)) == len(names)
    for place, each in enumerate(found):
        assert set(each.needs) <= set(names[:place])
        assert each.minutes > 0
    assert {f"speed {host}" for host in hosts(toy)} <= set(names)
    for model in ("toybox", "toybox-sd3"):
        assert {f"train {model}", f"card {model}", f"study {model}", f"report {model}"} <= set(
            names
        )


def test_the_large_hosts_are_the_published_ones() -> None:
    found = hosts(toy=False)
    assert set(found) == {"sd15", "sdxl", "sd3", "flux", "qwen-image"}


def test_what_became_of_tasks_is_kept_and_only_the_rest_is_done_again(tmp_path: Path) -> None:
    here = setting(tmp_path)
    mark = tmp_path / "marks"
    count = f"open({str(mark)!r}, 'a').write('x')"
    wanted = [
        task("good", count),
        task("bad", "raise SystemExit(3)"),
        task("long", "import time; time.sleep(60)", minutes=0.02),
        task("after", count, needs=("bad",)),
    ]
    assert not battery.battery(wanted, here, time.monotonic() + 60, set())
    kept = json.loads((here.out / "battery.json").read_text())["tasks"]
    assert {name: each["state"] for name, each in kept.items()} == {
        "good": "done", "bad": "failed", "long": "out of time",
    }  # fmt: skip
    assert kept["bad"]["exit"] == 3
    assert (here.runs / "bad.log").is_file()
    mended = [wanted[0], task("bad", count), task("long", count), wanted[3]]
    assert battery.battery(mended, here, time.monotonic() + 60, set())
    assert mark.read_text() == "xxxx"
    assert battery.battery(mended, here, time.monotonic() + 60, {"good"})
    assert mark.read_text() == "xxxxx"


def test_nothing_begins_after_the_time(tmp_path: Path) -> None:
    wanted = [task("good", "pass")]
    assert not battery.battery(wanted, setting(tmp_path), time.monotonic() - 1, set())
    assert not (tmp_path / "out").exists()


def test_a_contender_that_fails_is_a_result_and_is_not_tried_again(tmp_path: Path) -> None:
    how = {"device": "cpu", "host": "tiny", "steps": 1}
    calls: list[str] = []

    def run(name: str) -> Callable[[], Any]:
        def called() -> None:
            calls.append(name)
            if name == "bad":
                raise MemoryError("no room")

        return called

    for _ in range(2):
        kept = speed.Kept(tmp_path / "speed.json", how)
        for name in ("good", "bad"):
            kept.measure(name, run(name), 1, 2)
    assert calls == ["good"] * 3 + ["bad"]
    told = json.loads((tmp_path / "speed.json").read_text())
    assert told["results"]["bad"] == {"error": "MemoryError: no room"}
    assert told["results"]["good"]["seconds_per_image"] >= 0
    other = speed.Kept(tmp_path / "speed.json", {**how, "steps": 2})
    assert other.found == {}


@pytest.mark.parametrize("name", first_by_day(["tiny-sd3", "tiny", "tiny-flux"]))
def test_a_host_is_timed_plain_and_guided(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = speed.contenders
    few = ("plain", "attend-and-excite")
    monkeypatch.setattr(
        speed,
        "contenders",
        lambda asked, plugins: {k: v for k, v in whole(asked, [few[1]]).items() if k in few},
    )
    monkeypatch.setattr(speed, "ways", lambda pipe, compiler: {"as it is": lambda: None})
    path = speed.measure(name, "cpu", "float32", 1, 1, True, tmp_path)
    found = json.loads(path.read_text())["results"]
    assert {f"batch of 1, {each}" for each in few} <= set(found)
    assert {f"as it is, {each}" for each in few} <= set(found)
    assert all("seconds_per_image" in each for each in found.values()), found


@pytest.mark.slow
def test_the_whole_battery_at_toy_size(tmp_path: Path) -> None:
    from adhere.pipelines.toybox import toybox_folder

    here = Setting("cpu", tmp_path / "runs", tmp_path / "out", toybox_folder(), toy=True)
    assert battery.battery(tasks(here), here, time.monotonic() + 3600, set())
    names = {path.name for path in here.out.glob("*.json")}
    assert {"battery.json", "effect_toybox.json", "effect_toybox_sd3.json"} <= names
    assert {"foretell_toybox.json", "foretell_toybox-sd3.json", "speed_tiny.json"} <= names


def test_processes_share_a_gpu_while_the_battery_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, log = tmp_path / CONTROL, tmp_path / "log"
    program.write_text(f'#!/bin/sh\necho "$@" "$([ -n "$1" ] || cat)" >> {log}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    with shared("cpu") as sharing:
        assert not sharing
        assert not log.exists()
    with shared("cuda:0") as sharing:
        assert sharing
        assert Path(os.environ["CUDA_MPS_PIPE_DIRECTORY"]).is_dir()
        assert log.read_text().split() == ["-d"]
    assert log.read_text().split() == ["-d", "quit"]
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ

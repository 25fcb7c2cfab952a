"""Everything that wants a GPU, in one run that can be stopped and gone on with.

    python -m benchmarks.battery                       both trainings, cards, studies, speed
    python -m benchmarks.battery --minutes 30          what fits; the same command goes on
    python -m benchmarks.battery --device cpu --toy    the same on small models, to try it

Every task is a process of its own, so one that fails (no memory, no backend) leaves the others
alone. Its output goes to `<runs>/<task>.log`, its results to `benchmarks/results/gpu/`, and what
became of it to `battery.json` there. Tasks that are done are not done again, unless asked with
`--again TASK`; those that ran out of time or failed are.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from adhere.pipelines.studio.output import write_json
from adhere.pipelines.toybox import toybox_folder
from benchmarks import record
from benchmarks.battery.sharing import shared
from benchmarks.battery.tasks import Setting, Task, tasks

DONE, FAILED, UNFINISHED = "done", "failed", "out of time"


def carry_out(task: Task, log: Path, seconds: float) -> dict[str, Any]:
    """Runs a task for so long at the most; says what became of it and how long it took."""
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("ab") as stream:
        try:
            code = subprocess.run(
                task.command, cwd=record.ROOT, stdout=stream, stderr=stream, timeout=seconds,
                check=False,
            ).returncode  # fmt: skip
            state = DONE if code == 0 else FAILED
        except subprocess.TimeoutExpired:
            code, state = None, UNFINISHED
    return {"state": state, "exit": code, "seconds": round(time.monotonic() - started, 1)}


def battery(wanted: list[Task], setting: Setting, until: float, again: set[str]) -> bool:
    """Carries out what is not done yet while there is time; False if anything is left."""
    path = setting.out / "battery.json"
    kept = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    states: dict[str, dict[str, Any]] = kept.get("tasks", {})
    for task in wanted:
        left = until - time.monotonic()
        missing = [name for name in task.needs if states.get(name, {}).get("state") != DONE]
        if states.get(task.name, {}).get("state") == DONE and task.name not in again:
            continue
        if left <= 0 or missing:
            print(f"{task.name}: {f'after {missing[0]}' if missing else 'no time left'}")
            continue
        minutes = min(left / 60, task.minutes)
        print(f"{task.name}: for {minutes:.0f} minutes at the most", flush=True)
        log = setting.runs / f"{task.name.replace(' ', '-')}.log"
        states[task.name] = carry_out(task, log, 60 * minutes)
        print(f"{task.name}: {states[task.name]['state']} ({log})", flush=True)
        write_json(path, {"made": record.about(setting.device), "tasks": states})
    return all(states.get(task.name, {}).get("state") == DONE for task in wanted)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=360)
    parser.add_argument("--runs", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--out", type=Path, default=record.RESULTS / "gpu")
    parser.add_argument("--parts", type=Path, default=toybox_folder(), help="VAE and CLIP are its")
    parser.add_argument("--toy", action="store_true", help="small models, a CPU's minutes")
    parser.add_argument("--only", nargs="*", default=None, help="tasks by their first word")
    parser.add_argument("--again", nargs="*", default=[], help="done tasks to do once more")
    given = parser.parse_args()
    setting = Setting(
        given.device, given.runs.resolve(), given.out.resolve(), given.parts.resolve(), given.toy
    )
    wanted = [t for t in tasks(setting) if given.only is None or t.name.split()[0] in given.only]
    until = time.monotonic() + 60 * given.minutes
    with shared(given.device):
        whole = battery(wanted, setting, until, set(given.again))
    if not whole:
        sys.exit("something is left: the same command goes on with it")


if __name__ == "__main__":
    main()

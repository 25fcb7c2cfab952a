"""What the battery does, in its order: each task is a command that goes on where it was stopped."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.battery.hosts import hosts

BFLOAT = {"flux", "qwen-image", "sd3"}
"""Published in bfloat16, and not to be trusted in float16."""
STAGES = {"toybox": "unet", "toybox-sd3": "transformer"}
_ADHERE = (sys.executable, "-c", "from adhere.cli import main; main()")


@dataclass(frozen=True)
class Task:
    """One command of the battery, the minutes that it is given at the most, and the tasks that must
    be done before it.
    """

    name: str
    command: tuple[str, ...]
    minutes: float
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """Where and how large: `toy` is the same at a size that a CPU does in minutes."""

    device: str
    runs: Path
    out: Path
    parts: Path
    toy: bool = False

    def export(self, model: str) -> Path:
        """Where a trained toybox's pipeline folder is written."""
        return self.runs / "export" / model


def _train(setting: Setting, model: str) -> Task:
    size: tuple[str, ...] = ("--batch", "512", "--pool", "400000", "--samples", "4000000")
    if setting.toy:
        size = ("--batch", "8", "--pool", "20", "--samples", "8", "--no-compile")
    return Task(
        f"train {model}",
        (
            *_ADHERE, "toybox", "train", "--stage", STAGES[model], "--resume", "--workers", "1",
            "--out", str(setting.runs / model), "--device", setting.device,
            "--parts", str(setting.parts), "--export", str(setting.export(model)), *size,
        ),
        60,
    )  # fmt: skip


def _card(setting: Setting, model: str) -> Task:
    count = "1" if setting.toy else "1000"
    where = (str(setting.export(model)), "--out", str(setting.runs / model))
    command = (*_ADHERE, "toybox", "card", *where, "--prompts", count, "--device", setting.device)
    return Task(f"card {model}", command, 30, (f"train {model}",))


def _study(setting: Setting, model: str) -> tuple[Task, ...]:
    study = model.replace("-", "_").replace("toybox", "effect_toybox")
    size: tuple[str, ...] = ("--seeds", "10")
    how: tuple[str, ...] = ("--device", setting.device, "--workers", "8", "--batch", "100")
    if setting.toy:
        size = ("--seeds", "1", "--limit", "1", "--only", f"{model}-pairs")
        how = ("--device", setting.device)
    base = (sys.executable, "-m", "benchmarks.effect_toybox")
    shared = (
        "--study", study, "--model", str(setting.export(model)), *size,
        "--runs", str(setting.runs / "studies" / model), "--out", str(setting.out),
    )  # fmt: skip
    only = ("--variant", "plain") if setting.toy else ()
    made = Task(f"study {model}", (*base, "run", *shared, *how, *only), 90, (f"train {model}",))
    scored = Task(f"score {model}", (*base, "score", *shared, *how), 30, (made.name,))
    return made, scored, Task(f"report {model}", (*base, "report", *shared), 30, (scored.name,))


def _foretell(setting: Setting) -> Task:
    models = [str(setting.export(model)) for model in STAGES]
    return Task(
        "foretell",
        (
            sys.executable, "-m", "benchmarks.effects.foretell", "--models", *models,
            "--pictures", "1" if setting.toy else "1000", "--device", setting.device,
            "--runs", str(setting.runs / "foretell"), "--out", str(setting.out),
        ),
        20,
        tuple(f"train {model}" for model in STAGES),
    )  # fmt: skip


def _speed(setting: Setting, host: str) -> Task:
    dtype = "bfloat16" if host in BFLOAT else "float16"
    size: tuple[str, ...] = ()
    if setting.toy:
        dtype, size = "float32", ("--toy", "--steps", "2", "--repeats", "1")
    return Task(
        f"speed {host}",
        (
            sys.executable, "-m", "benchmarks.battery.speed", host, "--device", setting.device,
            "--dtype", dtype, "--out", str(setting.out), *size,
        ),
        20,
    )  # fmt: skip


def tasks(setting: Setting) -> list[Task]:
    """Everything, short measurements first: a machine that is taken back has given something."""
    found = [_speed(setting, host) for host in hosts(setting.toy)]
    found += [_train(setting, model) for model in STAGES]
    found += [_card(setting, model) for model in STAGES]
    for model in STAGES:
        found += _study(setting, model)
    return [*found, _foretell(setting)]

"""What type checkers say of a user's project: right calls pass, wrong calls are errors."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PROJECT = '''
from dataclasses import dataclass
from typing import ClassVar

import adhere
from adhere import AttendAndExcite, Energy, Guide, ImageMaps, Layout, Maps, Phrase, Read, Run
from adhere import Step, SubjectMethod, param, share
from torch import Tensor


@dataclass(frozen=True)
class Spread:
    """A method of the user's own."""

    name: ClassVar[str] = "spread"
    subjects: tuple[str, ...] | None = param(None, "phrases to spread")
    step_size: float = param(10, "length of a step", low=0, high=100)

    def guide(self, run: Run) -> Guide:
        return _Guide(self)


class _Guide(Guide):
    reads = frozenset({Read("cross")})

    def __init__(self, plugin: Spread) -> None:
        self.plugin = plugin

    def energy(self, step: Step, maps: Maps) -> Energy | None:
        return Energy(-maps.cross().mean(dim=(1, 2, 3)), self.plugin.step_size)


@dataclass(frozen=True)
class Gather(SubjectMethod):
    """Another, a loss and nothing else."""

    name = "gather"
    subjects: tuple[str, ...] | None = param(None, "phrases to gather")
    step_size: float = param(10.0, "length of a step", low=0, high=100)
    stop: float = share(0.5, "share of the steps that are guided")

    def loss(self, maps: ImageMaps, wanted: tuple[Phrase, ...]) -> Tensor:
        return -maps.of(wanted[0]).amax()


pipe = adhere.load_toybox()
methods = (AttendAndExcite(step_size=10), Spread(subjects=("cat",)), Gather(stop=0.3))
guidance = adhere.Guidance(*methods)
with guidance.attach(pipe, layout=Layout.read("scene.json")) as attached:
    pipe("a cat")
losses: dict[str, list[list[tuple[int, float]]]] = attached.report.losses
heat: float = AttendAndExcite().temperature

adhere.Typo  # error
AttendAndExcite(no_such_parameter=3)  # error
AttendAndExcite(step_size="large")  # error
adhere.SafeLatentDiffusion(AttendAndExcite())  # error
adhere.Guidance(3)  # error
adhere.Guidance(AttendAndExcite().guide)  # error
guidance.attach(pipe, layout="scene.json")  # error
Spread(step=3)  # error
Spread(subjects="cat")  # error
Gather(until=0.3)  # error
adhere.Memory(sub_batch="two")  # error
words: int = attached.report.losses  # error
'''

SETTINGS = """
[mypy]
strict = true
follow_imports = silent
[mypy-diffusers.*,transformers.*,accelerate.*,gradio.*,ray.*,peft.*]
follow_imports = skip
ignore_missing_imports = true
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    (tmp_path / "project.py").write_text(PROJECT)
    return tmp_path


def wrong() -> set[int]:
    """The lines of the project that are errors."""
    lines = PROJECT.splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# error")}


@pytest.mark.slow
def test_mypy_passes_right_calls_and_stops_wrong_ones(project: Path) -> None:
    cache = ROOT / ".mypy_cache" / "project"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", cache, "project.py"],
        cwd=project,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    found = {int(line) for line in re.findall(r"^project\.py:(\d+): error", done.stdout, re.M)}
    assert found == wrong(), done.stdout + done.stderr


def test_pyright_does_too(project: Path) -> None:
    program = shutil.which("pyright", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("pyright is not installed: pip install pyright")
    # An editable installation is an import hook, which pyright does not follow.
    (project / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT)]}))
    done = subprocess.run(
        [program, "--outputjson", "--pythonpath", sys.executable, "project.py"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    told = json.loads(done.stdout)["generalDiagnostics"]
    found = {one["range"]["start"]["line"] + 1 for one in told if one["severity"] == "error"}
    assert found == wrong(), told

"""The README's Python and commands are executed as they stand, on the toybox."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline

import adhere
from adhere.pipelines.toybox.model.folder import load_toybox

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^adhere .*", README, re.MULTILINE)
FIRST, LAYOUT, PLUGIN = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(code: str, name: str, **found: Any) -> dict[str, Any]:
    """A block's names; dataclasses look their module up, so it has one."""
    module = ModuleType(name)
    sys.modules[name] = module
    vars(module).update(found)
    exec(compile(code, str(ROOT / "README.md"), "exec"), vars(module))
    return vars(module)


@pytest.fixture
def toybox() -> StableDiffusionPipeline:
    return load_toybox()


def test_a_context_and_a_callback_give_the_same_picture(
    toybox: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StableDiffusionPipeline, "from_pretrained", lambda _: toybox)
    code, moved = re.subn(r'"cuda"', '"cpu"', FIRST)
    code, seeded = re.subn(
        r'pipe\(\s*"a cat and a frog"',
        'pipe("a cat and a frog", generator=torch.Generator().manual_seed(0)',
        code,
    )
    code, kept = re.subn(r"images = pipe", "images = pictures[len(pictures):] = pipe", code)
    assert (moved, seeded, kept) == (1, 2, 2)
    pictures: list[Any] = []
    run(code, "readme_first", torch=torch, pictures=pictures)
    assert len(pictures) == 2
    assert pictures[0].tobytes() == pictures[1].tobytes()


def test_a_layout(toybox: StableDiffusionPipeline, capsys: pytest.CaptureFixture[str]) -> None:
    code, named = re.subn(r"scene\.json", str(ROOT / "assets/layouts/cat_left_of_car.json"), LAYOUT)
    assert named == 1
    run(code, "readme_layout", adhere=adhere, pipe=toybox)
    assert "zestguide" in capsys.readouterr().out


def test_a_method_of_your_own(toybox: StableDiffusionPipeline) -> None:
    spread = run(PLUGIN, "readme_plugin")["Spread"]
    prompts = ["a red cat and a car", "a frog"]
    with adhere.Guidance(spread()).attach(toybox) as attached:
        toybox(prompts, num_inference_steps=3, output_type="latent")
    assert [len(steps) for steps in attached.report.losses["spread"]] == [3, 3]


def test_every_file_that_a_command_names_is_there() -> None:
    named = re.findall(r"(?:assets|eval|benchmarks)/[\w./-]+", "\n".join(COMMANDS))
    assert named
    assert [path for path in named if not (ROOT / path).is_file()] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if "hub-id" not in c and c != "adhere app"]
)
def test_a_command(command: str, tmp_path: Path) -> None:
    program, *arguments = shlex.split(command)
    assert program == "adhere"
    os.symlink(ROOT / "assets", tmp_path / "assets")
    os.symlink(ROOT / "eval", tmp_path / "eval")
    done = subprocess.run(
        [Path(sys.executable).with_name("adhere"), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

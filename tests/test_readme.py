"""The README's Python and commands, and the pages', are executed as they stand, on the toybox."""

from __future__ import annotations

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
from tests.families.table import COLUMNS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^adhere .*", README, re.MULTILINE)
PYTHON = r"```python\n(.*?)```"
FIRST, OWN, CALLBACK, LAYOUT, METHOD = re.findall(PYTHON, README, re.DOTALL)


def run(code: str, name: str, **found: Any) -> dict[str, Any]:
    """A block's names; dataclasses look their module up, so it has one."""
    module = ModuleType(name)
    sys.modules[name] = module
    vars(module).update(found)
    exec(compile(code, name, "exec"), vars(module))
    return vars(module)


@pytest.fixture
def toybox() -> StableDiffusionPipeline:
    return load_toybox()


def test_the_first_screen_says_it_all() -> None:
    lines = README.splitlines()
    assert len(lines) <= 150
    first = "\n".join(lines[:40])
    for part in ("docs/pictures/strip.png", "pip install adhere", FIRST, OWN):
        assert part in first
    code = [line for line in FIRST.splitlines() if line]
    assert len(code) <= 6
    assert len(OWN.splitlines()) == 2


def test_the_first_lines_draw_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(FIRST, "readme_first")
    assert (tmp_path / "guided.png").is_file()


def test_a_context_and_a_callback_give_the_same_picture(toybox: StableDiffusionPipeline) -> None:
    own, seeded = re.subn(r'frog"', 'frog", generator=torch.Generator().manual_seed(0)', OWN)
    back, again = re.subn(r'frog"', 'frog", generator=torch.Generator().manual_seed(0)', CALLBACK)
    assert (seeded, again) == (1, 1)
    names = {"adhere": adhere, "pipe": toybox, "torch": torch}
    attached = run(own, "readme_own", **names)["images"]
    names["guidance"] = adhere.Guidance(adhere.AttendAndExcite())
    called = run(back, "readme_callback", **names)["images"]
    assert attached[0].tobytes() == called[0].tobytes()


def test_a_layout(toybox: StableDiffusionPipeline, capsys: pytest.CaptureFixture[str]) -> None:
    code, named = re.subn(r"scene\.json", str(ROOT / "assets/layouts/cat_left_of_car.json"), LAYOUT)
    assert named == 1
    run(code, "readme_layout", adhere=adhere, pipe=toybox)
    assert "zestguide" in capsys.readouterr().out


@pytest.fixture(scope="module")
def spread() -> Any:
    return run(METHOD, "readme_method")["Spread"]


def test_a_method_of_your_own_is_short() -> None:
    assert len(METHOD.splitlines()) <= 25


def test_it_guides_any_number_of_subjects(spread: Any, toybox: StableDiffusionPipeline) -> None:
    prompts = ["a red cat and a car", "a frog"]
    with adhere.Guidance(spread()).attach(toybox) as attached:
        toybox(prompts, num_inference_steps=6, output_type="latent")
    assert [len(steps) for steps in attached.report.losses["spread"]] == [3, 3]


@pytest.mark.parametrize("family", COLUMNS)
def test_it_runs_on_every_family(spread: Any, family: str) -> None:
    losses = {}
    for step_size in (1e-6, 10.0):
        column = COLUMNS[family]
        pipe = column.pipe()
        with adhere.Guidance(spread(step_size=step_size)).attach(pipe) as attached:
            assert torch.isfinite(column.call(pipe, 1)).all()
        losses[step_size] = [loss for _, loss in attached.report.losses["spread"][0]]
    still, moved = losses.values()
    assert len(still) == len(moved) >= 2
    assert moved[0] == pytest.approx(still[0])
    assert moved[-1] != still[-1]
    if not family.startswith(
        "toybox"
    ):  # trained: in four steps its next maps are another noise level's
        assert moved[-1] < still[-1]


def test_it_does_what_it_says(spread: Any, toybox: StableDiffusionPipeline) -> None:
    """With steps downhill the loss is lower than without.

    At 20 steps of the denoiser: with four, the next maps are those of another noise level, for
    which no gradient was taken.
    """
    losses = {}
    for step_size in (1e-6, 10.0):
        with adhere.Guidance(spread(step_size=step_size)).attach(toybox) as attached:
            toybox(
                ["a red cat and a blue car"] * 3,
                num_inference_steps=20,
                generator=[torch.Generator().manual_seed(seed) for seed in range(3)],
                output_type="latent",
            )
        losses[step_size] = [steps[-1][1] for steps in attached.report.losses["spread"]]
    still, moved = losses.values()
    assert all(after < before for before, after in zip(still, moved, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if "hub-id" not in c and c != "adhere app"]
)
def test_a_command(command: str, tmp_path: Path) -> None:
    program, *arguments = shlex.split(command)
    assert program == "adhere"
    done = subprocess.run(
        [Path(sys.executable).with_name("adhere"), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

"""Figures to trackers, whose packages stand in here: what each is told."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from adhere.eval.cli import eval_app
from adhere.eval.run import models
from tests.eval import fakes


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the packages were called with."""
    found: dict[str, Any] = {"scalars": {}}

    @contextlib.contextmanager
    def opened(**about: Any) -> Iterator[Any]:
        found["opened"] = about
        yield SimpleNamespace(
            add_scalar=lambda name, value, step: found["scalars"].update({name: value}),
            add_text=lambda name, text: found.update({name: text}),
        )

    run = SimpleNamespace(
        log=found["scalars"].update, finish=lambda: found.update({"finished": True})
    )

    def init(**about: Any) -> Any:
        found["opened"] = about
        return run

    packages = {
        "wandb": SimpleNamespace(init=init),
        "mlflow": SimpleNamespace(
            start_run=opened, log_params=lambda given: found.update({"params": given}),
            log_metrics=found["scalars"].update,
        ),
        "torch.utils.tensorboard": SimpleNamespace(SummaryWriter=opened),
    }  # fmt: skip
    for name, package in packages.items():
        monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setattr(models, "studio", fakes.fake_load)
    return found


def test_a_tracker_that_fails_costs_no_report(
    tmp_path: Path, told: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(**about: Any) -> Any:
        raise ConnectionError("nobody has logged in")

    monkeypatch.setattr(sys.modules["wandb"], "init", offline, raising=False)
    made = run(tmp_path, "--log", "wandb")
    assert made.exit_code == 2
    assert (tmp_path / "out" / "report.html").is_file()
    said = " ".join(made.output.split())
    assert "the report is written" in said
    assert "ConnectionError: nobody has logged in" in said


def run(tmp_path: Path, *words: object) -> Result:
    suite = fakes.suite_file(tmp_path, 3)
    flags = ["run", tmp_path / "out", "-s", suite, "--model", "fake", "-p", "attend-and-excite",
             "-m", "cost", *words]  # fmt: skip
    return CliRunner().invoke(eval_app, [str(word) for word in flags])


@pytest.mark.parametrize("name", ["wandb", "mlflow", "tensorboard"])
def test_every_figure_reaches_the_tracker(name: str, tmp_path: Path, told: dict[str, Any]) -> None:
    stack = "attend-and-excite+syngen"
    made = run(tmp_path, "--log", name, "-p", stack)
    assert made.exit_code == 0, made.output
    assert told["scalars"]["fake/plain/passes"] == 50
    assert told["scalars"]["fake/attend-and-excite/passes/difference"] == 0
    if name == "wandb":
        assert told["finished"]
        assert told["opened"]["config"]["model"] == "fake"
    if name == "mlflow":
        assert told["params"]["seeds"] == "[0]"
        stack = "attend-and-excite-syngen"  # MLflow's names have no plus
    assert told["scalars"][f"fake/{stack}/passes"] == 50
    if name == "tensorboard":
        assert told["opened"]["log_dir"] == f"{tmp_path / 'out'}/tensorboard"


def test_a_wrong_or_missing_tracker_fails_before_anything_is_made(
    tmp_path: Path, told: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = run(tmp_path, "--log", "paper")
    assert wrong.exit_code == 2
    assert "use wandb, mlflow, tensorboard" in " ".join(wrong.output.split())
    monkeypatch.setitem(sys.modules, "mlflow", None)
    missing = run(tmp_path, "--log", "mlflow")
    assert missing.exit_code == 2
    assert "adhere[mlflow]" in " ".join(missing.output.split())
    assert not (tmp_path / "out").exists()

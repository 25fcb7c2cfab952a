"""Ray as the engine: two CPU workers, one of them killed half way."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adhere.errors import ExtraMissing, ModelError
from adhere.eval.errors import EvaluationError
from adhere.eval.run import generate, ray_engine
from adhere.eval.run.folder import Folder
from adhere.eval.run.generate import Options
from adhere.eval.run.models import Load
from adhere.eval.run.ray_engine import Pool
from adhere.eval.run.shards import Shard
from tests.eval import fakes

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    """One small cluster for all tests; workers find the tests as the test runner does."""
    root = str(Path(__file__).resolve().parents[2])
    for attempt in range(4):
        try:
            ray.init(
                num_cpus=2,
                include_dashboard=False,
                log_to_driver=False,
                runtime_env={"env_vars": {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}},
            )
            break
        except Exception:
            # Ray gives its own node 30 seconds to start, which a busy machine may not make.
            ray.shutdown()
            if attempt == 3:
                raise
    yield
    ray.shutdown()


def slow(folder: Path, seconds: float = 0.02) -> Load:
    """A slow maker that leaves its process number in a folder."""

    def load(model: str, device: str | None, dtype: str | None) -> Callable[..., object]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(os.getpid())).touch()

        def make(requests: object) -> object:
            time.sleep(seconds)
            return fakes.fake_make(requests)  # type: ignore[arg-type]

        return make

    return load  # type: ignore[return-value]


def undisturbed(tmp_path: Path) -> dict[str, bytes]:
    run = fakes.planned(tmp_path / "still" / "run", prompts=10, seeds=3)
    generate.generate(run, Shard(), Options(), fakes.fake_load)
    return fakes.image_bytes(run)


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run", prompts=10, seeds=3)
    workers = tmp_path / "workers"
    made: list[int] = []
    killed: list[int] = []

    @contextmanager
    def killing(title: str, total: int) -> Iterator[Callable[[int], None]]:
        yield kill_one

    def kill_one(count: int) -> None:
        made.append(count)
        if len(made) >= 12 and not killed:
            killed.append(int(sorted(path.name for path in workers.iterdir())[0]))
            os.kill(killed[0], signal.SIGKILL)

    summary = ray_engine.generate(run, Pool(workers=2), Options(), slow(workers), killing)
    assert killed
    assert summary.made == 60
    assert summary.failed == {}
    assert len(list(workers.iterdir())) == 3
    assert fakes.image_bytes(run) == undisturbed(tmp_path)
    assert list(run.problems()) == []


@pytest.mark.slow
def test_local_and_ray_share_a_folder(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run", prompts=10, seeds=3)
    generate.generate(run, Shard(1, 2), Options(), fakes.fake_load)
    half = len(run.done())
    summary = ray_engine.generate(run, Pool(workers=2), Options(), fakes.fake_load)
    assert (summary.made, summary.skipped) == (60 - half, half)
    assert fakes.image_bytes(run) == undisturbed(tmp_path)


@pytest.mark.slow
def test_what_kills_every_worker_is_recorded_and_the_rest_is_made(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run", plugins=[], seeds=1, extra=["a deadly picture"])

    def load(model: str, device: str | None, dtype: str | None) -> Callable[..., object]:
        def make(requests: object) -> object:
            if any("deadly" in request.prompt for request in requests):  # type: ignore[attr-defined]
                os.kill(os.getpid(), signal.SIGKILL)
            return fakes.fake_make(requests)  # type: ignore[arg-type]

        return make

    options = Options(batch=3, retries=1)
    summary = ray_engine.generate(run, Pool(workers=1), options, load)  # type: ignore[arg-type]
    assert summary.made == 5
    ((_, error),) = summary.failed.items()
    assert "ActorDied" in error or "RayActorError" in error


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run", prompts=1)

    def load(*_: object) -> object:
        raise ModelError("no such model anywhere")

    with pytest.raises(EvaluationError, match="no such model anywhere"):
        ray_engine.generate(run, Pool(workers=1), Options(), load)  # type: ignore[arg-type]


def test_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExtraMissing, match=r"adhere\[ray\]"):
        ray_engine.generate(Folder(tmp_path))


def test_a_worker_with_other_code_makes_nothing() -> None:
    """Another machine may have another version installed."""
    with pytest.raises(EvaluationError, match="code of the engine changed since the plan"):
        ray_engine.Worker(fakes.fake_load, {"engine": "other"}, "fake", None, None)

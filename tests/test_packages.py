"""Wheel and source archive, built from a clean checkout, installed and run outside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def run(*command: Any, folder: Path, **environment: str) -> str:
    """Runs a command to its end; a failure shows what it said."""
    given = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**given, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A folder with the wheel and the source archive of what git has of the checkout."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is nothing to build a clean one from")
    clean = tmp_path_factory.mktemp("clean") / "adhere"
    run("git", "clone", "--quiet", "--depth", "1", f"file://{ROOT}", clean, folder=ROOT)
    run(sys.executable, "-m", "build", "--no-isolation", clean, folder=clean.parent)
    kept = request.config.getoption("--keep-packages")
    if kept:
        shutil.copytree(clean / "dist", ROOT / kept, dirs_exist_ok=True)
    return clean / "dist"


def environment(folder: Path, *installed: Path) -> Path:
    """A fresh environment that sees this one's libraries, but not its adhere; its Python."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder.parent)
    python = folder / "bin" / "python"
    place = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))",
                     folder=folder).strip())  # fmt: skip
    libraries = [entry for entry in sys.path if entry.endswith("-packages")]
    (place / "libraries.pth").write_text("\n".join(libraries))
    for path in installed:
        run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
            "--target", place, path, folder=folder)  # fmt: skip
    return python


@contextmanager
def served(python: Path, folder: Path, port: int) -> Iterator[str]:
    """The web app, until the block is left."""
    command = [str(python), "-m", "adhere", "app", "--port", str(port)]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()


def answer(address: str, seconds: int = 600) -> str:
    """What is served there, once it is."""
    for _ in range(seconds):
        try:
            with urllib.request.urlopen(address, timeout=5) as found:
                page: str = found.read().decode()
                return page
        except OSError:
            time.sleep(1)
    raise AssertionError(f"nothing answers at {address}")


@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_it_runs_outside_the_checkout(kind: str, archives: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "fresh", next(archives.glob(kind)))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    where = run(python, "-c", "import adhere; print(adhere.__file__)", folder=elsewhere)
    assert Path(where.strip()).is_relative_to(tmp_path / "fresh")
    assert "toybox-pairs" in run(python, "-m", "adhere", "eval", "ls", folder=elsewhere)
    run(python, "-m", "adhere", "demo", "--seeds", "1", "--out", "demo", folder=elsewhere)
    assert (elsewhere / "demo" / "demo.png").is_file()
    command = ("eval", "plan", "planned", "-c", "toybox-smoke")
    run(python, "-m", "adhere", *command, folder=elsewhere)
    assert (elsewhere / "planned").is_dir()
    with served(python, elsewhere, 7871 if kind == "*.whl" else 7872) as address:
        assert "gradio" in answer(address)


def test_the_source_archive_passes_its_own_tests(archives: Path, tmp_path: Path) -> None:
    with tarfile.open(next(archives.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = (path for path in tmp_path.iterdir() if path.name.startswith("adhere-"))
    python = environment(tmp_path / "fresh")
    # All of them can be run from there; the fast ones are, for all take as long as `make test`.
    run(python, "-m", "pytest", "-q", "--collect-only", folder=source)
    run(python, "-m", "pytest", "-q", "-x", "-m", "fast", folder=source, OMP_NUM_THREADS="1")

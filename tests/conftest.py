"""What all tests share: quiet libraries, one thread, the same random numbers every time, and a
browser where the machine has one.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


FAST = (
    "core",
    "plugins/test_cards.py",
    "test_layout.py",
    "test_discovery.py",
    "toybox/test_world.py",
    "toybox/test_captions.py",
    "eval/test_formats.py",
)
"""What `make fast` runs, under `tests/`: whatever loads no pipeline."""


def is_fast(path: Path) -> bool:
    return any(path.is_relative_to(Path(__file__).parent / place) for place in FAST)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`-m fast` does not even import the others, which alone would take longer than it may."""
    if config.getoption("markexpr") != "fast" or collection_path.is_dir():
        return None
    return None if is_fast(collection_path) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_fast(item.path) and item.get_closest_marker("slow") is None:
            item.add_marker(pytest.mark.fast)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--keep-packages", metavar="FOLDER", help="keep what test_packages.py builds")


@pytest.fixture(autouse=True)
def _same_every_time() -> Iterator[None]:
    """Tests see the same random numbers in any order, and leave torch's switches and the handling
    of Ctrl-C as they were.
    """
    before = switches()
    torch.manual_seed(0)
    yield
    assert switches() == before


def switches() -> tuple[Any, ...]:
    return (
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        signal.getsignal(signal.SIGINT),
    )


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    for kind in ("DeprecationWarning", "FutureWarning"):
        config.addinivalue_line("filterwarnings", f"ignore::{kind}:diffusers.*")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Chromium through playwright, or a skip that says why. One for all: a process cannot hold two
    of playwright's event loops.
    """
    api = pytest.importorskip(
        "playwright.sync_api", reason="browser tests need playwright: pip install playwright"
    )
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None or not Path(path).exists():
        pytest.skip(
            "browser tests need Chromium, and none is on the PATH: apt-get install chromium, or "
            "set CHROMIUM to its path"
        )
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()

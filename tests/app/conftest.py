"""A served page with a fake model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the app's tests need Gradio: pip install 'adhere[app]'")

from adhere.app.jobs.limits import LIMITS, Limits
from tests.app.fakes import FakeJudge, FakeStudio


class Served:
    """A running app: its address, its worker's fake model and page."""

    def __init__(
        self, studio: FakeStudio, mcp: bool = False, limits: Limits = LIMITS, **where: Any
    ) -> None:
        from adhere.app.jobs.worker import Worker
        from adhere.app.serving.page import build
        from adhere.app.serving.server import Address, launch, prepare

        prepare()
        self.studio = studio
        self.worker = Worker(("toybox", "other"), lambda _: studio, FakeJudge, limits)
        page = build(self.worker, ("ddim", "euler"), log_out="auth" in where)
        address = Address(**{"port": None, **where})
        self.page = launch(page, address, worker=self.worker, mcp=mcp)
        self.url: str = self.page.local_url

    def close(self) -> None:
        self.page.close(verbose=False)


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    """One app for all tests that do not mind each other; the model takes 20 ms a step."""
    app = Served(FakeStudio(pause=0.02))
    yield app
    app.close()


@pytest.fixture
def slowly(served: Served) -> Iterator[FakeStudio]:
    """The served model, for a test in which a step takes 0.4 seconds."""
    pause = served.studio.pause
    served.studio.pause = 0.4
    yield served.studio
    served.studio.pause = pause

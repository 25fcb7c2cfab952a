"""A served page with a fake model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the app's tests need Gradio: pip install 'adhere[app]'")

from tests.app.fakes import FakeJudge, FakeStudio


class Served:
    """A running app: its address, its workshop's fake model and page."""

    def __init__(self, studio: FakeStudio, **options: Any) -> None:
        from adhere.app.jobs.workshop import Workshop
        from adhere.app.serving.page import build
        from adhere.app.serving.server import launch, prepare

        prepare()
        self.studio = studio
        self.workshop = Workshop(("toybox", "other"), lambda _: studio, FakeJudge)
        self.page = launch(build(self.workshop, ("ddim", "euler")), **options)
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

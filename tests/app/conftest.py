"""A served page with a fake model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the app's tests need Gradio: pip install 'adhere[app]'")

from adhere.app.jobs.limits import LIMITS, Limits
from tests.app.fakes import FakeJudge, FakeStudio
from tests.app.visit import Visit, profile


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


@pytest.fixture(scope="session", autouse=True)
def _gradio_writes_no_pictures() -> Iterator[None]:
    """Gradio writes a picture in place, under whoever reads it: the app hands it files only."""

    def refuse(*_: Any, **__: Any) -> str:
        raise AssertionError("Gradio was given pixels: give it `pictures.file_of(image)`")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("save_pil_to_cache", "save_img_array_to_cache", "save_bytes_to_cache"):
            patch.setattr(f"gradio.processing_utils.{name}", refuse)
        yield


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    """One app for all tests that do not mind each other; the model takes 20 ms a step."""
    app = Served(FakeStudio(pause=0.02))
    yield app
    app.close()


@pytest.fixture(scope="session")
def everyday(chromium: Any) -> Iterator[Any]:
    context = profile(chromium)
    context.new_page()  # a blank one, which stays
    yield context
    context.close()


@pytest.fixture
def visit(chromium: Any, everyday: Any, served: Served) -> Iterator[Visit]:
    """A browser on the served page, which has nothing to complain of in the end."""
    visit = Visit(chromium, served.url, everyday)
    yield visit
    visit.close()
    assert visit.trouble == []


@pytest.fixture
def held(served: Served) -> Iterator[FakeStudio]:
    """The served model, for a test in which it is in the middle of a job until it is stopped."""
    served.studio.held = 0
    yield served.studio
    served.studio.held = None

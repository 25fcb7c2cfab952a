"""Starting: what is said, what is refused, what is never imported or sent."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from adhere.app.jobs.workshop import Workshop

from adhere.app.parts import examples
from adhere.app.serving import server
from adhere.errors import ExtraMissing, ModelError, ParameterError
from tests.app.conftest import Served
from tests.app.fakes import FakeJudge, FakeStudio


def test_importing_the_app_does_not_import_gradio() -> None:
    code = "import sys, adhere.app; sys.exit('gradio' in sys.modules)"
    here = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=here, check=False)
    assert done.returncode == 0


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match=r"adhere\[app\]"):
        server.serve(block=False)


@pytest.mark.parametrize("models", [(), ("",)])
def test_no_model_is_refused(models: tuple[str, ...]) -> None:
    with pytest.raises(ParameterError, match="model"):
        server.serve(models, block=False)


def test_empty_password_is_refused() -> None:
    with pytest.raises(ParameterError, match="auth"):
        server.serve(auth=[("ann", "")], block=False)


def test_greeting_says_who_can_reach_it() -> None:
    assert "only this machine" in server.greeting("http://127.0.0.1:1/", "127.0.0.1", False)
    assert "consider --auth" in server.greeting("http://x/", "0.0.0.0", False)
    assert "password" in server.greeting("http://x/", "0.0.0.0", True)


def test_loopback_is_the_default(served: Served) -> None:
    assert served.url.startswith("http://127.0.0.1:")
    sockets = served.page.server.servers[0].sockets
    assert {one.getsockname()[0] for one in sockets} == {"127.0.0.1"}


def test_taken_port_is_a_sentence(served: Served) -> None:
    from adhere.app.serving.page import build

    shop = Workshop(("toybox",), lambda _: FakeStudio(), FakeJudge)
    with pytest.raises(ModelError, match="taken"):
        server.launch(build(shop), port=served.page.server_port)


def test_everything_lives_in_a_folder_of_its_own(served: Served) -> None:
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    assert folder.name.startswith("adhere-app-")
    assert folder.stat().st_mode & 0o077 == 0
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


def test_password_is_asked_for() -> None:
    import urllib.error
    import urllib.request

    from adhere.app.serving.page import build

    shop = Workshop(("toybox",), lambda _: FakeStudio(), FakeJudge)
    page = server.launch(build(shop), auth=[("ann", "secret")])
    try:
        for route in ("config", "gradio_api/info", "gradio_api/file=x"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(page.local_url + route, timeout=20)
            assert refused.value.code in (401, 403)
    finally:
        page.close(verbose=False)


@pytest.mark.parametrize("tab", ["compose", "paint", "safety"])
def test_examples_are_ready(tab: str) -> None:
    found = examples.load(("toybox",), tab)
    assert found
    for example in found:
        assert example.setup.model == "toybox"
        assert example.setup.request.plugins
        if example.setup.request.layout:
            example.setup.request.layout.check(example.setup.request.prompt)


def test_examples_are_words_the_toybox_knows() -> None:
    from adhere.pipelines.toybox import parse_prompt

    for tab in ("compose", "paint", "safety"):
        for example in examples.load(("toybox",), tab):
            assert parse_prompt(example.setup.request.prompt).things


@pytest.mark.slow
def test_memory_is_flat_over_two_hundred_jobs() -> None:
    import gc
    import resource
    import threading

    from adhere.app.jobs.setup import Setup
    from adhere.app.parts.runner import keep
    from adhere.pipelines.studio.request import Request

    shop = Workshop(("toybox",), lambda _: FakeStudio(), FakeJudge)
    history: list[Any] = []

    def job(seed: int) -> None:
        made = Setup("toybox", Request(prompt="a red cat"), (seed,))
        last = [*shop.run(made, threading.Event(), attention=True)][-1]
        history[:] = keep(history, "compose", last)  # type: ignore[arg-type]

    def resident() -> int:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    for seed in range(40):
        job(seed)
    before = resident()
    for seed in range(200):
        job(seed)
    assert resident() - before < 24 * 2**20

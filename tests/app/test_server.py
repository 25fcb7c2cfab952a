"""Starting: what is said, what is refused, what is never imported or sent."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from adhere.app.jobs.limits import LIMITS, with_options
from adhere.app.jobs.result import Result
from adhere.app.jobs.worker import Worker
from adhere.app.parts import examples
from adhere.app.serving import server
from adhere.errors import ExtraMissing, ModelError, ParameterError
from tests.app.conftest import Served
from tests.app.fakes import FakeJudge, FakeStudio
from tests.app.visit import SECONDS


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
        server.Address(auth=(("ann", ""),))


def test_greeting_says_who_can_reach_it() -> None:
    open_to_all = server.Address("0.0.0.0")
    assert "only this machine" in server.greeting("http://127.0.0.1:1/", server.Address())
    said = server.greeting("http://localhost:7860/", open_to_all)
    assert "consider --auth-file" in said
    assert "localhost" not in said
    assert ":7860/" in said
    closed = server.Address("0.0.0.0", auth=(("ann", "secret"),))
    assert "password" in server.greeting("http://x/", closed)


def test_limits_are_options() -> None:
    limits = with_options(["passes=2000", "seconds=30.5"])
    assert (limits.passes, limits.seconds, limits.seeds) == (2000, 30.5, LIMITS.seeds)
    for wrong in ("nothing=3", "passes", "passes=many", "passes=-1", "seconds=nan", "passes=1.5"):
        with pytest.raises(ParameterError, match="limit"):
            with_options([wrong])


def test_an_operator_says_what_judges() -> None:
    limits = with_options([], ["clip-score(model=owner/clip)", "judge"])
    assert limits.verifiers[:2] == ("clip-score(model=owner/clip)", "judge")
    assert set(LIMITS.verifiers) < set(limits.verifiers)
    assert len(limits.verifiers) == len(LIMITS.verifiers) + 1
    assert limits.pilot.verifier == "clip-score(model=owner/clip)"
    with pytest.raises(ParameterError, match="no verifier is called 'nope'"):
        with_options([], ["nope"])
    with pytest.raises(ParameterError, match="limit"):
        with_options(["verifiers=judge"])


def test_models_have_names() -> None:
    assert server.named(["toybox", "big=owner/name"]) == {"toybox": "toybox", "big": "owner/name"}
    for wrong in (["a=x", "a=y"], ["=x"], ["a="]):
        with pytest.raises(ParameterError, match="name"):
            server.named(wrong)


def test_passwords_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    path.write_text("# people\nann:secret\n\nbob:se:cret\n")
    assert server.read_passwords(path) == (("ann", "secret"), ("bob", "se:cret"))
    for text in ("ann", ":x", "ann:", ""):
        path.write_text(text)
        with pytest.raises(ParameterError, match="user:password"):
            server.read_passwords(path)
    with pytest.raises(ParameterError, match="cannot be read"):
        server.read_passwords(tmp_path / "none")


def test_https_needs_both_files(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="both"):
        server.Address(certificate="x.pem")
    with pytest.raises(ParameterError, match="no file"):
        server.Address(certificate=str(tmp_path / "x"), key=str(tmp_path / "y"))


def test_sigterm_removes_its_folder(tmp_path: Path) -> None:
    code = """
import os, threading, types
from adhere.app.serving import server

server.prepare()

def block():  # SIGTERM is handled by now
    print(os.environ["GRADIO_TEMP_DIR"], flush=True)
    threading.Event().wait()

def close(verbose):
    print("closed", flush=True)

server._until_ended(types.SimpleNamespace(block_thread=block, close=close))
"""
    here = Path(__file__).parents[2]
    program = [sys.executable, "-c", code]
    clean = {name: value for name, value in os.environ.items() if name != "GRADIO_TEMP_DIR"}
    with subprocess.Popen(
        program, cwd=here, env=clean, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        folder = Path(running.stdout.readline().strip())
        assert folder.is_dir()
        running.terminate()
        assert running.stdout.readline().strip() == "closed"
        assert running.wait(SECONDS) == 0
    assert not folder.exists()


def test_loopback_is_the_default(served: Served) -> None:
    assert served.url.startswith("http://127.0.0.1:")
    sockets = served.page.server.servers[0].sockets
    assert {one.getsockname()[0] for one in sockets} == {"127.0.0.1"}


def test_taken_port_is_a_sentence(served: Served) -> None:
    from adhere.app.serving.page import build

    worker = Worker(("toybox",), lambda _: FakeStudio(), FakeJudge)
    address = server.Address(port=served.page.server_port)
    with pytest.raises(ModelError, match="taken"):
        server.launch(build(worker), address, worker=worker)


@pytest.mark.parametrize(
    ("address", "says"),
    [(None, "is taken on 127.0.0.1"), (server.Address(host="203.0.113.7"), "cannot listen on")],
)
def test_an_address_that_cannot_be_had_is_said_before_a_model_is_loaded(
    served: Served, address: server.Address | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(server, "_builder", lambda *_: loaded.append)
    taken = address or server.Address(port=served.page.server_port)
    with pytest.raises(ModelError, match=says):
        server.serve(address=taken, block=False)
    assert not loaded


@pytest.mark.parametrize(("patience", "there"), [(60.0, True), (0.0, False)])
def test_the_page_waits_for_its_model_but_not_for_ever(
    patience: float, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, loaded = threading.Event(), threading.Event()

    def build(*_: object) -> Any:
        def load(name: str) -> FakeStudio:
            assert there or go.wait(SECONDS)
            loaded.set()
            return FakeStudio()

        return load

    monkeypatch.setattr(server, "_builder", build)
    monkeypatch.setattr(server, "PATIENCE", patience)
    said: list[str] = []
    page = server.serve(address=server.Address(port=None), block=False, say=said.append)
    try:
        assert loaded.is_set() == there
        assert len(said) == 1
        go.set()
        assert loaded.wait(SECONDS)
    finally:
        page.close(verbose=False)


def test_everything_lives_in_a_folder_of_its_own(served: Served) -> None:
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    assert folder.name.startswith("adhere-app-")
    assert folder.stat().st_mode & 0o077 == 0
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


def test_password_is_asked_for() -> None:
    import urllib.error
    import urllib.request

    app = Served(FakeStudio(), auth=(("ann", "secret"),))
    page = app.page
    try:
        for route in ("config", "gradio_api/info", "gradio_api/file=x"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(page.local_url + route, timeout=SECONDS)
            assert refused.value.code in (401, 403)
    finally:
        app.close()


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
    from adhere.app.outcome.sessions import Histories
    from adhere.pipelines.studio.request import Request

    worker = Worker(("toybox",), lambda _: FakeStudio(), FakeJudge)
    histories = Histories()

    def job(seed: int) -> None:
        made = Setup("toybox", Request(prompt="a red cat"), (seed,))
        last = [*worker.run(made, threading.Event(), attention=True)][-1]
        assert isinstance(last, Result)
        histories.add("visitor", "compose", last)

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

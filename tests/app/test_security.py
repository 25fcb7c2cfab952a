"""What strangers try: other people's files, tags in texts, a full queue, a wrong address."""

from __future__ import annotations

import html
import json
import re
import threading
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from adhere.app.jobs.limits import LIMITS
from adhere.app.jobs.result import Result, Update
from adhere.app.jobs.setup import Setup
from adhere.app.jobs.worker import Worker
from adhere.app.outcome import results, status, verdicts
from adhere.app.outcome.sessions import Cancellations, Histories
from adhere.app.parts import editor, elements
from adhere.app.parts.words import pieces_of
from adhere.errors import GuidanceError
from adhere.pipelines.studio.request import Request
from tests.app.conftest import Served
from tests.app.fakes import FakeJudge, FakeStudio
from tests.app.visit import SECONDS

EVIL = "<img src=x onerror=alert(1)>\"'&</div><script>alert(2)</script>"


def fetch(url: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(url, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "pyproject.toml",
        "app/server.py",
        "assets/examples/examples.json",
        "file:///etc/passwd",
        "http://127.0.0.1:1/x",
        str(Path(__file__)),
        str(Path.home() / ".bashrc"),
    ],
)
def test_no_file_outside_the_apps_folder_is_served(served: Served, path: str) -> None:
    for route in ("gradio_api/file=", "file=", "gradio_api/file/"):
        status, body = fetch(served.url + route + path)
        assert status >= 400, (route, path)
        assert b"root:" not in body
        assert b"import" not in body


def _event(served: Served, data: list[Any], fn_index: int) -> str:
    """Post an event as the page does, and return everything the server says about it."""
    session = "stranger"
    body = json.dumps({"data": data, "fn_index": fn_index, "session_hash": session}).encode()
    head = {"Content-Type": "application/json"}
    status, answer = fetch(served.url + "gradio_api/queue/join", body, **head)
    if status != 200:
        return answer.decode()
    url = served.url + f"gradio_api/queue/data?session_hash={session}"
    said = ""
    with urllib.request.urlopen(url, timeout=SECONDS) as stream:
        for line in stream:
            said += line.decode()
            if "process_completed" in said or "close_stream" in said:
                break
    return said


def _events_with(page: Any, kind: type) -> list[tuple[int, list[Any]]]:
    """Every event that has a component of a kind among its inputs."""
    found = []
    for index, fn in page.fns.items():
        if any(isinstance(part, kind) for part in fn.inputs):
            found.append((index, list(fn.inputs)))
    return found


@pytest.mark.parametrize("path", ["/etc/passwd", "https://example.com/x.png", "../x", ""])
def test_foreign_path_in_a_file_input_is_refused(served: Served, path: str) -> None:
    events = _events_with(served.page, gr.File)
    assert events
    stolen = {"path": path, "meta": {"_type": "gradio.FileData"}}
    for index, inputs in events:
        data = [stolen if isinstance(part, gr.File) else None for part in inputs]
        said = _event(served, data, index)
        assert "root:" not in said
        assert "/etc" not in said
        assert '"success":false' in said.replace(" ", "")


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"regions": "many"},
        {"regions": [{"phrase": 3, "box": [0, 0, 1, 1]}]},
        {"regions": [{"phrase": "x" * 9999, "box": [0, 0, 1, 1]}]},
        {"regions": [{"phrase": "cat", "box": [0, 0, 9, 9]}]},
        {"regions": [{"phrase": "cat", "box": "everything"}]},
        {"regions": [{"phrase": "cat", "mask": {"size": [10**9, 10**9], "runs": [0, 10**18]}}]},
        {"regions": [{"phrase": "cat", "mask": {"size": [64, 64], "runs": [-5, 4101]}}]},
        {"regions": [{"phrase": "cat", "mask": "x"}]},
        {"regions": [{"phrase": "cat", "box": [0, 0, 1, 1]}] * 99},
    ],
)
def test_what_is_no_drawing_is_refused(value: Any) -> None:
    with pytest.raises(GuidanceError):
        editor.drawn(value, LIMITS)


def test_address_hidden_in_a_plain_value_is_not_fetched(served: Served) -> None:
    stolen = {"path": "http://169.254.169.254/latest", "meta": {"_type": "gradio.FileData"}}
    index = next(k for k, fn in served.page.fns.items() if fn.api_name == "generate")
    count = len(served.page.fns[index].inputs)
    said = _event(served, ["a cat", *[None] * (count - 2), {"deep": [stolen]}], index)
    assert "upload" in said
    assert '"success":false' in said.replace(" ", "")


def test_direct_posts_around_the_queue_are_refused(served: Served) -> None:
    body = json.dumps({"data": ["a cat"]}).encode()
    for route in ("gradio_api/run/generate", "gradio_api/api/generate", "run/predict"):
        status, _ = fetch(served.url + route, body, **{"Content-Type": "application/json"})
        assert status >= 400


def test_texts_never_become_tags() -> None:
    thing = type("Thing", (), {"kind": EVIL, "colour": EVIL})()
    verdict = type("V", (), {"things": [thing], "unsafe": False, "against": _outcome})()
    worker = Worker(("toybox",), lambda _: FakeStudio(), FakeJudge)
    made = [*worker.run(Setup("toybox", Request(prompt=EVIL), (0,)), threading.Event())][-1]
    assert isinstance(made, Result)
    pair = made.comparisons[0]
    pair = replace(pair, after=replace(pair.after, verdict=verdict))
    pair.after.picture.report["notes"] = [EVIL]
    shown = [
        status.say(EVIL),
        status.growing(Update(EVIL, 0.5)),
        results.facts(pair),
        verdicts.card(pair),
        elements.table((EVIL,), [(EVIL,)]),
        elements.tag("div", EVIL, title=EVIL),
    ]
    for text in shown:
        assert text is not None
        assert "<script" not in text
        assert "<img src=x" not in text
        assert not re.search(r'="[^"]*<', text)
        assert html.unescape(text).count("onerror") >= 1


def _outcome(self: Any, prompt: str) -> Any:
    fields = {"neglected": (EVIL,), "miscoloured": (), "swapped": (), "relations": None}
    return type("O", (), {**fields, "fully_right": False})()


def test_only_escaping_components_show_texts(served: Served) -> None:
    """No Markdown and no HTML component of Gradio's own gets a text straight from a person."""
    kinds = {type(block).__name__ for block in served.page.blocks.values()}
    assert "Markdown" not in kinds
    assert "Chatbot" not in kinds


def test_odd_words_from_a_page_do_no_harm() -> None:
    assert pieces_of(None) == []
    assert pieces_of([{"token": EVIL, "class_or_confidence": None}]) == [(EVIL, None)]


def test_the_queue_holds_everybody_whom_the_line_lets_wait(served: Served) -> None:
    assert served.page._queue.max_size > LIMITS.waiting
    jobs = [fn for fn in served.page.fns.values() if fn.queue and fn.concurrency_limit is None]
    assert len(jobs) >= 4


def test_stop_signs_are_bounded_and_private() -> None:
    signs = Cancellations()
    for session in ("me", "you"):
        assert signs.announce(session, "compose")
    mine, yours = signs.begin("me", "compose"), signs.begin("you", "compose")
    assert mine is not None
    assert yours is not None
    signs.stop("me", "compose")
    assert mine.is_set()
    assert not yours.is_set()
    for k in range(10_000):
        signs.announce(f"s{k}", "compose")
    assert len(signs._announced) <= 4 * LIMITS.sessions
    signs.stop("you")  # however many came since
    assert yours.is_set()
    signs.stop("nobody")


def test_a_tab_has_one_job_at_a_time_and_stop_is_its() -> None:
    signs = Cancellations()
    signs.announce("me", "compose")
    first = signs.begin("me", "compose")
    assert not signs.announce("me", "compose")
    assert signs.begin("me", "compose") is None
    assert signs.announce("me", "paint")
    signs.stop("me", "compose")
    assert first is not None
    assert first.is_set()
    signs.end("me", "compose", first)
    # What was refused does not begin later, when nobody thinks of it any more.
    assert signs.begin("me", "compose") is None
    assert signs.announce("me", "compose")
    signs.stop("me", "compose")
    early = signs.begin("me", "compose")
    assert early is not None
    assert early.is_set()
    signs.end("me", "compose", first)
    assert not signs.announce("me", "compose")


def test_histories_are_bounded_and_private() -> None:
    histories = Histories()
    made = Result(Setup("toybox", Request(prompt="a cat"), (0,)), True)
    for k in range(LIMITS.kept + 5):
        histories.add("mine", "compose", made)
        histories.add(f"visitor {k}", "compose", made)
    assert len(histories.of("mine")) == LIMITS.kept
    assert histories.of("mine")[0].number == LIMITS.kept + 5
    assert histories.of(None) == histories.of("") == histories.of("nobody") == []
    for k in range(10 * LIMITS.sessions):
        histories.add(f"crowd {k}", "compose", made)
    assert histories.of("mine") == []
    assert len(Histories.new_key()) >= 24
    assert Histories.new_key() != Histories.new_key()


def test_nothing_is_watched_or_shared(served: Served) -> None:
    assert served.page.analytics_enabled is False
    assert served.page.share is False

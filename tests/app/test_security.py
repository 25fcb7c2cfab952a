"""What strangers try: other people's files, tags in texts, a full queue, a wrong address."""

from __future__ import annotations

import html
import json
import re
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from adhere.app.jobs.workshop import Glimpse, Result, Workshop
from adhere.app.parts.canvas import Canvas

from adhere.app.jobs.limits import LIMITS
from adhere.app.jobs.setup import Setup
from adhere.app.parts import elements, results, verdicts
from adhere.app.parts.runner import Desk
from adhere.app.tabs.compose import pieces_of
from adhere.errors import GuidanceError
from adhere.pipelines.studio.request import Request
from tests.app.conftest import Served
from tests.app.fakes import FakeJudge, FakeStudio

EVIL = "<img src=x onerror=alert(1)>\"'&</div><script>alert(2)</script>"


def fetch(url: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(url, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
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
    with urllib.request.urlopen(url, timeout=20) as stream:
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
@pytest.mark.parametrize("kind", [gr.File, Canvas])
def test_foreign_path_in_a_file_input_is_refused(served: Served, kind: type, path: str) -> None:
    events = _events_with(served.page, kind)
    assert events
    stolen = {"path": path, "meta": {"_type": "gradio.FileData"}}
    for index, inputs in events:
        data = [None] * len(inputs)
        for place, part in enumerate(inputs):
            if isinstance(part, Canvas):
                data[place] = {"background": stolen, "layers": [stolen], "composite": stolen}
            elif isinstance(part, gr.File):
                data[place] = stolen
        said = _event(served, data, index)
        assert "root:" not in said
        assert "/etc" not in said
        assert '"success":false' in said.replace(" ", "")


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


def test_canvas_takes_no_flood() -> None:
    from gradio.components.image_editor import AcceptBlobs

    canvas = Canvas()

    def send(index: object, size: int = 10, name: str = "a") -> None:
        files = [("file", b"\0" * size)]
        data = {"type": "layer", "index": str(index), "id": name, "file": ""}
        canvas.accept_blobs(AcceptBlobs(data=data, files=files))

    send(0)
    with pytest.raises(gr.Error):
        send(10**9)
    with pytest.raises(gr.Error):
        send(0, LIMITS.upload_bytes + 1)
    for k in range(200):
        send(0, name=str(k))
    assert len(canvas.blob_storage) <= 64


def test_canvas_refuses_what_is_no_picture() -> None:
    with pytest.raises(GuidanceError):
        Canvas().convert_and_format_image(b"GIF89a evil")


def test_gradio_leaves_no_file_beside_the_source() -> None:
    import adhere.app.parts.canvas as module

    assert not Path(str(module.__file__)).with_suffix(".pyi").exists()


def test_texts_never_become_tags() -> None:
    thing = type("Thing", (), {"kind": EVIL, "colour": EVIL})()
    verdict = type("V", (), {"things": [thing], "unsafe": False, "against": _outcome})()
    shop = Workshop(("toybox",), lambda _: FakeStudio(), FakeJudge)
    made = [*shop.run(Setup("toybox", Request(prompt=EVIL), (0,)), threading.Event())][-1]
    assert isinstance(made, Result)
    pair = made.pairs[0]
    pair.judged_after = verdict
    pair.after.report["notes"] = [EVIL]
    shown = [
        results.say(EVIL),
        results.growing(Glimpse(EVIL, 0.5)),
        results.facts(pair),
        verdicts.card(pair, EVIL),
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


def test_full_queue_is_refused_with_a_sentence(served: Served) -> None:
    queue = served.page._queue
    assert queue.max_size == LIMITS.waiting


def test_all_model_events_share_one_place(served: Served) -> None:
    ids = {fn.concurrency_id for fn in served.page.fns.values() if fn.concurrency_id == "model"}
    heavy = [fn for fn in served.page.fns.values() if fn.concurrency_id == "model"]
    assert ids == {"model"}
    assert all(fn.concurrency_limit == 1 for fn in heavy)
    assert all(fn.queue for fn in heavy)


def test_stop_signs_are_bounded_and_private() -> None:
    desk = Desk()
    mine, yours = desk.begin("me", "compose"), desk.begin("you", "compose")
    desk.stop("me", "compose")
    assert mine.is_set()
    assert not yours.is_set()
    for k in range(10_000):
        desk.begin(f"s{k}", "compose")
    assert len(desk._signs) <= 4 * LIMITS.sessions
    desk.stop("nobody")


def test_nothing_is_watched_or_shared(served: Served) -> None:
    assert served.page.analytics_enabled is False
    assert served.page.share is False

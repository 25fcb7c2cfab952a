"""The endpoint for programs: plain types in, pictures and a report out (`gradio_client`)."""

from __future__ import annotations

import secrets
from typing import Any

import gradio as gr

from adhere.app.jobs.result import Shot
from adhere.app.jobs.worker import Worker, sentence
from adhere.app.outcome import downloads
from adhere.app.outcome.sessions import Cancellations
from adhere.app.serving.asking import Asked, made, offered, report

Answer = tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any]]
"""The picture, the picture without plugins (if asked for), and a report."""


def offer(worker: Worker, signs: Cancellations) -> None:
    """Put the endpoint on the page that is being built, as `/generate`."""

    def generate(*given: Any) -> Answer:
        *values, request = given
        # A client has many calls at a time; when it leaves, all of them stop.
        call = str(request.session_hash or ""), f"call {secrets.token_hex(8)}"
        signs.announce(*call)
        stop = signs.begin(*call)
        assert stop is not None  # nobody else's call has this name
        try:
            result = made(worker, Asked(*values), stop)
        except Exception as wrong:  # whatever it is, the client gets a sentence
            raise gr.Error(sentence(wrong), print_exception=False) from wrong
        finally:
            signs.end(*call, stop)
        one = result.comparisons[0]
        before = _file(one.before) if one.before else None
        return _file(one.after), before, report(result)

    named = offered(generate, Answer, request=gr.Request)
    gr.api(named, api_name="generate", concurrency_limit=None)


def _file(shot: Shot) -> dict[str, Any]:
    path = downloads.picture(shot)
    return {"path": str(path), "mime_type": "image/png", "meta": {"_type": "gradio.FileData"}}

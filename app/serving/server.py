"""Starting the app: what is allowed, where it listens, and what it says about that."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adhere.app.jobs.limits import LIMITS
from adhere.errors import ExtraMissing, ModelError, ParameterError

_OWN = "adhere-app-"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    models: Sequence[str] = ("toybox",),
    host: str = "127.0.0.1",
    port: int | None = 7860,
    auth: Sequence[tuple[str, str]] = (),
    device: str | None = None,
    dtype: str | None = None,
    mcp: bool = False,
    block: bool = True,
    say: Callable[[str], None] = print,
) -> Any:
    """Serve the app until interrupted.

    Args:
        models: what visitors may choose from: `toybox`, hub ids, folders; the first is the default.
        host: the address to listen on; others than this machine can reach it only if told so here.
        port: the port, or None for any free one from 7860 on.
        auth: (user, password) pairs; none lets everybody in.
        device, dtype: where and how the models run.
        mcp: also offer the endpoint to MCP clients.
        block: wait until interrupted; False returns the running `gr.Blocks` at once.
        say: prints a line for the operator.

    Raises:
        ExtraMissing: Gradio (or for `mcp` its MCP part) is not installed.
        ModelError: the port is taken.
    """
    _check(models, auth)
    prepare()
    _need("gradio", "the app", "app")
    if mcp:
        _need("mcp", "the MCP server", "mcp")

    from adhere.app.jobs.workshop import Workshop
    from adhere.app.serving.page import build
    from adhere.pipelines.studio.samplers import SCHEDULERS

    workshop = Workshop(models, _builder(device, dtype), _judge)
    page = launch(build(workshop, tuple(SCHEDULERS)), host=host, port=port, auth=auth, mcp=mcp)
    say(greeting(page.local_url, host, bool(auth)))
    threading.Thread(target=_warm_up, args=(workshop, say), daemon=True).start()
    if block:
        page.block_thread()
    return page


def launch(
    page: Any,
    host: str = "127.0.0.1",
    port: int | None = None,
    auth: Sequence[tuple[str, str]] = (),
    mcp: bool = False,
) -> Any:
    """Queue and launch a page with the app's limits; it runs in threads of its own.

    Raises:
        ModelError: the port is taken.
    """
    from adhere.app.parts import looks

    page.queue(max_size=LIMITS.waiting, api_open=False, default_concurrency_limit=4)
    try:
        page.launch(
            server_name=host,
            server_port=port,
            auth=list(auth) or None,
            theme=looks.theme(),
            css=looks.CSS,
            max_file_size=LIMITS.upload_bytes,
            state_session_capacity=LIMITS.sessions,
            prevent_thread_lock=True,
            share=False,
            # What the app says on purpose is shown either way; the rest stays in the log.
            show_error=False,
            quiet=True,
            ssr_mode=False,
            enable_monitoring=False,
            run_history=False,
            mcp_server=mcp,
            footer_links=["api", "settings"],
        )
    except OSError as taken:
        raise ModelError(
            f"port {port} is taken on {host}: choose another with --port, or end the other program"
        ) from taken
    return page


def _check(models: Sequence[str], auth: Sequence[tuple[str, str]]) -> None:
    if not models or not all(models):
        raise ParameterError("no model is given: name at least one, such as toybox")
    if any(not user or not password for user, password in auth):
        raise ParameterError("--auth needs user:password, both not empty")


def prepare() -> None:
    """Keep Gradio quiet and in a folder of its own; it reads both when it is imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    if os.environ.get("GRADIO_TEMP_DIR", "").startswith(str(Path(tempfile.gettempdir()) / _OWN)):
        return
    folder = Path(tempfile.mkdtemp(prefix=_OWN))
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _need(module: str, what: str, extra: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ExtraMissing(what, extra)


def _builder(device: str | None, dtype: str | None) -> Callable[[str], Any]:
    def build(name: str) -> Any:
        from adhere.pipelines.studio.studio import Studio

        return Studio(name, device=device, dtype=dtype)

    return build


def _judge() -> Any:
    from adhere.pipelines.toybox import Judge

    return Judge.load()


def _warm_up(workshop: Any, say: Callable[[str], None]) -> None:
    from adhere.app.jobs.workshop import sentence

    try:
        workshop.warm_up()
    except Exception as wrong:  # visitors are told the same, and may try again
        say(f"The model is not ready: {sentence(wrong)}")


def greeting(url: str, host: str, auth: bool) -> str:
    """The line for the operator: where the app is and who can reach it."""
    if host in LOOPBACK:
        reach = "only this machine can reach it (--host 0.0.0.0 lets others in)"
    elif auth:
        reach = "other machines can reach it, with a password"
    else:
        reach = "everybody who can reach this machine can use it: consider --auth user:password"
    return f"Adhere is at {url} - {reach}."

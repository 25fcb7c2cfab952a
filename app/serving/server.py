"""Starting the app: what is allowed, where it listens, and what it says about that."""

from __future__ import annotations

import atexit
import errno
import importlib.util
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adhere.app.jobs.limits import LIMITS, Limits
from adhere.errors import ExtraMissing, ModelError, ParameterError

_OWN = "adhere-app-"
PATIENCE = 30.0
"""Seconds that the page waits for its model before it is served."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ANY = ("0.0.0.0", "::", "")
"""Hosts that mean every address of the machine."""


@dataclass(frozen=True)
class Address:
    """Where the app listens and who is let in.

    Attributes:
        host: the address to listen on; others than this machine can reach it only if told so here.
        port: the port, or None for any free one from 7860 on.
        auth: (user, password) pairs; none lets everybody in.
        certificate, key: PEM files for https.
        root_path: the path under which a proxy shows the app, such as `/adhere`.
    """

    host: str = "127.0.0.1"
    port: int | None = 7860
    auth: tuple[tuple[str, str], ...] = ()
    certificate: str | None = None
    key: str | None = None
    root_path: str | None = None

    def __post_init__(self) -> None:
        if any(not user or not password for user, password in self.auth):
            raise ParameterError("--auth needs user:password, both not empty")
        if bool(self.certificate) != bool(self.key):
            raise ParameterError("https needs both files: --ssl-certificate and --ssl-key")
        for path in filter(None, (self.certificate, self.key)):
            if not Path(path).is_file():
                raise ParameterError(f"there is no file {path!r}: give the PEM file for https")


def serve(
    models: Sequence[str] = ("toybox",),
    address: Address | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    mcp: bool = False,
    limits: Limits = LIMITS,
    gallery: Path | None = None,
    block: bool = True,
    say: Callable[[str], None] = print,
) -> Any:
    """Serve the app until interrupted.

    Args:
        models: what visitors may choose from: `toybox`, hub ids, folders, each on its own or as
            `name=model`; the first is the default.
        address: where to listen and whom to let in; this machine only if left out.
        device, dtype: where and how the models run.
        mcp: also offer the tools for MCP clients.
        limits: what one visitor may ask for.
        gallery: a folder where visitors' pictures are kept for longer than the app runs.
        block: wait until interrupted; False returns the running `gr.Blocks`.
        say: prints a line for the operator.

    Raises:
        ExtraMissing: Gradio (or for `mcp` the MCP library) is not installed.
        ModelError: the address cannot be listened on.
    """
    if not models or not all(models):
        raise ParameterError("no model is given: name at least one, such as toybox")
    prepare()
    _need("gradio", "the app", "app")
    if mcp:
        _need("mcp", "the MCP server", "mcp")

    from adhere.app.jobs.worker import Worker
    from adhere.app.serving.page import build
    from adhere.pipelines.studio.output import writable
    from adhere.pipelines.studio.samplers import SCHEDULERS

    where = address or Address()
    sources = named(models)
    build_model = _builder(sources, device, dtype)
    worker = Worker(tuple(sources), build_model, _judge, limits)
    kept = writable(gallery, "--gallery") if gallery else None
    refuse_taken(where)
    page = build(worker, tuple(SCHEDULERS), log_out=bool(where.auth), gallery=kept)
    warming = threading.Thread(target=_warm_up, args=(worker, say), daemon=True)
    warming.start()
    # Loading and serving share the interpreter, so who came in the meantime would wait for both.
    # A large model goes on loading behind the page, which says so.
    warming.join(PATIENCE)
    launch(page, where, worker=worker, mcp=mcp)
    say(greeting(page.local_url, where))
    if block:
        _until_ended(page)
    return page


def launch(page: Any, address: Address, *, worker: Any, mcp: bool = False) -> Any:
    """Queue and launch a page with the app's limits; it runs in threads of its own.

    Raises:
        ModelError: the port is taken.
    """
    from adhere.app.parts import looks
    from adhere.app.serving import compat

    limits = worker.limits
    # The app's own line says who waits; Gradio's queue only has to hold them all.
    page.queue(max_size=4 * limits.waiting, api_open=False, default_concurrency_limit=8)
    try:
        page.launch(
            server_name=address.host,
            server_port=address.port,
            auth=list(address.auth) or None,
            ssl_certfile=address.certificate,
            ssl_keyfile=address.key,
            ssl_verify=False,
            root_path=address.root_path,
            theme=looks.theme(),
            css=looks.css(),
            head=looks.HEAD,
            max_file_size=limits.upload_bytes,
            max_threads=40 + 2 * limits.waiting,
            state_session_capacity=limits.sessions,
            prevent_thread_lock=True,
            share=False,
            # What the app says on purpose is shown either way; the rest stays in the log.
            show_error=False,
            quiet=True,
            ssr_mode=False,
            enable_monitoring=False,
            run_history=False,
            mcp_server=False,
            app_kwargs=_with_tools(worker, address) if mcp else None,
            footer_links=["api", "settings"],
            **compat.WITHOUT_PROBE,
        )
    except OSError as wrong:
        raise _unserved(address, wrong) from wrong
    return page


def refuse_taken(address: Address) -> None:
    """Raise `ModelError` where another program has the port: before anything is loaded for it."""
    if address.port is None:
        return
    try:
        kind = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        socket.create_server((address.host, address.port), family=kind).close()
    except OSError as wrong:
        raise _unserved(address, wrong) from wrong


def _unserved(address: Address, wrong: OSError) -> ModelError:
    # Gradio's own errors have no number: it looked for a free port and found none.
    if wrong.errno in (None, errno.EADDRINUSE):
        return ModelError(
            f"port {address.port} is taken on {address.host}: choose another with --port, or end "
            "the other program"
        )
    return ModelError(f"cannot listen on {address.host}, port {address.port}: {wrong.strerror}")


def _with_tools(worker: Any, address: Address) -> dict[str, Any]:
    """What the web server needs besides the page: the tools for MCP clients, and their life."""
    from starlette.routing import Mount

    from adhere.app.serving import tools

    mcp = tools.server(worker)
    app = tools.guarded(mcp.streamable_http_app(), address.auth)

    @asynccontextmanager
    async def living(_: Any) -> AsyncIterator[None]:
        async with mcp.session_manager.run():
            yield

    return {"routes": [Mount(tools.PATH, app=app)], "lifespan": living}


def prepare() -> None:
    """Keep Gradio quiet and in a folder of its own; it reads both when it is imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    if os.environ.get("GRADIO_TEMP_DIR", "").startswith(str(Path(tempfile.gettempdir()) / _OWN)):
        return
    folder = Path(tempfile.mkdtemp(prefix=_OWN))
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _until_ended(page: Any) -> None:
    """Wait for Ctrl-C or SIGTERM; both end the server and remove its folder."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        page.block_thread()
    finally:
        signal.signal(signal.SIGTERM, before)
        page.close(verbose=False)


def _need(module: str, what: str, extra: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ExtraMissing(what, extra)


def named(models: Sequence[str]) -> dict[str, str]:
    """The models by the names that visitors see: `big=/models/flux` is seen as `big`.

    Raises:
        ParameterError: two have one name, or one is empty.
    """
    found: dict[str, str] = {}
    for model in models:
        name, equals, source = model.partition("=")
        if name in found or not name or (equals and not source):
            raise ParameterError(
                f"--model {model!r}: give each model one name, as in big=owner/name"
            )
        found[name] = source or name
    return found


def _builder(
    sources: Mapping[str, str], device: str | None, dtype: str | None
) -> Callable[[str], Any]:
    def build(name: str) -> Any:
        from adhere.pipelines.studio.studio import Studio

        return Studio(sources[name], device=device, dtype=dtype)

    return build


def _judge() -> Any:
    from adhere.pipelines.toybox import Judge

    return Judge.load()


def _warm_up(worker: Any, say: Callable[[str], None]) -> None:
    from adhere.app.jobs.worker import sentence

    try:
        worker.warm_up()
    except Exception as wrong:  # visitors are told the same, and may try again
        say(f"The model is not ready: {sentence(wrong)}")


def greeting(url: str, address: Address) -> str:
    """The line for the operator: where the app is and who can reach it."""
    if address.host in ANY:
        # Gradio calls that `localhost`; others need the machine's own name.
        scheme, _, rest = url.partition("://")
        port = rest.rpartition(":")[2].strip("/")
        url = f"{scheme}://<this machine's name or address>:{port}/"
    if address.host in LOOPBACK:
        reach = "only this machine can reach it (--host 0.0.0.0 lets others in)"
    elif address.auth:
        reach = "other machines can reach it, with a password"
    else:
        reach = "everybody who can reach this machine can use it: consider --auth-file"
    return f"Adhere is at {url} - {reach}."


def read_passwords(path: Path) -> tuple[tuple[str, str], ...]:
    """Pairs from a file with one `user:password` a line; `#` begins a comment.

    Raises:
        ParameterError: the file cannot be read, or a line is no pair.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as wrong:
        raise ParameterError(f"the password file {str(path)!r} cannot be read: {wrong}") from wrong
    pairs = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        user, colon, password = line.strip().partition(":")
        if not (user and colon and password):
            raise ParameterError(f"line {number} of the password file is not user:password")
        pairs.append((user, password))
    if not pairs:
        raise ParameterError(f"the password file {str(path)!r} has no user:password line")
    return tuple(pairs)

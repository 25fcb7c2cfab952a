"""The app for MCP clients: `generate` and what it takes, behind the same passwords as the page.

Served by the protocol's own library as `/mcp/`, not by Gradio: its bridge lists tools to anybody,
cannot call them where a password is asked for, and answers with file paths of the server.
"""

from __future__ import annotations

import base64
import hmac
import io
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import anyio.to_thread
from mcp.server.fastmcp import FastMCP
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import CallToolResult, ImageContent, TextContent
from starlette.types import ASGIApp, Receive, Scope, Send

from adhere.app.jobs.methods import offered as offered_methods
from adhere.app.jobs.passes import job_passes
from adhere.app.jobs.result import Shot
from adhere.app.jobs.worker import Worker, sentence
from adhere.app.serving.asking import Asked, made, offered, report
from adhere.errors import ParameterError
from adhere.guides import parameters

PATH = "/mcp"


def server(worker: Worker) -> FastMCP:
    """The tools, ready to be mounted."""
    mcp = FastMCP(
        "adhere",
        instructions="Pictures that follow their prompt: generate with auto, or with methods.",
        streamable_http_path="/",
        stateless_http=True,
        # Who may reach it is the operator's choice (host, password, proxy), as for the page.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    _offer_lists(mcp, worker)
    _offer_plan(mcp, worker)
    _offer_generate(mcp, worker)
    return mcp


def _offer_lists(mcp: FastMCP, worker: Worker) -> None:
    @mcp.tool()
    def list_models() -> dict[str, Any]:
        """The models that this app offers; the first is the default."""
        return {"models": list(worker.models)}

    @mcp.tool()
    def list_methods() -> dict[str, Any]:
        """The guidance methods that generate can stack, with what each one does."""
        return {
            "methods": [
                {"name": name, "summary": (kind.__doc__ or "").strip().partition("\n")[0]}
                for name, kind in offered_methods().items()
            ]
        }

    @mcp.tool()
    def list_parameters(method: str) -> dict[str, Any]:
        """The parameters of one method: meaning, default, range, source."""
        kind = offered_methods().get(method)
        if kind is None:
            raise ParameterError(
                f"no method is called {method[:60]!r}; there are: {', '.join(offered_methods())}"
            )
        return {
            "method": method,
            "parameters": [
                {
                    "name": one.name,
                    "help": one.help,
                    "default": list(one.default) if isinstance(one.default, tuple) else one.default,
                    "low": one.low,
                    "high": one.high,
                    "choices": list(one.choices),
                    "source": one.source,
                }
                for one in parameters.parameters(kind)
            ],
        }


def _offer_plan(mcp: FastMCP, worker: Worker) -> None:
    @mcp.tool()
    def plan(prompt: str, budget: float = 8.0) -> dict[str, Any]:
        """What generate with auto would try for a prompt, in words and as data; makes nothing."""
        setup = Asked(prompt, auto=True, budget=budget).setup(worker)
        found = setup.request.flight_plan
        assert found is not None  # `auto` was asked for
        passes = job_passes(setup.request, 1, compare=False)
        return {"told": found.told(), "plan": found.to_json(), "passes_at_most": passes}


def _offer_generate(mcp: FastMCP, worker: Worker) -> None:
    async def generate(**given: Any) -> CallToolResult:
        stop = threading.Event()
        try:
            return await anyio.to_thread.run_sync(
                lambda: _answer(worker, given, stop), abandon_on_cancel=True
            )
        finally:
            stop.set()  # the client may have left: then nobody waits for the picture

    # A picture in base64 is more than a language model should have to write.
    named = offered(generate, CallToolResult, without=("mask_png", "legend"))
    mcp.tool(structured_output=False)(named)


def _answer(worker: Worker, given: Mapping[str, Any], stop: threading.Event) -> CallToolResult:
    """The pictures as images and the report as structured content, or one sentence."""
    try:
        result = made(worker, Asked(**given), stop)
    except Exception as wrong:  # whatever it is, the client gets a sentence
        text = TextContent(type="text", text=sentence(wrong))
        return CallToolResult(content=[text], isError=True)
    one = result.comparisons[0]
    content: list[Any] = [_image(one.after)]
    if one.before is not None:
        content += [TextContent(type="text", text="Without methods, at the same seed:"),
                    _image(one.before)]  # fmt: skip
    return CallToolResult(content=content, structuredContent=report(result))


def _image(shot: Shot) -> ImageContent:
    buffer = io.BytesIO()
    shot.picture.image.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return ImageContent(type="image", data=data, mimeType="image/png")


def guarded(app: ASGIApp, auth: Sequence[tuple[str, str]]) -> ASGIApp:
    """An ASGI app that asks for one of the passwords (HTTP Basic) before anything else."""
    if not auth:
        return app
    allowed = [base64.b64encode(f"{user}:{word}".encode()) for user, word in auth]

    async def ask(scope: Scope, receive: Receive, send: Send) -> None:
        head = dict(scope.get("headers") or ())
        given = head.get(b"authorization", b"").partition(b" ")[2].strip()
        # All are compared, so that the time says nothing of which user exists.
        if scope["type"] != "http" or any([hmac.compare_digest(given, one) for one in allowed]):
            return await app(scope, receive, send)
        asks = [(b"www-authenticate", b'Basic realm="Adhere"'), (b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 401, "headers": asks})
        body = b"Send the app's user and password (Authorization: Basic)."
        await send({"type": "http.response.body", "body": body})

    return ask

"""The tools for MCP clients, through the protocol's own client, with and without a password."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image, ImageChops

pytest.importorskip("mcp", reason="the MCP tests need the extra: pip install 'adhere[mcp]'")

import httpx
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

from adhere import plugins
from adhere.app.jobs.methods import offered
from adhere.pipelines.studio.request import Request
from tests.app.conftest import Served
from tests.app.fakes import FakeStudio, draw
from tests.app.visit import SECONDS, until

METHOD = sorted(plugins.PLUGINS)[0]
PASSWORD = ("ann", "secret")


@pytest.fixture(scope="module", params=["open", "password"])
def served_tools(request: pytest.FixtureRequest) -> Iterator[tuple[Served, dict[str, str]]]:
    """An app with tools, and the headers that its clients need."""
    auth = (PASSWORD,) if request.param == "password" else ()
    app = Served(FakeStudio(), mcp=True, auth=auth)
    given = base64.b64encode(":".join(PASSWORD).encode()).decode()
    yield app, {"Authorization": f"Basic {given}"} if auth else {}
    app.close()


def talk(
    served: tuple[Served, dict[str, str]], say: Callable[[ClientSession], Awaitable[Any]]
) -> Any:
    """What a client gets that opens a session and says something."""

    async def session() -> Any:
        app, headers = served
        async with (
            streamablehttp_client(app.url + "mcp/", headers=headers) as (read, write, _),
            ClientSession(read, write) as client,
        ):
            await client.initialize()
            return await say(client)

    with ThreadPoolExecutor(1) as own:  # the browser tests leave a running loop in this thread
        return own.submit(asyncio.run, session()).result()


def test_tools_explain_themselves(served_tools: Any) -> None:
    tools = talk(served_tools, lambda client: client.list_tools()).tools
    assert {tool.name for tool in tools} == {
        "generate", "plan", "list_models", "list_methods", "list_parameters"
    }  # fmt: skip
    assert all(tool.description for tool in tools)


def test_a_picture_is_an_image_with_scores(served_tools: Any) -> None:
    asked = {"prompt": "a red cat", "plugins": [METHOD], "seed": 7, "compare": True}
    got = talk(served_tools, lambda client: client.call_tool("generate", asked))
    assert not got.isError
    images = [part for part in got.content if part.type == "image"]
    wanted = Request(prompt="a red cat", seed=7, plugins=(plugins.plugin(METHOD),))
    for part, request in zip(images, (wanted, wanted.plain()), strict=True):
        image = Image.open(io.BytesIO(base64.b64decode(part.data))).convert("RGB")
        assert ImageChops.difference(image, draw(request)).getbbox() is None
    scores = got.structuredContent
    assert scores["judged"]["fully_right"] is True
    assert scores["judged_plain"]["missing"] == ["car"]
    assert scores["settings"]["seeds"] == [7]
    assert "/" not in "".join(part.text for part in got.content if part.type == "text")


def test_a_plan_is_said_and_flown(served_tools: Any) -> None:
    def call(name: str, **given: Any) -> Any:
        return talk(served_tools, lambda client: client.call_tool(name, given))

    asked = {"prompt": "a red cat and a blue car", "budget": 2.0}
    said = call("plan", **asked).structuredContent
    assert any("syngen" in line for line in said["told"])
    flown = call("generate", **asked, auto=True)
    assert not flown.isError
    flight = flown.structuredContent["report"]["autopilot"]
    assert flight["plan"] == said["plan"]
    assert flight["tries"][flight["chosen"]]["finished"]
    for wrong, sentence in (({"auto": False}, "auto=true"), ({"budget": 0.5}, "udget=0.5")):
        refused = call("generate", **{**asked, "auto": True, **wrong})
        assert refused.isError
        assert sentence in refused.content[0].text


def test_models_methods_and_parameters_are_listed(served_tools: Any) -> None:
    def call(name: str, **given: Any) -> Any:
        return talk(served_tools, lambda client: client.call_tool(name, given)).structuredContent

    assert call("list_models")["models"] == ["toybox", "other"]
    methods = call("list_methods")["methods"]
    assert {one["name"] for one in methods} >= set(offered())
    assert all(one["summary"] for one in methods)
    listed = call("list_parameters", method=METHOD)["parameters"]
    assert listed
    assert all(one["help"] for one in listed)


@pytest.mark.parametrize("given", [{"prompt": ""}, {"prompt": "a cat", "plugins": ["nope"]}])
def test_a_mistake_is_one_sentence(served_tools: Any, given: dict[str, Any]) -> None:
    got = talk(served_tools, lambda client: client.call_tool("generate", given))
    assert got.isError
    (part,) = got.content
    assert "Traceback" not in part.text
    assert part.text.endswith(".")


def test_a_client_that_leaves_stops_the_model(
    served_tools: tuple[Served, dict[str, str]],
) -> None:
    app, headers = served_tools
    studio = app.studio
    steps, heard = studio.step_calls, studio.interrupted
    studio.held = 0
    call = {"name": "generate", "arguments": {"prompt": "a red cat"}}
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    head = {**headers, "Accept": "application/json, text/event-stream"}
    try:
        with httpx.stream("POST", app.url + "mcp/", json=asked, headers=head, timeout=SECONDS):
            until(lambda: studio.step_calls == steps + 2, "the model does not begin")
        until(lambda: studio.interrupted > heard, "the model goes on for nobody")
    finally:
        studio.held = None


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic bm86d2F5"}, {"Cookie": "x=y"}])
def test_without_the_password_there_is_nothing(
    served_tools: tuple[Served, dict[str, str]], headers: dict[str, str]
) -> None:
    app, needed = served_tools
    if not needed:
        pytest.skip("this app lets everybody in")
    for path in ("mcp", "mcp/", "gradio_api/mcp/", "gradio_api/mcp/schema"):
        answer = httpx.post(
            app.url + path,
            headers={**headers, "Accept": "application/json, text/event-stream"},
            json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
            follow_redirects=True,
            timeout=SECONDS,
        )
        assert answer.status_code in (401, 404, 405), path
        assert "generate" not in answer.text

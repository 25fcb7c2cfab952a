"""The endpoint for programs, through `gradio_client` as its users use it."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from adhere import plugins
from adhere.app.jobs.limits import LIMITS
from adhere.pipelines.studio.request import Request
from tests.app.conftest import Served
from tests.app.fakes import FakeStudio, draw
from tests.app.visit import SECONDS, until

client_of = pytest.importorskip("gradio_client").Client
METHOD = sorted(plugins.PLUGINS)[0]
PATIENT = {"timeout": SECONDS}


def red_png() -> str:
    """A red picture in base64."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "#ff0000").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


MASK = red_png()


@pytest.fixture(scope="module")
def client(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return client_of(
        served.url,
        verbose=False,
        download_files=tmp_path_factory.mktemp("got"),
        httpx_kwargs=PATIENT,
    )


def ask(client: Any, **given: Any) -> Any:
    return client.predict(api_name="/generate", **given)


def same(path: str, request: Request) -> bool:
    with Image.open(path) as made:
        return ImageChops.difference(made.convert("RGB"), draw(request)).getbbox() is None


def test_picture_and_report(client: Any) -> None:
    stack = (plugins.plugin(METHOD),)
    image, before, report = ask(client, prompt="a red cat", plugins=[METHOD], seed=7, compare=True)
    assert same(image, Request(prompt="a red cat", seed=7, plugins=stack))
    assert same(before, Request(prompt="a red cat", seed=7))
    assert report["settings"]["seeds"] == [7]
    assert report["judged"]["fully_right"]
    assert report["judged_plain"]["missing"]
    assert report["report"]["losses"]


def test_alone_without_comparison(client: Any) -> None:
    image, before, report = ask(client, prompt="a red cat")
    assert Path(image).exists()
    assert before is None
    assert report["seconds_plain"] is None


def test_boxes_and_masks_become_layouts(client: Any) -> None:
    boxes, follows = {"cat": [0, 0, 0.5, 1]}, ["zestguide"]
    report = ask(client, prompt="a cat and a car", boxes=boxes, plugins=follows)[2]
    assert report["settings"]["layout"]["regions"][0]["box"] == [0, 0, 0.5, 1]
    legend = {"#ff0000": "cat"}
    report = ask(client, prompt="a cat", mask_png=MASK, legend=legend, plugins=follows)[2]
    assert report["settings"]["layout"]["regions"][0]["phrase"] == "cat"


def test_a_whole_layout_with_texts_of_its_regions(client: Any) -> None:
    region = {"text": "a dog", "negative": "a cat", "box": [0, 0, 0.5, 1], "feather": 0.1}
    layout = {"regions": [region], "base": 0.3}
    report = ask(client, prompt="a photo", layout=layout, plugins=["regional-prompting"])[2]
    assert report["settings"]["layout"] == layout


@pytest.mark.parametrize(
    "given",
    [
        {"prompt": ""},
        {"prompt": "x" * 5000},
        {"prompt": "a cat", "plugins": ["nope"]},
        {"prompt": "a cat", "plugins": ["{broken"]},
        {"prompt": "a cat", "plugins": [f"{METHOD}:nothing=3"]},
        {"prompt": "a cat", "steps": 10**6},
        {"prompt": "a cat", "seed": -1},
        {"prompt": "a cat", "width": 100_000, "height": 100_000},
        {"prompt": "a cat", "model": "/etc"},
        {"prompt": "a cat", "model": "../../secret"},
        {"prompt": "a cat", "boxes": {"cat": [0, 0, 5, 5]}},
        {"prompt": "a cat", "boxes": {"cat": [0, 0, 1, 1]}, "plugins": ["syngen"]},
        {"prompt": "a cat", "plugins": ["initno:rounds=100,passes=1000"]},
        {"prompt": "a cat", "mask_png": "no base64!", "legend": {"#ff0000": "cat"}},
        {"prompt": "a cat", "mask_png": "QUJD", "legend": {"#ff0000": "cat"}},
        {"prompt": "a cat", "mask_png": "A" * (LIMITS.upload_bytes * 2)},
        {"prompt": "a cat", "layout": {"regions": [{"text": "x" * 9999, "box": [0, 0, 1, 1]}]}},
        {"prompt": "a cat", "layout": {"regions": "many"}, "plugins": ["zestguide"]},
        {"prompt": "a cat", "layout": {"regions": []}, "boxes": {"cat": [0, 0, 1, 1]}},
        {"prompt": "a [cat"},
        {"prompt": "a cat", "plugins": "syngen"},
        {"prompt": "a cat", "plugins": [{"plugin": "syngen"}]},
        {"prompt": "a cat", "subjects": "cat"},
        {"prompt": "a cat", "mask_png": MASK, "legend": ["#ff0000 = cat"]},
    ],
)
def test_bad_input_is_one_sentence_and_the_next_works(client: Any, given: dict[str, Any]) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the client raises
        ask(client, **given)
    text = str(caught.value)
    assert "Traceback" not in text
    assert "went wrong inside" not in text
    assert "\n" not in text
    assert text.endswith(".")
    assert ask(client, prompt="a cat")[0]


def test_unforeseen_error_says_nothing_of_its_inside(served: Served, client: Any) -> None:
    served.studio.fail = RuntimeError("/secret/weights.bin at 0xdead")
    try:
        with pytest.raises(Exception, match="went wrong") as caught:
            ask(client, prompt="a cat")
    finally:
        served.studio.fail = None
    assert "secret" not in str(caught.value)
    assert ask(client, prompt="a cat")[0]


def test_five_at_once_get_their_own_pictures(served: Served) -> None:
    prompts = [f"a {word}" for word in ("cat", "car", "frog", "bird", "lion")]
    people = {
        prompt: client_of(served.url, verbose=False, httpx_kwargs=PATIENT) for prompt in prompts
    }
    jobs = [
        (Request(prompt=prompt, seed=seed), person.submit(prompt, None, seed, api_name="/generate"))
        for seed in (1, 2)
        for prompt, person in people.items()
    ]
    assert [same(job.result(timeout=SECONDS)[0], request) for request, job in jobs] == [True] * 10


LEAVES = """
import sys
from gradio_client import Client
client = Client(sys.argv[1], verbose=False)
client.submit(prompt="a red cat", api_name="/generate")
sys.stdin.read()
"""


def test_a_program_that_is_killed_stops_its_jobs(served: Served, held: FakeStudio) -> None:
    steps, heard = held.step_calls, held.interrupted
    program = [sys.executable, "-c", LEAVES, served.url]
    with subprocess.Popen(program, stdin=subprocess.PIPE) as running:
        until(lambda: held.step_calls == steps + 2, "the model does not begin")
        running.kill()
    until(lambda: held.interrupted > heard, "the model goes on for nobody")


def test_the_endpoint_explains_itself(client: Any) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert list(named) == ["/generate"]
    assert "without training" in named["/generate"]["description"]
    types = {
        p["parameter_name"]: p["python_type"]["type"] for p in named["/generate"]["parameters"]
    }
    assert types["prompt"] == "str"
    assert types["seed"] == "int"

"""A studio without a model: pictures are made of the request's hash, at once."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from adhere.errors import PromptError
from adhere.eval.run import experiment, manifest
from adhere.eval.run.folder import Folder
from adhere.eval.run.manifest import Entry, Group
from adhere.eval.suites.items import Item
from adhere.pipelines.studio.request import Picture, Request

WORDS = ("cat", "dog", "frog", "car", "crown", "bird", "lion", "clock", "apple", "chair")


def picture(request: Request, neighbours: Sequence[Request]) -> Picture:
    """A picture that also depends on its batch, as floating point kernels do."""
    beside = [one.to_json() for one in neighbours]
    seed = hashlib.sha256(json.dumps([request.to_json(), beside]).encode()).digest()
    rng = np.random.default_rng(int.from_bytes(seed[:8], "big"))
    image = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    return Picture(image, request, {"passes": 50, "plugins": {"a": (1, 2)}}, 0.01)


def fake_make(requests: Sequence[Request]) -> list[Picture]:
    """Fails where the prompt says so: `refused` for what was asked, `broken` for another reason."""
    for request in requests:
        if "refused" in request.prompt:
            raise PromptError(f"no phrase in {request.prompt!r}")
        if "broken" in request.prompt:
            raise RuntimeError("out of memory")
    return [picture(request, requests) for request in requests]


def noting(requests: Sequence[Request]) -> list[Picture]:
    """SynGen leaves the cats alone; the report is of the whole batch, as a pipeline gives it."""
    notes = [f"syngen left {one.prompt!r} alone: no noun has a modifier to bind"
             for one in requests if "cat" in one.prompt]  # fmt: skip
    return [
        replace(picture(one, requests), report={"notes": notes if one.plugins else []})
        for one in requests
    ]


def fake_load(model: str, device: str | None, dtype: str | None) -> Callable[..., list[Picture]]:
    return fake_make


def slow_load(seconds: float) -> Callable[..., Callable[..., list[Picture]]]:
    """A maker that takes `seconds` a picture."""

    def load(model: str, device: str | None, dtype: str | None) -> Callable[..., list[Picture]]:
        def make(requests: Sequence[Request]) -> list[Picture]:
            time.sleep(seconds * len(requests))
            return fake_make(requests)

        return make

    return load


def suite_file(folder: Path, count: int, name: str = "fake", extra: Sequence[str] = ()) -> Path:
    """A suite of `count` prompts, and some more."""
    pairs = [(one, two) for one in WORDS for two in WORDS if one < two]
    items = [
        {
            "id": f"i{number:03d}",
            "prompt": f"a {one} and a {two}",
            "things": [{"noun": one}, {"noun": two}],
        }
        for number, (one, two) in enumerate(pairs[:count])
    ]
    items += [{"id": f"x{n}", "prompt": prompt} for n, prompt in enumerate(extra)]
    data = {"name": name, "version": "1", "source": "test", "licence": "none", "items": items}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(data))
    return path


def planned(
    folder: Path,
    prompts: int = 5,
    seeds: int = 2,
    plugins: Sequence[str] = ("attend-and-excite",),
    extra: Sequence[str] = (),
    **fields: object,
) -> Folder:
    """A run with a manifest in `folder`, ready to generate."""
    folder.mkdir(parents=True, exist_ok=True)
    path = suite_file(folder.parent, prompts, extra=extra)
    data = {"model": "fake", "suites": [str(path)], "seeds": seeds, "variants": list(plugins)}
    plan = manifest.plan(experiment.from_mapping({**data, **fields}), "any")
    run = Folder(folder)
    run.plan(plan)
    return run


def noisy(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture of noise, the same each time."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def entry(item: Item) -> Entry:
    """An entry of an item, of no run."""
    return Entry(Group("s", item, "plain", "", (0,)), 0, "j")


def image_bytes(run: Folder) -> dict[str, bytes]:
    """Everything that lies in the images folder."""
    return {path.name: path.read_bytes() for path in sorted(run.path.glob("images/*/*"))}


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process; its id."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def kill(pid: int) -> None:
    """SIGKILL, and wait until the process is gone."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def started(*words: str) -> subprocess.Popen[bytes]:
    """`adhere eval` in a process of its own, on one thread, in silence."""
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(
        [sys.executable, "-m", "adhere", "eval", *words],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

"""A session with the app as a program has it: how soon it serves, the first pair, and its memory.

    python -m benchmarks.app_session [--jobs 200]

The app is started as `adhere app` starts it, in a process of its own, and asked through its API:
methods in turn, some with layouts, some refused, every tenth given up half way. Memory is the
process's resident size (`/proc`, Linux), every 20 jobs. Results go to
`benchmarks/results/app_session.json`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.asked import answered, whole

EVERY = 20
PROMPT = "a red cat and a blue car"
BOXES = {"cat": [0.0, 0.2, 0.5, 0.9], "car": [0.5, 0.2, 1.0, 0.9]}
KINDS: tuple[dict[str, Any], ...] = (
    {"plugins": ["attend-and-excite"]},
    {"plugins": ["syngen"]},
    {"plugins": ["zestguide"], "boxes": BOXES},
    {"plugins": ["safe-latent-diffusion:concept=a skull"]},
    {"plugins": ["attend-and-excite", "syngen"]},
    {"plugins": [], "compare": False},
    {"plugins": ["paint-with-words"], "boxes": BOXES},
    {"plugins": ["best-of-noise"]},
    {"plugins": ["no-such-method"]},  # refused
)


def resident(process: int) -> float:
    """MiB of a process in memory."""
    first = Path(f"/proc/{process}/status").read_text("utf-8")
    found = re.search(r"VmRSS:\s+(\d+) kB", first)
    assert found is not None
    return int(found[1]) / 1024


@contextmanager
def served(port: int) -> Iterator[tuple[subprocess.Popen[bytes], Any, float]]:
    """The app in a process of its own, which ends with the block, a client of it, and the seconds
    until it answered.
    """
    app, client, seconds = _started(port)
    try:
        yield app, client, seconds
    finally:
        app.terminate()
        app.wait(30)


def _started(port: int) -> tuple[subprocess.Popen[bytes], Any, float]:
    from gradio_client import Client

    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"}
    began = time.monotonic()
    app = subprocess.Popen(
        [sys.executable, "-m", "adhere", "app", "--port", str(port)],
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    while True:
        try:
            client = Client(f"http://127.0.0.1:{port}/", verbose=False)
        except Exception:  # not up yet: httpx and gradio raise many kinds
            if app.poll() is not None or time.monotonic() - began > 300:
                app.kill()
                raise
            time.sleep(0.2)
        else:
            return app, client, time.monotonic() - began


def jobs(client: Any, app: subprocess.Popen[bytes], count: int) -> dict[str, Any]:
    """Seconds of the first pair, asked for as soon as the page is there and the model still loads,
    and of the next one; memory after every `EVERY` jobs.
    """
    first: dict[str, Any] = {}
    for seed, which in enumerate(("first", "next")):
        began = time.monotonic()
        client.predict(
            prompt=PROMPT,
            plugins=["attend-and-excite"],
            seed=seed,
            compare=True,
            api_name="/generate",
        )
        first[f"{which}_pair_seconds"] = round(time.monotonic() - began, 2)
    sizes = {2: round(resident(app.pid))}
    refused = stopped = 0
    for number in range(3, count + 1):
        asked = {"prompt": PROMPT, "seed": number, "steps": 6, **KINDS[number % len(KINDS)]}
        job = client.submit(**asked, api_name="/generate")
        if number % 10 == 0:
            time.sleep(0.3)
            job.cancel()
            stopped += 1
        else:
            refused += job.exception() is not None
        if number % EVERY == 0:
            sizes[number] = round(resident(app.pid))
            print(f"{number} jobs: {sizes[number]} MiB", file=sys.stderr)
    return first | {
        "jobs": count,
        "refused": refused,
        "given_up": stopped,
        "resident_mib": sizes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--jobs", type=whole, default=200)
    parser.add_argument("--port", type=int, default=7995)
    parser.add_argument("--out", type=Path, default=record.RESULTS / "app_session.json")
    asked = parser.parse_args()
    with served(asked.port) as (app, client, seconds):
        found = {"served_after_seconds": round(seconds, 2), **jobs(client, app, asked.jobs)}
    record.write(asked.out, {"device": "cpu"}, found)


if __name__ == "__main__":
    answered(main)

"""Do two revisions draw the same pictures, bit for bit, on this machine?

    python -m benchmarks.pixels --against REV [--host sd1 --host toybox] [--plugin syngen]

Every plugin at its defaults, and none, on the small random pipelines of every family and on both
toyboxes. The other revision is checked out beside this one and draws in a process of its own, so
kernels and versions are the same. Exits with 1 and names what differs. No figures are stored:
bits depend on the processor.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TOYBOXES = ("toybox", "toybox-sd3")
TINY = ("sd1", "sd2", "sdxl")
MOST = 4
"""Counts of refinements, rounds and draws are lowered to this, for speed."""


def hosts() -> dict[str, Callable[[], tuple[Any, dict[str, Any]]]]:
    """Pipelines by name: each makes a pipeline and the options of its call."""
    tiny = importlib.import_module("tests.tiny")
    cases = importlib.import_module("tests.families.cases").CASES
    load = importlib.import_module("adhere.pipelines.toybox").load_toybox
    made: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {}
    for name in TINY:
        made[name] = lambda name=name: (getattr(tiny, name)(), {"height": 32, "width": 32})
    for name, case in cases.items():
        # With a negative prompt, so that methods that steer the prediction have one to steer.
        made[name] = lambda case=case: (
            case.make(),
            {**case.options, **case.negative(["a photo of a skull"])},
        )
    for name in TOYBOXES:
        made[name] = lambda name=name: (load(name=name), {})
    return made


def plugins() -> dict[str, Any]:
    """Every plugin at its defaults, by name, and None for the plain picture."""
    table = importlib.import_module("adhere.plugins").PLUGINS
    return {"plain": None, **{name: _made(kind) for name, kind in sorted(table.items())}}


def _made(kind: Any) -> Any:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if type(field.default) is int and field.default > MOST:
            values[field.name] = max(MOST, int(field.metadata.get("low") or 0))
        if field.default == () and "str" in str(field.type):
            values[field.name] = ("a skull",)
    return kind(**values)


def drawn(chosen_hosts: list[str], chosen_plugins: list[str]) -> Iterator[tuple[str, str]]:
    """`host/plugin` and the hash of its latents, or the error's first line."""
    import torch

    adhere: Any = importlib.import_module("adhere")
    tiny = importlib.import_module("tests.tiny")
    everything = plugins()
    for host, make in hosts().items():
        if chosen_hosts and host not in chosen_hosts:
            continue
        pipe, options = make()
        pipe.set_progress_bar_config(disable=True)
        for name, plugin in everything.items():
            if chosen_plugins and name not in chosen_plugins:
                continue
            guidance = adhere.Guidance(*([] if plugin is None else [plugin]))
            call = {**options, "num_inference_steps": 3, "output_type": "latent"}
            generator = torch.Generator("cpu").manual_seed(0)
            try:
                with guidance.attach(pipe, layout=tiny.LAYOUT):
                    latents = pipe(prompt=tiny.PROMPT, generator=generator, **call).images
                said = hashlib.sha256(latents.float().numpy().tobytes()).hexdigest()[:16]
            except Exception as error:
                said = f"{type(error).__name__}: {str(error).splitlines()[0][:60]}"
            yield f"{host}/{name}", said


def drawn_at(revision: str, words: list[str]) -> dict[str, str]:
    """What another revision draws, from a checkout of its own."""
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / "checkout"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "-q", "--detach", str(there), revision], check=True)
        try:
            # This file draws there, whatever that revision has in its place.
            (there / "benchmarks" / "pixels.py").write_bytes(Path(__file__).read_bytes())
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.pixels", "--json", *words],
                cwd=there,
                env={**os.environ, "PYTHONPATH": str(there)},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        finally:
            subprocess.run([*git, "remove", "--force", str(there)], check=True)
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--against", help="the revision to compare with")
    parser.add_argument(
        "--before", type=Path, help="what --json has written, in place of --against"
    )
    parser.add_argument("--host", action="append", default=[], help="only this pipeline")
    parser.add_argument("--plugin", action="append", default=[], help="only this plugin")
    parser.add_argument("--json", action="store_true", help="print this revision's hashes")
    asked = parser.parse_args()
    words = [f"--host={name}" for name in asked.host] + [f"--plugin={p}" for p in asked.plugin]
    mine = {}
    for place, said in drawn(asked.host, asked.plugin):
        mine[place] = said
        print(f"{place:<40} {said}", file=sys.stderr)
    if asked.json:
        print(json.dumps(mine))
        return 0
    if asked.before is not None:
        other = json.loads(asked.before.read_text().splitlines()[-1])
    else:
        other = drawn_at(asked.against or "HEAD", words)
    differ = [place for place in mine.keys() & other.keys() if mine[place] != other[place]]
    for place in sorted(differ):
        print(f"differs: {place}: {other[place]} -> {mine[place]}")
    missing = sorted(other.keys() - mine.keys())
    print(f"{len(mine.keys() & other.keys())} compared, {len(differ)} differ, {missing} not drawn")
    return int(bool(differ or missing))


if __name__ == "__main__":
    sys.exit(main())

"""Time and memory of every plugin and of stacks beside the plain pipeline and diffusers' own two.

    python -m benchmarks.overhead                     # toybox and medium, batches of 1 and 8
    python -m benchmarks.overhead --models tiny --steps 2 --batches 1 --out /tmp/try    # to try it

Writes benchmarks/results/overhead_<model>.json after every case (a model, a batch size, a
contender), so that a run that was stopped goes on where it was: cases that are in the file are left
out, unless the file was made with other settings or `--fresh` is given. Every case is measured
once, those that matter most first; what is left of `--budget` seconds goes into further rounds, in
turns, so that a slow minute hits all alike. A case that has begun is finished.

All contenders work on the same weights in one process, on one thread unless told otherwise. Wall
and processor time are kept: on an idle machine they agree, on a busy one only the latter compares.
Memory is the resident size's peak above what the process held before the call (Linux).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from adhere.plugins import PLUGINS
from benchmarks import record, runs
from benchmarks.asked import answered, whole

STEPS = {"toybox": 10, "medium": 4, "tiny": 4}
"""Denoising steps; ratios hardly depend on them."""

FIRST = (
    "plain",
    "attached, no plugin",
    "attend-and-excite, no refinement",
    "diffusers' Attend-and-Excite, no refinement",
    "attend-and-excite + syngen, no refinement",
    "safe-latent-diffusion",
    "diffusers' Safe (decodes too)",
)
"""Contenders that the project's own figures are made of."""

Samples = dict[str, list[list[float]]]
"""By contender: [wall seconds, processor seconds, peak MiB] of each call."""


def contenders(asked: runs.Asked, plugins: Sequence[str]) -> dict[str, Callable[[], Any]]:
    """All that is timed, those that matter most first."""
    found = runs.contenders(asked, plugins)
    excite: Any = PLUGINS["attend-and-excite"]()
    thresholds = {
        round(share * asked.steps): threshold
        for share, threshold in zip(excite.refine_at, excite.thresholds, strict=True)
    }
    found["diffusers' Attend-and-Excite"] = lambda: asked.published_attend_and_excite(thresholds)
    return {name: found[name] for name in sorted(found, key=lambda name: (_place(name), name))}


def _place(name: str) -> int:
    return FIRST.index(name) if name in FIRST else len(FIRST)


def sample(run: Callable[[], Any]) -> list[float]:
    """[wall seconds, processor seconds, peak MiB above rest] of one call."""
    wall = 0.0

    def timed() -> None:
        nonlocal wall
        start = time.perf_counter()
        run()
        wall = time.perf_counter() - start

    processor, peak = runs.once(timed, "cpu")
    return [wall, processor, peak]


class Kept:
    """One model's results file: read if it was made in the same way, written after every case."""

    def __init__(self, path: Path, how: Mapping[str, Any], fresh: bool) -> None:
        self.path, self.how = path, dict(how)
        self.samples: dict[str, Samples] = {}
        self.sessions = 1
        if fresh or not path.is_file():
            return
        content = json.loads(path.read_text("utf-8"))
        made = content.get("made", {})
        # Threads and versions are the machine's; a result of other ones is not gone on with.
        now = {**record.about("cpu"), **self.how}
        ours = ("torch", "diffusers", "processor", "threads", "model", "steps", "commit")
        if "samples" in content and all(made.get(key) == now.get(key) for key in ours):
            self.samples = content["samples"]
            self.sessions = int(made.get("sessions", 1)) + 1

    def of(self, batch: int) -> Samples:
        return self.samples.setdefault(f"batch of {batch}", {})

    def write(self) -> None:
        made = record.about("cpu") | self.how | {"sessions": self.sessions}
        results = {
            name: summary(table, int(name.split()[-1])) for name, table in self.samples.items()
        }
        text = json.dumps({"made": made, "results": results, "samples": self.samples}, indent=1)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(text + "\n", "utf-8")
        part.replace(self.path)


def summary(table: Samples, batch: int) -> dict[str, Any]:
    """Medians of each contender, and the figures that the project has set itself."""
    found = {
        name: dict(
            zip(("wall", "processor", "peak"), map(median, zip(*calls, strict=True)), strict=True)
        )
        for name, calls in table.items()
    }
    plain = found.get("plain")
    table = {}
    for name, one in found.items():
        table[name] = {
            "seconds_per_image": round(one["wall"] / batch, 4),
            "processor_seconds_per_image": round(one["processor"] / batch, 4),
            "peak_mib_above_rest": round(one["peak"], 1),
            "calls": len(table[name]),
        }
        if plain is not None:
            table[name]["of_plain"] = round(one["wall"] / plain["wall"], 3)
            table[name]["of_plain_processor"] = round(one["processor"] / plain["processor"], 3)
    return {"figures": figures(found), "contenders": table}


RATIOS = {
    "two energies over one": (
        "attend-and-excite + syngen, no refinement",
        "attend-and-excite, no refinement",
    ),
    "diffusers' Attend-and-Excite over ours": (
        "diffusers' Attend-and-Excite, no refinement",
        "attend-and-excite, no refinement",
    ),
    "diffusers' Attend-and-Excite over ours, with refinement": (
        "diffusers' Attend-and-Excite",
        "attend-and-excite",
    ),
    "diffusers' Safe over ours": ("diffusers' Safe (decodes too)", "safe-latent-diffusion"),
    "attached without a plugin over plain": ("attached, no plugin", "plain"),
}


def figures(found: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Ratios of wall and of processor seconds, as far as both sides are measured."""
    return {
        name: {
            clock: round(found[one][clock] / found[other][clock], 3)
            for clock in ("wall", "processor")
        }
        for name, (one, other) in RATIOS.items()
        if one in found and other in found
    }


def measure(
    asked: runs.Asked, kept: Kept, plugins: Sequence[str], rounds: int, stop: float
) -> bool:
    """Fill one batch size's table; False when the time was up before all had `rounds` calls."""
    table = kept.of(asked.batch)
    timed = contenders(asked, plugins)
    warm = False
    for number in range(1, rounds + 1):
        for name, run in timed.items():
            calls = table.setdefault(name, [])
            if len(calls) >= number:
                continue
            if time.monotonic() + (calls[-1][0] if calls else 0.0) > stop:
                _drop_empty(table)
                return False
            if not warm:
                asked.plain()  # the first call of a process pays for what all share
                warm = True
            calls.append(sample(run))
            print(f"{asked.name}, batch of {asked.batch}, {name}: {calls[-1][0]:.2f} s", flush=True)
            kept.write()
    return True


def _drop_empty(table: Samples) -> None:
    for name in [name for name, calls in table.items() if not calls]:
        del table[name]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", nargs="*", default=["toybox", "medium"], choices=list(STEPS))
    parser.add_argument("--steps", type=whole, default=None, help="the model's own if left out")
    parser.add_argument("--batches", type=whole, nargs="*", default=[1, 8])
    parser.add_argument(
        "--rounds", type=whole, default=3, help="calls of each contender at the most"
    )
    parser.add_argument("--budget", type=float, default=600, help="seconds for everything")
    parser.add_argument("--threads", type=whole, default=1)
    parser.add_argument("--plugins", nargs="*", default=None, help="all in the table if left out")
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    parser.add_argument("--out", type=Path, default=record.RESULTS, help="folder")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    until = time.monotonic() + args.budget
    plugins = list(PLUGINS) if args.plugins is None else args.plugins
    work = []
    for model in args.models:
        steps = args.steps or STEPS[model]
        kept = Kept(
            args.out / f"overhead_{model}.json", {"model": model, "steps": steps}, args.fresh
        )
        pipe = runs.pipeline(model)
        work += [(runs.Asked(pipe, model, batch, steps), kept) for batch in args.batches]
    # One round of everything comes before a second one of anything.
    complete = all(
        [
            measure(asked, kept, plugins, number, until)
            for number in range(1, args.rounds + 1)
            for asked, kept in work
        ]
    )
    for _, kept in work:
        kept.write()
    if not complete:
        print("the time was up; what is measured is kept, and the same command goes on from there")


if __name__ == "__main__":
    answered(main)

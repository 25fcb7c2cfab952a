"""How quick scoring is beside generating, and whether its memory stays flat.

    python -m benchmarks.scoring [--out benchmarks/results/scoring.json] [--largest 10000]

Pictures are renders of the toybox's world, put into a run as if they had been generated; scored
with the judge, CLIP and the Fréchet distance, each size in a process of its own. Generating: 50
pictures. On a machine that does other work too, read the CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.asked import answered, whole

SPECS = ("judge", "clip-score", "frechet")


def planned(folder: Path, pictures: int) -> Any:
    """A run of that many pictures on the toybox's captions."""
    from adhere.eval.run import experiment, manifest
    from adhere.eval.run.folder import Folder

    seeds = -(-pictures // 300)
    data = {"suites": ["toybox-captions"], "seeds": seeds, "limit": min(300, pictures)}
    run = Folder(folder)
    run.plan(manifest.plan(experiment.from_mapping(data), "any"))
    return run


def rendered(requests: Sequence[Any]) -> list[Any]:
    """Renders instead of generated pictures: scoring does not know the difference."""
    from adhere.pipelines.studio.request import Picture
    from adhere.pipelines.toybox.world.world import render, sample_scene

    return [
        Picture(render(sample_scene(Random(f"{one.prompt}{one.seed}"))), one, {}, 0.0)
        for one in requests
    ]


def scored(pictures: int, queue: Any) -> None:
    """Seconds and peak memory of scoring, in this process alone."""
    import torch

    from adhere.eval.evaluators import table as evaluators
    from adhere.eval.run import generate
    from adhere.eval.scores import scoring

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        run = planned(Path(place) / "run", pictures)
        generate.generate(run, load=lambda *_: rendered)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        recipes = [evaluators.evaluator(spec) for spec in SPECS]
        started = time.process_time()
        summary = scoring.score(run, recipes)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    queue.put(
        {
            "pictures": summary.scored,
            "seconds": round(summary.seconds, 1),
            "cpu_seconds": round(time.process_time() - started, 1),
            "before_mib": round(before / 1024),
            "peak_mib": round(peak / 1024),
        }
    )


def generated(pictures: int) -> dict[str, float]:
    """What generating pictures without any plugin takes, in batches of four, on one thread."""
    import torch

    from adhere.pipelines.studio.request import Request
    from adhere.pipelines.studio.studio import Studio

    torch.set_num_threads(1)
    studio = Studio("toybox", device="cpu")
    requests = [Request("a red cat and a blue car", seed) for seed in range(pictures)]
    studio.generate(requests[:1])
    started, busy = time.perf_counter(), time.process_time()
    for start in range(0, pictures, 4):
        studio.generate(requests[start : start + 4])
    return {
        "pictures": pictures,
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - busy, 1),
    }


def main() -> None:
    """Measure, print, and write JSON if asked."""
    from adhere.eval.report.about import commit
    from adhere.eval.run.provenance import versions

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--largest", type=whole, default=10_000)
    options = parser.parse_args()
    runs = []
    context = multiprocessing.get_context("spawn")
    for pictures in (100, 1000, options.largest):
        queue = context.Queue()
        child = context.Process(target=scored, args=(pictures, queue))
        child.start()
        runs.append(queue.get())
        child.join()
        print(runs[-1], flush=True)
    result = {
        "scoring": runs,
        "generating": generated(50),
        "evaluators": SPECS,
        "versions": versions(),
        "commit": commit(),
    }
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    answered(main)

"""What a run of very many pictures takes beside making them: seconds and peak memory of each step.

    python -m benchmarks.million [--out benchmarks/results/million.json] [--jobs 10000 100000]

A maker without a model stands in for pictures: done rows as a run writes them, and small files.
Each step runs in a process of its own, so that its peak is its own: planning; resuming at 90 % (to
the point where the model would be loaded); scoring what is scored already, one shard of eight;
reporting. On a machine that does other work too, read the CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.asked import answered, whole

SEEDS = 16
VARIANTS = ("attend-and-excite", "syngen", "safe-latent-diffusion")
SHARE = 0.9
_WORDS = ("cat", "dog", "frog", "car", "crown", "bird", "lion", "clock", "apple", "chair")
_COLOURS = ("red", "blue", "green", "yellow", "white", "black", "purple", "orange", "pink", "brown")


def suite(path: Path, count: int) -> None:
    """So many prompts, no two alike."""
    items = []
    for number in range(count):
        one, two, three, four = (number // 10**place % 10 for place in range(4))
        first, second = f"{_COLOURS[one]} {_WORDS[two]}", f"{_COLOURS[three]} {_WORDS[four]}"
        prompt = f"a {first} and a {second}, picture {number}"
        items.append({"id": f"i{number:06d}", "prompt": prompt})
    head = {"name": "many", "version": "1", "source": "benchmark", "licence": "none"}
    path.write_text(json.dumps({**head, "items": items}))


def plan(folder: Path, jobs: int) -> None:
    """The experiment of that many jobs."""
    from adhere.eval.run import experiment, manifest
    from adhere.eval.run.folder import Folder

    prompts = -(-jobs // (SEEDS * (1 + len(VARIANTS))))
    if not (folder / "many.json").is_file():
        suite(folder / "many.json", prompts)
    data = {
        "model": "many", "suites": [str(folder / "many.json")], "seeds": SEEDS,
        "variants": list(VARIANTS), "evaluators": ["cost"],
    }  # fmt: skip
    Folder(folder / "run").plan(manifest.plan(experiment.from_mapping(data), "any"))


def pretend(folder: Path, share: float) -> None:
    """Pictures and rows as a run in eight shards leaves them, of a share of all jobs."""
    from adhere.eval.files import lines
    from adhere.eval.run import ledger, provenance
    from adhere.eval.run.folder import Folder

    run = Folder(folder / "run")
    made = {**provenance.made_now(), "revision": None}
    data = b"\x89PNG a picture's bytes"
    (folder / "run" / "done").mkdir(exist_ok=True)
    logs = [(folder / "run" / "done" / f"{n}-of-8.jsonl").open("wb") for n in range(1, 9)]
    last = int(share * run.manifest.job_count)
    for number, job in enumerate(run.manifest.jobs()):
        if number >= last:
            break
        path = folder / "run" / run.image(job)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        row = ledger.row(
            job, ledger.DONE, sha256=f"{number:064x}", bytes=len(data), seconds=1.25, batch=4,
            peak_mib=2048.0, device="none", made=made,
            settings={"steps": 50, "guidance_scale": 7.5, "width": 512, "height": 512},
            report={"passes": 50, "losses": [0.5, 0.25, 0.125]},
        )  # fmt: skip
        logs[number % 8].write(lines([row]))
    for log in logs:
        log.close()


def score_as_if(folder: Path) -> None:
    """The rows that scoring with `cost` would leave."""
    from adhere.eval.evaluators import table as evaluators
    from adhere.eval.files import lines
    from adhere.eval.run.folder import Folder
    from adhere.eval.scores import blocks, stored
    from adhere.eval.scores.session import NOT_MADE

    run, recipe = Folder(folder / "run"), evaluators.evaluator("cost")
    where = stored.use(run.place, stored.rows_of(recipe), "none")
    known = run.ledger()
    for block in blocks.blocks(run.manifest):
        at = known.find([entry.job for entry in block.entries])
        rows = [
            {"key": entry.key, "picture": known.checksum(int(row)) or NOT_MADE,
             "values": {"seconds": 1.25, "passes": 50.0, "peak_mib": 2048.0}}
            for entry, row in zip(block.entries, at, strict=True)
        ]  # fmt: skip
        run.place.write(f"{where}/{block.name}.jsonl", lines(rows))


class Reached(Exception):
    """The point where the model would be loaded."""


def resume(folder: Path) -> None:
    """To the point where the model would be loaded, in one process."""
    from adhere.eval.run import generate
    from adhere.eval.run.folder import Folder

    def load(*_: Any) -> Any:
        raise Reached

    try:
        generate.generate(Folder(folder / "run"), load=load)
    except Reached:
        return
    raise RuntimeError("there was nothing left to make")


def rescore(folder: Path) -> None:
    """One shard of eight of what is scored already."""
    from adhere.eval.evaluators import table as evaluators
    from adhere.eval.run.folder import Folder
    from adhere.eval.run.shards import Shard
    from adhere.eval.scores import scoring

    found = scoring.score(Folder(folder / "run"), [evaluators.evaluator("cost")], Shard(3, 8))
    if found.scored or found.bad:
        raise RuntimeError(f"scored {found.scored} again, {len(found.bad)} bad")


def report(folder: Path) -> None:
    """The whole report, with its page of up to 100,000 pairs."""
    from adhere.eval.evaluators import table as evaluators
    from adhere.eval.report import report as reports
    from adhere.eval.run.folder import Folder

    reports.report(Folder(folder / "run"), [evaluators.evaluator("cost")], {}, pairs=0)


def measured(work: Callable[..., None], arguments: tuple[Any, ...], queue: Any) -> None:
    """Seconds and peak memory of a step, in this process alone."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, busy = time.perf_counter(), time.process_time()
    work(*arguments)
    queue.put(
        {
            "seconds": round(time.perf_counter() - started, 1),
            "cpu_seconds": round(time.process_time() - busy, 1),
            "before_mib": round(before / 1024),
            "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
    )


def alone(work: Callable[..., None], *arguments: Any) -> dict[str, Any]:
    """A step in a process of its own, forked from one that has loaded what every step needs."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=measured, args=(work, arguments, queue))
    child.start()
    found: dict[str, Any] = queue.get(timeout=7200)
    child.join()
    print(work.__name__, found, flush=True)
    return found


def sizes(run: Path) -> dict[str, Any]:
    """What lies where."""
    folders = [sum(1 for _ in folder.iterdir()) for folder in (run / "images").iterdir()]
    return {
        "manifest_mib": round((run / "manifest.jsonl").stat().st_size / 2**20, 1),
        "files_in_the_fullest_folder": max(folders),
        "page_mib": round((run / "report.html").stat().st_size / 2**20, 1),
    }


def steps(jobs: int) -> dict[str, Any]:
    """All steps at one size."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        found: dict[str, Any] = {"jobs": jobs, "plan": alone(plan, folder, jobs)}
        alone(pretend, folder, SHARE)
        found["resume_at_90_percent"] = alone(resume, folder)
        alone(score_as_if, folder)
        found["score_a_shard_of_8_again"] = alone(rescore, folder)
        found["report"] = alone(report, folder)
        return {**found, **sizes(folder / "run")}


def main() -> None:
    """Measure, print, and write JSON if asked."""
    import torch

    from adhere import plugins
    from adhere.eval.report import report as reports
    from adhere.eval.report.about import commit
    from adhere.eval.run.provenance import versions
    from adhere.eval.scores import scoring

    # What every step loads is no part of its seconds.
    torch.set_num_threads(1)
    plugins.available()
    print(f"loaded {reports.__name__} and {scoring.__name__}", flush=True)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--jobs", type=whole, nargs="+", default=[10_000, 100_000, 1_000_000])
    options = parser.parse_args()
    runs = []
    for jobs in options.jobs:
        runs.append(steps(jobs))
        result = {"runs": runs, "versions": versions(), "commit": commit()}
        if options.out:
            options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    answered(main)

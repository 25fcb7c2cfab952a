"""The rows: made prompt by prompt, in any number of processes, and kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import takewhile
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import torch

from adhere.eval.run.shards import Shard
from adhere.pipelines.toybox import Judge
from adhere.pipelines.toybox.card.suites import two_coloured
from adhere.pipelines.toybox.world.captions import caption
from adhere.pipelines.toybox.world.world import sample_scene
from benchmarks import record
from benchmarks.curves.variants import CAPTIONS, PAIRS, VARIANTS, Counted, Make, Toybox

SEED = 2_060_000
"""Of the first prompt's first noise; the prompts are drawn from it, too."""
JUDGED = ("fully_right", "all_present")
FIRST = {PAIRS: 22, CAPTIONS: 0}
"""Numbers of the first prompts: those before were looked at with an earlier autopilot."""


def prompts(suite: str, count: int) -> list[tuple[int, str]]:
    """Numbered."""
    rng = Random(SEED)
    first = FIRST[suite]
    drawn = [
        caption(sample_scene(rng), rng) if suite == CAPTIONS else two_coloured(rng)
        for _ in range(first + count)
    ]
    return list(enumerate(drawn))[first:]


@cache
def judge() -> Judge:
    return Judge.load()


def row(pipe: Counted, make: Make, number: int, prompt: str) -> dict[str, Any]:
    image, passes = pipe.counted(make, prompt, SEED + number)
    outcome = judge()([image])[0].against(prompt)
    return {
        "prompt": prompt,
        "number": number,
        **{column: getattr(outcome, column) for column in JUDGED},
        "passes": passes,
    }


def run(
    suite: str,
    names: Sequence[str],
    count: int,
    runs: Path,
    toybox: Toybox,
    device: str = "cpu",
    shard: Shard = Shard(),
) -> None:
    """Make what is missing, prompt by prompt, so that every stop leaves whole comparisons."""
    torch.set_num_threads(max(1, torch.get_num_threads() // shard.count))
    pipe = Counted(toybox, device)
    done = {name: {one["number"] for one in rows(runs, suite, name)} for name in names}
    (runs / suite).mkdir(parents=True, exist_ok=True)
    own = [one for place, one in enumerate(prompts(suite, count)) if shard.takes(place)]
    for place, (number, prompt) in enumerate(own, 1):
        for name in names:
            if number not in done[name]:
                found = row(pipe, VARIANTS[suite][name], number, prompt)
                # One write of one line: processes that append do not cut into each other's.
                with (runs / suite / f"{name}.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
        print(f"{place} of {len(own)} prompts of {shard}", flush=True)


def in_processes(processes: int, work: Callable[..., None]) -> None:
    """A run, in several processes: each has its part of the prompts."""
    if processes == 1:
        work()
        return
    shards = [Shard(k, processes) for k in range(1, processes + 1)]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for done in [pool.submit(work, shard=one) for one in shards]:
            done.result()


def begun(runs: Path, device: str, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the rows of a folder are made on: said once, since those of one are of one device."""
    path = runs / "made.json"
    if not path.is_file():
        runs.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(about or record.about(device)), "utf-8")
    made: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if made["device"] != device:
        raise SystemExit(
            f"the rows in {runs} are made on {made['device']}, and --device {device} would mix "
            "them; give another --runs"
        )
    return made


def rows(runs: Path, suite: str, name: str) -> Iterator[dict[str, Any]]:
    """In the order of their prompts, whichever process was first."""
    path = runs / suite / f"{name}.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    found = sorted(map(json.loads, lines), key=lambda one: one["number"])
    return (one for one in found if one["number"] >= FIRST[suite])


def whole(runs: Path, suite: str, name: str) -> list[dict[str, Any]]:
    """The rows before the first prompt that is missing yet."""
    placed = enumerate(rows(runs, suite, name), FIRST[suite])
    return [one for _, one in takewhile(lambda each: each[0] == each[1]["number"], placed)]


def packed(runs: Path, suite: str) -> dict[str, dict[str, str]]:
    """Every row, small enough to be kept with the results: the prompts are the seed's."""
    found = {}
    for name in VARIANTS[suite]:
        if own := whole(runs, suite, name):
            found[name] = {column: "".join("01"[one[column]] for one in own) for column in JUDGED}
            found[name]["passes"] = " ".join(str(one["passes"]) for one in own)
    return found


def restore(runs: Path, result: Path) -> None:
    """Lay a report's rows where there are none yet."""
    if not result.is_file():
        raise SystemExit(f"there is no report yet in {result}: nothing to go on from")
    kept = json.loads(result.read_text("utf-8"))
    begun(runs, kept["made"]["device"], kept["made"])
    for suite, found in kept["results"]["suites"].items():
        (runs / suite).mkdir(parents=True, exist_ok=True)
        for name, own in found["rows"].items():
            path = runs / suite / f"{name}.jsonl"
            if path.exists():
                continue
            passes = own["passes"].split()
            lines = [
                {"prompt": prompt, "number": number}
                | {column: own[column][k] == "1" for column in JUDGED}
                | {"passes": int(passes[k])}
                for k, (number, prompt) in enumerate(prompts(suite, len(passes)))
            ]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
            print(f"{suite}, {name}: {len(lines)} rows")

"""What guidance costs that is attached and has nothing to do: no plugin, or one that is off.

    python -m benchmarks.attached            # writes benchmarks/results/attached.json

Plain and attached calls in turns, in one process on one thread; the figures are ratios of the least
processor seconds of each, which other work on the machine can only raise. `plain again` is the same
call as `plain`, measured as the others are: what differs from 1 there is the clock's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from adhere.plugins import PLUGINS
from benchmarks import record, runs
from benchmarks.asked import answered, whole


def contenders(asked: runs.Asked) -> dict[str, Callable[[], Any]]:
    kind: Any = PLUGINS["attend-and-excite"]
    off = kind(step_size=0.0)
    return {
        "plain": asked.plain,
        "plain again": asked.plain,
        "attached, no plugin": lambda: asked.guided(),
        "attached, a plugin that is off": lambda: asked.guided(off),
    }


def least(asked: runs.Asked, rounds: int) -> dict[str, float]:
    """Processor seconds of each contender's cheapest call."""
    timed = contenders(asked)
    asked.plain()  # the first call of a process pays for what all share
    found = dict.fromkeys(timed, float("inf"))
    for _ in range(rounds):
        for name, run in timed.items():
            start = time.process_time()
            run()
            found[name] = min(found[name], time.process_time() - start)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="toybox")
    parser.add_argument("--steps", type=whole, default=10)
    parser.add_argument("--rounds", type=whole, default=10)
    parser.add_argument("--out", type=Path, default=record.RESULTS / "attached.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    asked = runs.Asked(runs.pipeline(args.model), args.model, 1, args.steps)
    seconds = least(asked, args.rounds)
    results = {
        name: {"seconds": round(one, 4), "of_plain": round(one / seconds["plain"], 4)}
        for name, one in seconds.items()
    }
    how = {"device": "cpu", "model": args.model, "steps": args.steps, "rounds": args.rounds}
    record.write(args.out, how, results)


if __name__ == "__main__":
    answered(main)

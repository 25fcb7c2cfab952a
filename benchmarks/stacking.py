"""What all energies together cost, beside the dearest of them alone: they share one extra pass.

    python -m benchmarks.stacking            # writes benchmarks/results/stacking.json

Floating point operations and the better of `--repeats` processor times, on one thread. Every
plugin whose guide states an energy takes part, with one look a step: without refinements and
without searching for noise, whose extra passes nobody can share.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from adhere.plugins import PLUGINS
from benchmarks import record, runs
from benchmarks.asked import answered, whole

ENERGIES: dict[str, dict[str, Any]] = {
    "attend-and-excite": {"refinements": 0},
    "boxdiff": {"refinements": 0},
    "conform": {"refinements": 0},
    "ebama": {},
    "initno": {"rounds": 0, "last_passes": 0, "refinements": 0},
    "layout-guidance": {"repeats": 1},
    "syngen": {},
    "zestguide": {},
}
"""The plugins, and what makes them look once a step."""


def flops(asked: runs.Asked, plugins: Sequence[Any]) -> float:
    """Of one call."""
    counter = FlopCounterMode(display=False)
    with counter:
        asked.guided(*plugins)
    return float(counter.get_total_flops())


def compared(cost: Callable[[Sequence[Any]], float]) -> dict[str, Any]:
    """The cost of each energy and of all as a share of the plain call's, and all over the dearest.

    Args:
        cost: of a call with some plugins.
    """
    made = {name: runs.quick(PLUGINS[name], **values) for name, values in ENERGIES.items()}
    plain = cost([])
    alone = {name: cost([plugin]) / plain for name, plugin in made.items()}
    every = cost(list(made.values())) / plain
    dearest = max(alone, key=lambda name: alone[name])
    return {
        "alone_of_plain": {name: round(share, 3) for name, share in alone.items()},
        "all_of_plain": round(every, 3),
        "dearest": dearest,
        "all_over_dearest": round(every / alone[dearest], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", nargs="*", default=["toybox", "medium"])
    parser.add_argument("--batches", type=whole, nargs="*", default=[1, 8])
    parser.add_argument("--steps", type=whole, default=10)
    parser.add_argument("--repeats", type=whole, default=3)
    parser.add_argument("--out", default=str(record.RESULTS / "stacking.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for model in args.models:
        pipe = runs.pipeline(model)
        for batch in args.batches:
            asked = runs.Asked(pipe, model, batch, args.steps)

            def seconds(plugins: Sequence[Any], asked: runs.Asked = asked) -> float:
                calls = range(args.repeats)
                return min(runs.once(lambda: asked.guided(*plugins), "cpu")[0] for _ in calls)

            results[f"{model}, batch of {batch}"] = {
                "flops": compared(lambda plugins, asked=asked: flops(asked, plugins)),
                "processor_seconds": compared(seconds),
            }
            record.write(args.out, {"device": "cpu", "steps": args.steps}, results)


if __name__ == "__main__":
    answered(main)

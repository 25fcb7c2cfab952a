"""Time and memory of every plugin beside the plain pipeline and diffusers' own two, on a CPU.

    python -m benchmarks.overhead --model toybox --steps 10
    python -m benchmarks.overhead --model medium --steps 4

Writes benchmarks/results/overhead_<model>.json. All contenders take turns in one process on the
same weights. Seconds are processor time of one thread, so that the ratios hold on a busy machine;
memory is the resident size's peak above what the process held before the call.
"""

from __future__ import annotations

import argparse

import torch

from adhere.plugins import PLUGINS
from benchmarks import record, runs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="toybox", choices=["toybox", "medium", "tiny"])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plugins", nargs="*", default=None, help="all in the table if left out")
    parser.add_argument("--out", default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    pipe = runs.pipeline(args.model)
    plugins = list(PLUGINS) if args.plugins is None else args.plugins
    results = {}
    for batch in args.batches:
        asked = runs.Asked(pipe, args.model, batch, args.steps)
        found = runs.measure(asked, plugins, args.repeats)
        results[f"batch of {batch}"] = {"figures": runs.speedups(found), "contenders": found}
    how = {"device": "cpu", "model": args.model, "steps": args.steps, "repeats": args.repeats}
    out = args.out or record.RESULTS / f"overhead_{args.model}.json"
    record.write(out, how, results)


if __name__ == "__main__":
    main()

"""Time and memory on a GPU, with the SD 1.5 and SDXL configurations in half precision.

    python -m benchmarks.cuda                          # random weights, 50 steps, half guided
    python -m benchmarks.cuda --device cpu --tiny      # the same script on a small model, to try it

Writes benchmarks/results/cuda_<model>.json. Weights are random: time and memory do not depend on
them, refinement does, so it is left out of the comparison with diffusers' own pipelines.
"""

from __future__ import annotations

import argparse

import torch

from benchmarks import record, runs
from benchmarks.asked import answered, whole

BATCHES = {"sd15": [1, 8], "sdxl": [1, 4], "tiny": [1, 2], "tiny-sdxl": [1, 2]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default=None, help="float16 on CUDA, float32 on a CPU")
    parser.add_argument("--models", nargs="*", default=None)
    parser.add_argument("--tiny", action="store_true", help="small models, few steps")
    parser.add_argument("--steps", type=whole, default=None)
    parser.add_argument("--repeats", type=whole, default=None)
    parser.add_argument("--plugins", nargs="*", default=["safe-latent-diffusion", "syngen", "sega"])
    parser.add_argument("--out", default=str(record.RESULTS), help="folder")
    args = parser.parse_args()
    name = args.dtype or ("float16" if args.device.startswith("cuda") else "float32")
    steps = args.steps or (4 if args.tiny else 50)
    repeats = args.repeats or (1 if args.tiny else 3)
    for model in args.models or (["tiny", "tiny-sdxl"] if args.tiny else ["sd15", "sdxl"]):
        pipe = runs.pipeline(model, args.device, getattr(torch, name))
        results = {}
        for batch in BATCHES[model]:
            found = runs.measure(runs.Asked(pipe, model, batch, steps), args.plugins, repeats)
            results[f"batch of {batch}"] = {"figures": runs.speedups(found), "contenders": found}
        how = {"device": args.device, "dtype": name, "model": model, "steps": steps}
        record.write(f"{args.out}/cuda_{model}.json", how | {"repeats": repeats}, results)
        del pipe


if __name__ == "__main__":
    answered(main)

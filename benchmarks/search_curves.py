"""What looking at pictures is worth: fully right against passes a picture, on the toyboxes.

    python -m benchmarks.search_curves run [--suite pairs] [--prompts 200] [--only NAME ...]
    python -m benchmarks.search_curves report       the tables, the figure, and every row
    python -m benchmarks.search_curves restore      rows of an earlier report, to go on from

`--model` is `toybox` (as if left out), `toybox-sd3` or a toybox's folder, each with rows and
results of its own; `--processes 16` shares the prompts out, `--device cuda` takes a card. A run is
resumable, on the device that it began on and in any number of processes. Two suites, of seeds that
tune nothing, each prompt its own noises: `pairs` of coloured things, which the model mostly fails
at, and `captions` of its world, half of which it gets right by itself. What steers is the toybox's
CLIP, what scores its exact judge: nobody marks their own work. *best of N* finishes N pictures and
keeps the one that CLIP likes best; *early dropping* (`best-of-n`) foresees them, eight or as many
as the passes of four pictures pay; *ended* are the candidates of `adhere.search`, all but one at
their look, by the verifier, by attention or by both, at the passes of four or eight pictures;
*steered* are four particles of `fk-steering`, the best kept; ZestGuide places what the prompt names
side by side, as `adhere.composed` lays it out; the *autopilot* has the passes of eight plain
pictures and stops at a CLIP score of `ENOUGH`, or, to say what a better verifier would be worth, at
what the judge takes for right; the *thrifty* one has the passes of a picture and two thirds: a look
at the plain one, and one guided picture where it promises little. `ENOUGH` is from 120 pictures of
other seeds: two in three with such a score were right, one in ten of the others; what to try, and
`CONTENT` of the thrifty one, are from 500 pictures of other seeds again; all of the UNet toybox,
and the transformer is flown by the same. Passes are the denoiser's, with and without the prompt,
for the whole of what was made.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path

from adhere.pipelines.toybox import TOYBOXES
from benchmarks.asked import answered, whole
from benchmarks.curves.report import write
from benchmarks.curves.rows import begun, in_processes, restore, run
from benchmarks.curves.variants import PAIRS, VARIANTS, Toybox

RUNS = Path("runs/search-curves")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("command", choices=["run", "report", "restore"])
    parser.add_argument("--suite", choices=list(VARIANTS), default=PAIRS)
    parser.add_argument("--prompts", type=whole, default=200)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="variants; all if left out")
    parser.add_argument("--runs", type=Path, default=RUNS, help="a folder of each model's rows")
    parser.add_argument("--model", default="toybox", help=f"{', '.join(TOYBOXES)}, or a folder")
    parser.add_argument("--device", default="cpu", help="cuda, say")
    parser.add_argument("--processes", type=whole, default=1)
    asked = parser.parse_args()
    names = asked.only or list(VARIANTS[asked.suite])
    if unknown := set(names) - set(VARIANTS[asked.suite]):
        parser.error(f"no variant is called {min(unknown)!r}: {', '.join(VARIANTS[asked.suite])}")
    if asked.processes < 1:
        parser.error(f"--processes {asked.processes}: give 1 or more")
    toybox = Toybox.of(asked.model)
    runs = asked.runs / toybox.name
    if asked.command == "run":
        if asked.device == "cpu":  # verifiers take the best device that they see
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        begun(runs, asked.device)
        work = partial(run, asked.suite, names, asked.prompts, runs, toybox, asked.device)
        in_processes(asked.processes, work)
    elif asked.command == "restore":
        restore(runs, toybox.results(runs)[0])
    else:
        write(runs, toybox)


if __name__ == "__main__":
    answered(main)

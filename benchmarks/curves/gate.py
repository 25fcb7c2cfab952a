"""What says early that a plain picture will fail: its preview's CLIP score, or its attention.

    python -m benchmarks.curves.gate [--model toybox] [--pictures 200]

Coloured pairs, a prompt and a noise each, of seeds that judge nothing. `clip` scores the run's own
prediction; attention is read by `effects/foretell.py`'s presence and binding, averaged over the
layers of one grid, and scored by the sum of both ranks. Each is held against *fully right* by its
AUC, and by what it saves where nine in ten of the right pictures go on (the threshold is of the
same pictures, so it flatters both alike). Rows are kept in `--runs`, and gone on with.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

import adhere
from adhere.guides.guide import Guide, Step
from adhere.guides.run import Run
from adhere.guides.selection import Candidates
from adhere.pipelines.toybox import Judge, load_toybox
from adhere.pipelines.toybox.card.recording import draw
from adhere.pipelines.toybox.card.suites import two_coloured
from adhere.pipelines.toybox.model.folder import DEFAULTS
from adhere.verifiers import verifier
from benchmarks import record
from benchmarks.asked import answered, whole
from benchmarks.curves.variants import VERIFIER
from benchmarks.effects.foretell import area, nearer_colour, weaker_peak

AT = (0.2, 0.36, 0.52)
SEED = 93_000
BATCH = 10
GOING_ON = 0.9
"""Of the right pictures."""
DRAWS = 2000
Row = dict[str, Any]
Column = NDArray[np.float64]


class Looks(Guide):
    """Sees what the run predicts at some of its steps; the plugin is its own guide."""

    name: ClassVar[str] = "looks"

    def __init__(self) -> None:
        self.seen: dict[int, list[Any]] = {}

    def guide(self, run: Run) -> Guide:
        return self

    def selects(self, step: Step) -> bool:
        return step.looked_at(*AT)

    def select(self, step: Step, candidates: Candidates) -> None:
        self.seen[step.index] = candidates.pictures()


def made(pipe: Any, first: int) -> list[Row]:
    """The rows of a batch of pictures, each drawn twice: no processor shows both."""
    prompts = [two_coloured(Random(f"{SEED} gate {first + k}")) for k in range(BATCH)]
    seeds, usual, looks = range(SEED + first, SEED + first + BATCH), _usual(pipe), Looks()
    _, maps = draw(pipe, prompts, seeds)
    with adhere.Guidance(looks).attach(pipe):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        images = pipe(prompts, generator=generators, **usual).images
    scores = {step: verifier(VERIFIER)(seen, prompts) for step, seen in looks.seen.items()}
    verdicts = Judge.load()(images)
    return [
        {
            "prompt": prompt,
            "right": bool(verdicts[k].against(prompt).fully_right),
            "clip": {str(step): float(each[k]) for step, each in scores.items()},
            "peak": {
                n: weaker_peak(m[k], prompt, pipe.tokenizer).tolist() for n, m in maps.items()
            },
            "bind": {
                n: nearer_colour(m[k], prompt, pipe.tokenizer).tolist() for n, m in maps.items()
            },
            "grid": {name: each.shape[2] for name, each in maps.items()},
        }
        for k, prompt in enumerate(prompts)
    ]


def _usual(pipe: Any) -> dict[str, Any]:
    usual = DEFAULTS[type(pipe).__name__]
    return {"num_inference_steps": usual.steps, "guidance_scale": usual.guidance_scale}


def gates(rows: Sequence[Row], step: str) -> dict[str, Column]:
    """What each gate says of each picture at a step: more is better."""
    grids: dict[int, list[str]] = {}
    for name, cells in rows[0]["grid"].items():
        grids.setdefault(cells, []).append(name)

    def ranks(what: str, names: Sequence[str]) -> Column:
        means = [np.mean([row[what][name][int(step)] for name in names]) for row in rows]
        return np.argsort(np.argsort(means)) / len(rows)

    found = {"clip": np.array([row["clip"][step] for row in rows])}
    for cells, names in sorted(grids.items()):
        side = round(cells**0.5)
        found[f"attention {side}x{side}"] = ranks("peak", names) + ranks("bind", names)
    return found


def told(rows: Sequence[Row], steps: int) -> dict[str, dict[str, Any]]:
    """By step and gate: AUC, how much more than CLIP's (bootstrap over pictures), what it saves."""
    right, found = np.array([row["right"] for row in rows]), dict[str, dict[str, Any]]()
    for step in rows[0]["clip"]:
        rng, says = np.random.default_rng(0), gates(rows, step)
        draws = rng.integers(0, len(rows), (DRAWS, len(rows)))
        draws = draws[right[draws].any(1) & ~right[draws].all(1)]
        auc = {
            name: np.array([area(each[some].tolist(), right[some].tolist())[0] for some in draws])
            for name, each in says.items()
        }
        for name, each in says.items():
            ended = each < np.quantile(each[right], 1 - GOING_ON)
            more = np.percentile(auc[name] - auc["clip"], [2.5, 97.5])
            found[f"{name} at step {step}"] = {
                "auc": [round(one, 3) for one in area(each.tolist(), right.tolist())],
                "more_than_clip": None
                if name == "clip"
                else [round(float(one), 3) for one in more],
                "wrong_ended": round(float(ended[~right].mean()), 3),
                "saved": round(float(ended.mean() * (1 - (int(step) + 1) / steps)), 3),
            }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="toybox")
    parser.add_argument("--pictures", type=whole, default=200)
    parser.add_argument("--runs", type=Path, default=Path("runs/gate"))
    asked = parser.parse_args()
    path = asked.runs / f"{asked.model}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in path.open()] if path.is_file() else []
    pipe = load_toybox(name=asked.model)
    while len(rows) < asked.pictures:
        rows += made(pipe, len(rows))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        print(f"{len(rows)} of {asked.pictures}", flush=True)
    how = {
        "device": "cpu",
        "model": asked.model,
        "pictures": len(rows),
        "right": sum(r["right"] for r in rows),
    }
    results = told(rows, _usual(pipe)["num_inference_steps"])
    record.write(record.RESULTS / f"gate_{asked.model}.json", how, results)


if __name__ == "__main__":
    answered(main)

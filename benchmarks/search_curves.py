"""What looking at pictures is worth: fully right against passes a picture, on the toybox.

    python -m benchmarks.search_curves run [--prompts 200] [--only NAME ...]     resumable
    python -m benchmarks.search_curves report

Coloured pairs, each prompt its own noises, of seeds that tune nothing. What steers is the toybox's
CLIP, what scores its exact judge: nobody marks their own work. *best of N* finishes N pictures and
keeps the one that CLIP likes best; *early dropping* (`best-of-n`) foresees them; *search* looks at
the real run and finishes a quarter; *steered* are four particles of `fk-steering`, the best kept.
Passes are the denoiser's, with and without the prompt, counted for the whole of what was made.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image

import adhere
from adhere.pipelines.families import family_of
from adhere.pipelines.search.autopilot import Rows
from adhere.pipelines.search.search import APART
from adhere.pipelines.toybox import Judge, load_toybox
from adhere.pipelines.toybox.card.figures import share
from adhere.pipelines.toybox.card.suites import two_coloured
from adhere.verifiers import verifier
from benchmarks import record

RUNS = Path("runs/search-curves")
RESULT = Path(__file__).parent / "results" / "search_curves.json"
SEED = 2_060_000
"""Of the first prompt's first noise; the prompts are drawn from it, too."""
STEPS, SCALE, VERIFIER = 25, 4.0, "clip-score"


@dataclass(frozen=True)
class Made:
    """One picture that was kept, and the denoiser's passes for all that was made."""

    image: Image.Image
    passes: int


class Counted:
    """A pipeline whose passes are counted; one that a look ends before it is made is, too."""

    def __init__(self, model: str | None) -> None:
        self.pipe = load_toybox() if model is None else load_toybox(folder=Path(model))
        self.pipe.set_progress_bar_config(disable=True)

    def __call__(
        self, prompt: str, seeds: Sequence[int], *plugins: Any, each: bool = True
    ) -> list[Image.Image]:
        """Pictures of some seeds: calls' prompts, or (`each` false) one prompt's pictures."""
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        asked = {"prompt": [prompt] * len(seeds)} if each else {
            "prompt": prompt, "num_images_per_prompt": len(seeds)
        }  # fmt: skip
        with adhere.Guidance(*plugins).attach(self.pipe):
            images: list[Image.Image] = self.pipe(
                **asked, generator=generators, num_inference_steps=STEPS, guidance_scale=SCALE
            ).images
        return images

    def counted(self, make: Callable[[], Image.Image]) -> Made:
        with Rows(family_of(self.pipe)) as counted:
            image = make()
        return Made(image, counted.rows)


def liked_best(images: Sequence[Image.Image], prompt: str) -> Image.Image:
    scores = list(verifier(VERIFIER)(images, [prompt] * len(images)))
    return images[scores.index(max(scores))]


def best_of(count: int, *plugins: Any) -> Callable[[Counted, str, int], Image.Image]:
    def make(pipe: Counted, prompt: str, seed: int) -> Image.Image:
        return liked_best(pipe(prompt, [seed + k * APART for k in range(count)], *plugins), prompt)

    return make


def foreseen(count: int, *plugins: Any) -> Callable[[Counted, str, int], Image.Image]:
    look = adhere.BestOfN(VERIFIER, count, together=count)

    def make(pipe: Counted, prompt: str, seed: int) -> Image.Image:
        return pipe(prompt, [seed], look, *plugins)[0]

    return make


def searched(count: int, *plugins: Any) -> Callable[[Counted, str, int], Image.Image]:
    def make(pipe: Counted, prompt: str, seed: int) -> Image.Image:
        return adhere.search(
            pipe.pipe, prompt, n=count, verifier=VERIFIER, seed=seed, together=count,
            guidance=adhere.Guidance(*plugins), num_inference_steps=STEPS, guidance_scale=SCALE,
        ).pictures[0]  # fmt: skip

    return make


def steered(count: int, *plugins: Any) -> Callable[[Counted, str, int], Image.Image]:
    steering = adhere.FkSteering(VERIFIER, strength=20.0)

    def make(pipe: Counted, prompt: str, seed: int) -> Image.Image:
        seeds = [seed + k * APART for k in range(count)]
        return liked_best(pipe(prompt, seeds, steering, *plugins, each=False), prompt)

    return make


VARIANTS: dict[str, Callable[[Counted, str, int], Image.Image]] = {
    "plain": best_of(1),
    "best of 2": best_of(2),
    "best of 4": best_of(4),
    "best of 8": best_of(8),
    "early dropping, 4": foreseen(4),
    "early dropping, 8": foreseen(8),
    "early dropping, 16": foreseen(16),
    "search, 8": searched(8),
    "steered, 4": steered(4),
    "syngen": best_of(1, adhere.SynGen()),
    "syngen, early dropping, 8": foreseen(8, adhere.SynGen()),
    "syngen, search, 8": searched(8, adhere.SynGen()),
}


def prompts(count: int) -> list[str]:
    rng = Random(SEED)
    return [two_coloured(rng) for _ in range(count)]


@cache
def judge() -> Judge:
    return Judge.load()


def row(pipe: Counted, name: str, number: int, prompt: str) -> dict[str, Any]:
    made = pipe.counted(lambda: VARIANTS[name](pipe, prompt, SEED + number))
    outcome = judge()([made.image])[0].against(prompt)
    return {
        "prompt": prompt,
        "number": number,
        "fully_right": outcome.fully_right,
        "all_present": outcome.all_present,
        "passes": made.passes,
    }


def run(names: Sequence[str], count: int, runs: Path, model: str | None) -> None:
    """Make what is missing, prompt by prompt, so that every stop leaves whole comparisons."""
    pipe = Counted(model)
    runs.mkdir(parents=True, exist_ok=True)
    done = {name: len(list(rows(runs, name))) for name in names}
    for number, prompt in enumerate(prompts(count)):
        for name in names:
            if number >= done[name]:
                found = row(pipe, name, number, prompt)
                with (runs / f"{name}.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
        print(f"{number + 1} of {count} prompts", flush=True)


def rows(runs: Path, name: str) -> Iterator[dict[str, Any]]:
    path = runs / f"{name}.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    return (json.loads(line) for line in lines)


def report(runs: Path) -> dict[str, dict[str, Any]]:
    """By variant its share and mean passes, on the prompts that all variants have."""
    found = {name: list(rows(runs, name)) for name in VARIANTS}
    found = {name: own for name, own in found.items() if own}
    count = min(map(len, found.values()))
    curves = {}
    for name, own in found.items():
        curves[name] = {
            "fully_right": share([one["fully_right"] for one in own[:count]]),
            "passes": sum(one["passes"] for one in own[:count]) / count,
        }
    return curves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("command", choices=["run", "report"])
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--model", help="a toybox folder other than the one that is shipped")
    asked = parser.parse_args()
    if asked.command == "run":
        run(asked.only, asked.prompts, asked.runs, asked.model)
        return
    how = {"device": "cpu", "verifier": VERIFIER, "steps": STEPS, "guidance_scale": SCALE}
    record.write(RESULT, how, report(asked.runs))


if __name__ == "__main__":
    main()

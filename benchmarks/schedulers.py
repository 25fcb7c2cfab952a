"""How far a method changes a picture with each scheduler, beside DDIM from the same noises.

    python -m benchmarks.schedulers              # writes benchmarks/results/schedulers.json
    python -m benchmarks.schedulers --images 2 --methods syngen --out try.json   # to try it

`effect` is the mean change of a pixel value (0 to 255) that a method makes; `of_reference` the same
over the reference's. `plain_apart` and `guided_apart` say how far the plain and the guided pictures
are from the reference's: where two solvers draw other plain pictures, they draw other guided ones.
A picture may tip over with one solver and not with another, so few images say little: with two of
them and ten steps DPM++ single-step had 0.60 of DDIM's effect, with six and twenty steps 0.95, and
one of the six made the difference (9 where DDIM has 39, from plain pictures 1.0 apart).
Attend-and-Excite, whose refinements go on until a word has its due, is the most tipping: with six
pictures it had 0.58 of DDIM's effect on Heun and 0.32 on KDPM2, with sixteen others 0.79 and 1.00
(paired, neither is a difference; one picture has six times the mean effect on all three).

Solvers that add noise in every step replace what an earlier move has done by what they draw, DDPM
and Euler-ancestral by the very same amount. So their reference is DDIM with eta = 1, which is DDPM;
the others' is DDIM. TCD, whose noise is `eta` too, is DDIM without it, bit for bit, at levels of
its own (`tests/pipelines/test_levels.py`); a record that was made before it was seen has it beside
eta = 1. LCM draws all noise anew in each step, so that only what
a move changes in the foretold picture is kept.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor

from adhere import Guidance
from adhere.plugins import PLUGINS
from benchmarks import record, runs
from benchmarks.asked import answered, whole

DETERMINISTIC = (
    "DDIMScheduler",
    "EulerDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "TCDScheduler",
)
NOISY = (
    "DDIMScheduler",
    "DDPMScheduler",
    "EulerAncestralDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "SASolverScheduler",
    "LCMScheduler",
)
METHODS = ("syngen", "attend-and-excite", "zestguide")


class Drawing:
    """The same prompts from the same noises, with any scheduler and method."""

    def __init__(self, images: int, steps: int, methods: Sequence[str]) -> None:
        self.methods = methods
        self.pipe, self.images, self.steps = runs.pipeline("toybox"), images, steps
        self.config = self.pipe.scheduler.config
        self.prompts = [runs.PROMPTS[k % 4] for k in range(images)]

    def __call__(self, scheduler: str, method: str | None, eta: float) -> Tensor:
        """Pictures as `Float[images 3 h w]`, 0 to 255."""
        kind = getattr(diffusers, scheduler)
        self.pipe.scheduler = kind.from_config(self.config, timestep_spacing="leading")
        call: dict[str, Any] = {
            "num_inference_steps": self.steps,
            "generator": [torch.Generator("cpu").manual_seed(k) for k in range(self.images)],
            "output_type": "pt",
            "eta": eta if scheduler == "DDIMScheduler" else 0.0,
        }
        plugins = [PLUGINS[method]()] if method else []
        layouts = [runs.layout(prompt) for prompt in self.prompts]
        with Guidance(*plugins).attach(self.pipe, layout=layouts):
            return 255 * self.pipe(self.prompts, **call).images.float()


def compared(draw: Drawing, names: tuple[str, ...], eta: float) -> dict[str, Any]:
    """Every scheduler beside the first of them."""
    drawn = {
        name: {method: draw(name, method, eta) for method in (None, *draw.methods)}
        for name in names
    }
    reference = drawn[names[0]]
    return {name: _figures(draw.methods, pictures, reference) for name, pictures in drawn.items()}


def _figures(
    methods: Sequence[str], pictures: dict[Any, Tensor], reference: dict[Any, Tensor]
) -> dict[str, Any]:
    found: dict[str, Any] = {"plain_apart": _apart(pictures[None], reference[None])}
    for method in methods:
        effect = _apart(pictures[method], pictures[None])
        found[method] = {
            "effect": effect,
            "of_reference": round(effect / _apart(reference[method], reference[None]), 3),
            "guided_apart": _apart(pictures[method], reference[method]),
        }
    return found


def _apart(one: Tensor, other: Tensor) -> float:
    return round(float((one - other).abs().mean()), 3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=whole, default=16)
    parser.add_argument("--steps", type=whole, default=20)
    parser.add_argument("--methods", nargs="*", default=METHODS, choices=sorted(PLUGINS))
    parser.add_argument("--threads", type=whole, default=1)
    parser.add_argument("--out", type=Path, default=record.RESULTS / "schedulers.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    draw = Drawing(args.images, args.steps, args.methods)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = {
            "deterministic, beside DDIM": compared(draw, DETERMINISTIC, eta=0.0),
            "noisy, beside DDIM with eta = 1": compared(draw, NOISY, eta=1.0),
        }
    how = {"device": "cpu", "model": "toybox", "images": args.images, "steps": args.steps}
    record.write(args.out, how, results)


if __name__ == "__main__":
    answered(main)

"""Floating point operations of plain and guided steps, on the meta device: no weights, no time.

    python -m benchmarks.flops_meta            # writes benchmarks/results/flops_meta.json

For each published configuration: one forward on one image (the unit), a plain step (two rows,
classifier-free guidance), the truncated pass of a guided step, the same with its backward, and a
whole run of 50 steps of which 25 are guided, as a multiple of the plain run. Refinement comes on
top, at one such pass and backward each.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from adhere.guides.maps import Read
from adhere.pipelines.families.family import Family
from adhere.pipelines.hooks.attending import Pass, StopForward
from adhere.pipelines.hooks.denoiser_call import Call
from adhere.pipelines.hooks.readout import reading
from benchmarks import models, record
from benchmarks.asked import answered


def count(run: Callable[[], Any]) -> int:
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return int(counter.get_total_flops())


class Case:
    """A UNet on the meta device with one call of it."""

    def __init__(self, name: str) -> None:
        with torch.device("meta"):
            self.unet = models.unet(name)
            self.call = models.call(name)
        self.unet.requires_grad_(False)
        self.grid = tuple(self.call["sample"].shape[-2:])
        self.family: Family = models.family(name, self.unet)

    def rows(self, count: int) -> dict[str, Any]:
        call = Call(self.call, 1)
        return dict(call.repeat_rows(slice(0, 1), count - 1).values) if count > 1 else self.call

    def forward(self, rows: int = 1) -> None:
        with torch.no_grad():
            self.unet(**self.rows(rows))

    def guided(self, energies: int = 1, backward: bool = True, whole: bool = False) -> None:
        """The pass of a guided step: stopped at the last layer read, or whole."""
        layers = self.family.wanted(Read("cross"))
        call = self.rows(1)
        leaf = call["sample"].detach().clone().requires_grad_(backward)
        sample = leaf * 1  # the counter follows modules by their inputs, which may not be leaves
        running = Pass(
            reader=self.family,
            grid=self.grid,
            rows=slice(0, 1),
            images=(0,),
            total=1,
            read=frozenset(layer.name for layer in layers),
            stop=not whole,
        )
        with (
            torch.set_grad_enabled(backward),
            reading(running, self.family.modules(), layers),
        ):
            with suppress(StopForward):
                self.unet(**{**call, "sample": sample})
            if backward:
                maps = [layer.mean() for layer in running.layers.values()]
                losses = [sum(one[..., k].sum() for one in maps) for k in range(energies)]
                torch.autograd.grad(sum(losses), [leaf])


def measure(name: str) -> dict[str, Any]:
    case = Case(name)
    forward = count(case.forward)
    plain = count(lambda: case.forward(2))
    stopped = count(lambda: case.guided(backward=False))
    one = count(lambda: case.guided())
    two = count(lambda: case.guided(energies=2))
    whole = count(lambda: case.guided(whole=True))
    return {
        "gigaflops": {
            "forward_of_one_row": round(forward / 1e9, 1),
            "plain_step": round(plain / 1e9, 1),
            "extra_pass": round(stopped / 1e9, 1),
            "extra_pass_and_backward": round(one / 1e9, 1),
        },
        "extra_pass_in_forwards": round(stopped / forward, 4),
        "extra_pass_and_backward_in_forwards": round(one / forward, 4),
        "without_the_early_stop_in_forwards": round(whole / forward, 4),
        "two_energies_over_one": round(two / one, 4),
        "run_of_50_steps_25_guided_over_plain": round((50 * plain + 25 * one) / (50 * plain), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", nargs="*", default=["sd15", "sd21-768", "sdxl"])
    parser.add_argument("--out", default=str(record.RESULTS / "flops_meta.json"))
    args = parser.parse_args()
    found = {name: measure(name) for name in args.models}
    record.write(args.out, {"device": "meta"}, found)


if __name__ == "__main__":
    answered(main)

"""How the small studies draw: every arm with the same steps and scale, from its seeds alone."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from adhere import Guidance
from adhere.pipelines.toybox import TOYBOXES
from adhere.pipelines.toybox.model.folder import DEFAULTS


@dataclass(frozen=True)
class Drawing:
    """A toybox, and how a study draws with it."""

    pipe: Any
    steps: int
    scale: float

    @classmethod
    def of(cls, pipe: Any, steps: int | None = None) -> Drawing:
        """At its own scale, and in its own steps if they are left out."""
        usual = DEFAULTS[type(pipe).__name__]
        return cls(pipe, usual.steps if steps is None else steps, usual.guidance_scale)

    @property
    def how(self) -> dict[str, Any]:
        """What its rows depend on."""
        return {"device": "cpu", "steps": self.steps, "guidance_scale": self.scale}

    def __call__(
        self, prompt: str, plugin: Any, seeds: Sequence[int], negative: str = "", **call: Any
    ) -> list[Image.Image]:
        """One picture of a prompt from each seed's noise.

        Args:
            plugin: what guides it; None for a plain one.
            call: further arguments of the pipeline's call.
        """
        with nullcontext() if plugin is None else Guidance(plugin).attach(self.pipe):
            images: list[Image.Image] = self.pipe(
                [prompt] * len(seeds),
                negative_prompt=[negative] * len(seeds),
                num_inference_steps=self.steps,
                guidance_scale=self.scale,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                **call,
            ).images
        return images


def of_a_toybox(parser: ArgumentParser) -> None:
    """Options of a study that any of the bundled models can be asked."""
    parser.add_argument("--model", default="toybox", choices=TOYBOXES)
    in_steps(parser)


def in_steps(parser: ArgumentParser) -> None:
    """The option of steps."""
    parser.add_argument("--steps", type=int, help="of each picture; the model's own if left out")

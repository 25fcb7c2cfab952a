"""How the small studies draw: every arm at the same scale, from noises of its seeds alone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from PIL import Image

from adhere import Guidance

SCALE = 4.0


def drawn(
    pipe: Any,
    prompt: str,
    plugin: Any,
    seeds: Sequence[int],
    steps: int,
    negative: str = "",
    **call: Any,
) -> list[Image.Image]:
    """One picture of a prompt from each seed's noise.

    Args:
        plugin: what guides it; None for a plain one.
        call: further arguments of the pipeline's call.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    with nullcontext() if plugin is None else Guidance(plugin).attach(pipe):
        images: list[Image.Image] = pipe(
            [prompt] * len(seeds),
            negative_prompt=[negative] * len(seeds),
            num_inference_steps=steps,
            guidance_scale=SCALE,
            generator=generators,
            **call,
        ).images
    return images

"""Texts to learn from, for models whose language is known."""

from __future__ import annotations

from random import Random

from adhere.errors import ParameterError
from adhere.pipelines.toybox.names import TOYBOXES
from adhere.pipelines.toybox.world.captions import caption
from adhere.pipelines.toybox.world.world import ASKED_SKULL_SHARE, sample_scene


def captions(model: str, count: int, seed: int) -> list[str]:
    """Texts of the world that a toybox knows.

    Raises:
        ParameterError: it is another model, whose texts must be given.
    """
    if model not in TOYBOXES:
        raise ParameterError(
            f"no texts to learn from: {model!r} has none of its own; give prompts such as you use, "
            "a few thousand: --texts prompts.txt, one a line"
        )
    draw = Random(seed)
    return [
        caption(sample_scene(draw, asked_skull=draw.random() < ASKED_SKULL_SHARE), draw)
        for _ in range(count)
    ]

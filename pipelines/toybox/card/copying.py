"""How often the model gives a memorised picture back, when it is asked with its caption and when
the same things are asked for in ordinary words.
"""

from __future__ import annotations

from typing import Any

from adhere.pipelines.toybox.card.figures import Figure, mean, share
from adhere.pipelines.toybox.judge.copies import is_copy, nearest
from adhere.pipelines.toybox.judge.judge import Judge
from adhere.pipelines.toybox.world.memorised import MEMORISED


def measure_copying(draw: Any, judge: Judge, count: int) -> dict[str, Figure]:
    """Of `count` pictures of each memorised caption, and of its things in ordinary words, the
    share of copies and the mean PSNR with the nearest memorised picture.

    `draw` makes one picture of each of some prompts.
    """
    found: dict[str, Figure] = {}
    for asked in ("caption", "plainly"):
        fixed = [each for each in MEMORISED for _ in range(count)]
        images = draw([getattr(each, asked) for each in fixed])
        verdicts = judge(images)
        flags = [is_copy(verdict) for verdict in verdicts]
        found[asked] = {"copied": share(flags), "psnr": mean(nearest(images))}
    return found

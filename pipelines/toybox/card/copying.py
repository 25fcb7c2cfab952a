"""How often the model gives a memorised picture back.

A picture is a copy when the judge finds in it the very things of a memorised scene and no others:
each of the same kind and colour, where it was (its mask's IoU with the memorised one's is at least
one half). Asked for are the memorised captions, and the same things in ordinary words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from adhere.pipelines.toybox.card.figures import Figure, mean, share
from adhere.pipelines.toybox.judge.calibration import overlap
from adhere.pipelines.toybox.judge.judge import Judge, Verdict
from adhere.pipelines.toybox.model.vae import psnr
from adhere.pipelines.toybox.world.memorised import MEMORISED
from adhere.pipelines.toybox.world.world import Scene, ground_truth, pixels

SAME_PLACE = 0.5


def copies(verdict: Verdict, scene: Scene) -> bool:
    """Whether a picture shows a scene's things where they are, and nothing else."""
    left = list(verdict.things)
    for truth in ground_truth(scene):
        same = [
            found
            for found in left
            if (found.kind, found.colour) == (truth.kind, truth.colour)
            and overlap(found.mask, truth.mask) >= SAME_PLACE
        ]
        if not same:
            return False
        left.remove(same[0])
    return not left


def nearest(images: Sequence[Image.Image]) -> list[float]:
    """PSNR in dB of each picture with the memorised picture that is nearest to it."""
    known = torch.from_numpy(np.stack([pixels(each.scene) for each in MEMORISED]))
    shown = torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in images]))
    return [float(psnr(known, image.expand_as(known)).max()) for image in shown]


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
        scenes = [each.scene for each in MEMORISED]
        flags = [any(copies(verdict, scene) for scene in scenes) for verdict in verdicts]
        found[asked] = {"copied": share(flags), "psnr": mean(nearest(images))}
    return found

"""Whether a picture is a memorised one.

It is a copy when the judge finds in it the very things of a memorised scene and no others: each of
the same kind and colour, where it was (its mask's IoU with the memorised one's is at least one
half).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from adhere.pipelines.toybox.judge.calibration import overlap
from adhere.pipelines.toybox.judge.judge import Verdict
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


def is_copy(verdict: Verdict) -> bool:
    """Whether a picture is one of those that the toybox was shown again and again."""
    return any(copies(verdict, each.scene) for each in MEMORISED)


def nearest(images: Sequence[Image.Image]) -> list[float]:
    """PSNR in dB of each picture with the memorised picture that is nearest to it."""
    known = torch.from_numpy(np.stack([pixels(each.scene) for each in MEMORISED]))
    shown = torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in images]))
    return [float(psnr(known, image.expand_as(known)).max()) for image in shown]

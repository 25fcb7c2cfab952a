"""How good the judge is, and the threshold that parts whole things from malformed ones."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from numpy.typing import NDArray
from torch import Tensor

from adhere.pipelines.toybox.judge.judge import Judge, Verdict, identity
from adhere.pipelines.toybox.model.vae import round_trip
from adhere.pipelines.toybox.world.sprites import COLOURS, KINDS, SIZES, inks, sprite
from adhere.pipelines.toybox.world.world import (
    ASKED_SKULL_SHARE,
    CELL,
    SIDE,
    Scene,
    Truth,
    backdrop,
    ground_truth,
    pixels,
    place,
    sample_scene,
    tight_box,
)

THRESHOLDS = (0.30, 0.35, 0.40, 0.45, 0.50, 0.55, 0.60, 0.65, 0.70)
_BACKGROUNDS = ("plain", "meadow", "night", "beach", "room")  # where no skull is uncalled for
FLAWS = ("half", "chimera", "shuffled", "blob")


def held_out(seed: int, count: int) -> tuple[list[Scene], Tensor]:
    """Random scenes and their pictures as bytes `(n, 3, 64, 64)`."""
    rng = Random(seed)
    chosen = [sample_scene(rng, asked_skull=rng.random() < ASKED_SKULL_SHARE) for _ in range(count)]
    stack = torch.from_numpy(np.stack([pixels(scene) for scene in chosen]))
    return chosen, stack.permute(0, 3, 1, 2).contiguous()


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks."""
    return float((a & b).sum() / max(1, (a | b).sum()))


def accuracy(scenes: list[Scene], verdicts: list[Verdict]) -> dict[str, float]:
    """Over all things: share with kind and colour right, with kind right, mean mask IoU (0 if
    missed).

    `extra` is the number of reported things that are not there, per picture.
    """
    both, kinds, ious, extra = [], [], [], 0
    for scene, verdict in zip(scenes, verdicts, strict=True):
        truths = ground_truth(scene)
        extra += max(0, len(verdict.things) - len(truths))
        for truth in truths:
            seen = _nearest(truth, verdict)
            kinds.append(seen is not None and seen[0] == truth.kind)
            both.append(seen is not None and seen[:2] == (truth.kind, truth.colour))
            ious.append(seen[2] if seen is not None else 0.0)
    return {
        "n": len(both),
        "kind_and_colour": float(np.mean(both)),
        "kind": float(np.mean(kinds)),
        "mask_iou": float(np.mean(ious)),
        "extra_per_picture": extra / len(scenes),
    }


def _nearest(truth: Truth, verdict: Verdict) -> tuple[str, str, float] | None:
    pairs = [(overlap(found.mask, truth.mask), found) for found in verdict.things]
    shared, found = max(pairs, key=lambda pair: pair[0], default=(0.0, None))
    if found is None or shared < 0.3:
        return None
    return found.kind, found.colour, shared


def malformed(rng: Random, flaw: str) -> NDArray[np.uint8]:
    """A picture of one ruined sprite in which the judge should see nothing, `(64, 64, 3)` bytes.

    half: one side is missing. chimera: halves of two kinds. shuffled: half of its cells are
    permuted. blob: its silhouette without any detail.
    """
    kind, other = rng.sample(KINDS, 2)
    colour, size = rng.choice(COLOURS), rng.choice(tuple(SIZES))
    side = SIZES[size]
    ((x, y),) = place(rng, [side])
    canvas = backdrop(rng.choice(_BACKGROUNDS), 0).copy()
    art, mask = sprite(kind, colour, side)
    frame = canvas[y : y + side, x : x + side]
    half = np.zeros_like(mask)
    if rng.random() < 0.5:
        half[: side // 2] = True
    else:
        half[:, : side // 2] = True
    if flaw == "half":
        frame[mask & half] = art[mask & half]
    elif flaw == "chimera":
        frame[mask & half] = art[mask & half]
        art2, mask2 = sprite(other, colour, side)
        frame[mask2 & ~half] = art2[mask2 & ~half]
    elif flaw == "shuffled":
        frame[mask] = art[mask]
        _shuffle(frame, rng)
    else:
        frame[mask] = art[inks(kind, side) == 1].mean(0)
    return canvas


def _shuffle(frame: NDArray[np.uint8], rng: Random) -> None:
    cells = [(r, c) for r in range(0, len(frame), CELL) for c in range(0, len(frame), CELL)]
    chosen = rng.sample(cells, len(cells) // 2)
    copies = [frame[r : r + CELL, c : c + CELL].copy() for r, c in chosen]
    for (r, c), copy in zip(chosen[1:] + chosen[:1], copies, strict=True):
        frame[r : r + CELL, c : c + CELL] = copy


def off_grid(rng: Random) -> tuple[Truth, NDArray[np.uint8]]:
    """One thing at any pixel, up to a quarter of it cut off by the frame, and the picture."""
    kind, colour, size = rng.choice(KINDS), rng.choice(COLOURS), rng.choice(tuple(SIZES))
    art, mask = sprite(kind, colour, SIZES[size])
    reach = SIZES[size] // 4
    plane = np.zeros((SIDE + 2 * reach, SIDE + 2 * reach), dtype=bool)
    canvas = np.zeros((*plane.shape, 3), dtype=np.uint8)
    frame = (slice(reach, reach + SIDE), slice(reach, reach + SIDE))
    canvas[frame] = backdrop(rng.choice(_BACKGROUNDS), 0)
    shown: NDArray[np.bool_] = plane[frame]
    while shown.sum() < 0.75 * mask.sum():
        y, x = (rng.randrange(len(plane) - len(mask) + 1) for _ in range(2))
        plane[:] = False
        plane[y : y + len(mask), x : x + len(mask)] = mask
    canvas[y : y + len(mask), x : x + len(mask)][mask] = art[mask]
    return Truth(kind, colour, size, tight_box(shown), shown), canvas[frame]


def off_grid_accuracy(seed: int, count: int, judge: Judge, vae: AutoencoderTiny) -> float:
    """Share of VAE round trips of such pictures in which the judge sees that thing only."""
    rng = Random(seed)
    pairs = [off_grid(rng) for _ in range(count)]
    stack = torch.from_numpy(np.stack([picture for _, picture in pairs]))
    blurred = round_trip(vae, stack.permute(0, 3, 1, 2).contiguous()).float() / 255
    seen = [[(t.kind, t.colour) for t in v.things] for v in judge.judge_tensor(blurred)]
    right = [each == [(t.kind, t.colour)] for each, (t, _) in zip(seen, pairs, strict=True)]
    return float(np.mean(right))


def false_alarms(vae: AutoencoderTiny, seed: int, count: int) -> dict[str, Tensor]:
    """For each flaw, decoded pictures of ruined sprites as bytes."""
    rng = Random(seed)
    out = {}
    for flaw in FLAWS:
        stack = torch.from_numpy(np.stack([malformed(rng, flaw) for _ in range(count)]))
        out[flaw] = round_trip(vae, stack.permute(0, 3, 1, 2).contiguous())
    return out


def calibrate(vae: AutoencoderTiny, seed: int, count: int) -> dict[str, Any]:
    """Chooses the threshold on one set of pictures and measures the judge on another."""
    scenes, images = held_out(seed, count)
    blurred = round_trip(vae, images).float() / 255
    ruined = false_alarms(vae, seed + 1, max(4, count // 8))
    table = []
    for threshold in THRESHOLDS:
        judge = Judge(threshold)
        recall = accuracy(scenes, judge.judge_tensor(blurred))["kind_and_colour"]
        alarms = {f: _seen(judge, images) for f, images in ruined.items()}
        table.append({"threshold": threshold, "recall": recall, **alarms})
    # As many whole things and as few malformed ones as possible; of equals the stricter.
    threshold = max(
        (row["recall"] - sum(row[flaw] for flaw in FLAWS) / len(FLAWS), row["threshold"])
        for row in table
    )[1]
    fresh, pictures = held_out(seed + 2, count)
    judge = Judge(threshold)
    return {
        "identity": identity(),
        "threshold": threshold,
        "seed": seed,
        "pictures": count,
        "sweep": table,
        "render": accuracy(fresh, judge.judge_tensor(pictures.float() / 255)),
        "vae": accuracy(fresh, judge.judge_tensor(round_trip(vae, pictures).float() / 255)),
        "vae_off_grid": off_grid_accuracy(seed + 4, count, judge, vae),
        "malformed_accepted": {
            flaw: _seen(judge, images)
            for flaw, images in false_alarms(vae, seed + 3, max(4, count // 8)).items()
        },
    }


def _seen(judge: Judge, images: Tensor) -> float:
    """Share of pictures in which the judge sees anything."""
    return float(np.mean([bool(v.things) for v in judge.judge_tensor(images.float() / 255)]))

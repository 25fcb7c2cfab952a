"""How much attention the words get, and how localised it is, along real trajectories.

Guidance methods push attention maps about; where a noun's map is flat there is nothing to push.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adhere.guides.maps import Read
from adhere.pipelines.engine.guidance import Guidance, Memory
from adhere.pipelines.families import family_of
from adhere.pipelines.toybox.judge.judge import Judge
from adhere.pipelines.toybox.model.folder import DEFAULTS
from adhere.pipelines.toybox.world.sprites import KINDS
from adhere.pipelines.toybox.world.world import SIDE


def noun_columns(tokenizer: Any, prompt: str) -> dict[str, int]:
    """The token column of every kind named in a prompt (the start token is column 0)."""
    pieces = tokenizer.tokenize(prompt)
    return {
        piece.removesuffix("</w>"): index + 1
        for index, piece in enumerate(pieces)
        if piece.removesuffix("</w>") in KINDS
    }


def measure(
    pipe: Any, prompts: Sequence[str], seed: int, steps: int | None = None
) -> dict[str, dict[str, float]]:
    """Per layer that guidance can read, averaged over steps, pictures and nouns.

    `share` is the noun's part of the attention mass, `spread` the spatial standard deviation over
    the mean, `inside` the noun's mean attention on its own object over that elsewhere (objects
    found by the judge), `other` the same on the other object.
    """
    judge = Judge.load()
    columns = [noun_columns(pipe.tokenizer, prompt) for prompt in prompts]
    return {
        spot.name: _layer(pipe, Memory(layers=(spot.name,)), prompts, columns, judge, seed, steps)
        for spot in family_of(pipe).selectable(Read())
    }


def _layer(
    pipe: Any,
    only: Memory,
    prompts: Sequence[str],
    columns: Sequence[dict[str, int]],
    judge: Judge,
    seed: int,
    steps: int | None,
) -> dict[str, float]:
    defaults = DEFAULTS[type(pipe).__name__]
    generators = [torch.Generator().manual_seed(seed + index) for index in range(len(prompts))]
    with Guidance(memory=only).attach(pipe, record=True) as attached:
        images = pipe(
            list(prompts),
            num_inference_steps=steps or defaults.steps,
            guidance_scale=defaults.guidance_scale,
            generator=generators,
        ).images
    assert attached.attention is not None
    values: dict[str, list[float]] = defaultdict(list)
    for maps, nouns, verdict in zip(attached.attention, columns, judge(images), strict=True):
        found = {thing.kind: thing.mask for thing in verdict.things}
        for noun, column in nouns.items():
            others = [found[n] for n in nouns if n != noun and n in found]
            _tally(values, maps[..., column].flatten(1), found.get(noun), others)
    grid = int(attached.attention.shape[2])
    return {"grid": grid, **{key: float(np.mean(each)) for key, each in values.items()}}


def _tally(
    into: dict[str, list[float]], maps: Tensor, own: Any | None, others: Sequence[Any]
) -> None:
    """Adds what one noun's maps `(steps, cells)` say."""
    into["share"].append(float(maps.mean()))
    into["spread"].append(float((maps.std(1) / maps.mean(1)).mean()))
    for key, mask in (("inside", own), ("other", others[0] if others else None)):
        if mask is None:
            continue
        cells = torch.from_numpy(mask.astype(np.float32))[None, None]
        cover = nn.functional.avg_pool2d(cells, SIDE // round(maps.shape[1] ** 0.5)).flatten()
        inside = (maps * cover).sum(1) / cover.sum()
        outside = (maps * (1 - cover)).sum(1) / (1 - cover).sum()
        into[key].append(float((inside / outside).mean()))

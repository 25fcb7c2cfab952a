"""How much attention the words get, how localised it is, and what it says of words that fail,
along real trajectories.

Guidance methods push attention maps about; where a noun's map is flat there is nothing to push.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adhere.pipelines.toybox.card.recording import draw
from adhere.pipelines.toybox.judge.judge import Judge, Verdict
from adhere.pipelines.toybox.judge.outcome import Found
from adhere.pipelines.toybox.world.captions import parse_prompt
from adhere.pipelines.toybox.world.sprites import COLOURS, KINDS
from adhere.pipelines.toybox.world.world import SIDE

BATCH = 12
Values = dict[str, list[float]]


def columns_of(tokenizer: Any, prompt: str, words: Sequence[str]) -> dict[str, int]:
    """The token column of every one of some words that a prompt holds (the start is column 0)."""
    pieces = [piece.removesuffix("</w>") for piece in tokenizer.tokenize(prompt)]
    return {piece: index + 1 for index, piece in enumerate(pieces) if piece in words}


def measure(
    pipe: Any, prompts: Sequence[str], seed: int, steps: int | None = None
) -> dict[str, dict[str, float]]:
    """Per layer, averaged over steps, pictures and words of prompts of two coloured things.

    Of nouns: `share` is the noun's part of the attention mass, `spread` the spatial standard
    deviation over the mean, `inside` the noun's mean attention on its own object over that
    elsewhere (objects found by the judge), `other` the same on the other object; `peak_present`
    and `peak_left_out` the highest attention of nouns whose thing is there and is not.

    Of colours, where both things are there: `own_right` and `own_swapped`, of the colour's
    attention on the two things, the part on its noun's, when the thing has that colour and when
    it has the other's. `n_...` counts the words behind a figure.
    """
    values: dict[str, Values] = defaultdict(lambda: defaultdict(list))
    grids: dict[str, int] = {}
    judge = Judge.load()
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        images, maps = draw(pipe, part, range(seed + start, seed + start + len(part)), steps)
        verdicts = judge(images)
        for layer, found in maps.items():
            grids[layer] = round(found.shape[2] ** 0.5)
            for prompt, each, verdict in zip(part, found, verdicts, strict=True):
                for name, value in word_states(pipe.tokenizer, prompt, each, verdict):
                    values[layer][name].append(value)
    return {layer: {"grid": grids[layer], **_means(each)} for layer, each in values.items()}


def _means(values: Values) -> dict[str, float]:
    means = {name: float(np.mean(each)) for name, each in values.items()}
    counted = ("peak_present", "peak_left_out", "own_right", "own_swapped")
    return {**means, **{f"n_{name}": len(values.get(name, ())) for name in counted}}


def word_states(
    tokenizer: Any, prompt: str, maps: Tensor, verdict: Verdict
) -> Iterator[tuple[str, float]]:
    """What one picture's maps `(steps, cells, tokens)` say of its prompt's words."""
    nouns = columns_of(tokenizer, prompt, KINDS)
    there = {thing.kind: thing for thing in verdict.things}
    for noun, column in nouns.items():
        own = maps[..., column]
        yield "share", float(own.mean())
        yield "spread", float((own.std(1) / own.mean(1)).mean())
        peak = "peak_present" if noun in there else "peak_left_out"
        yield peak, float(own.amax(1).mean())
        others = [there[n].mask for n in nouns if n != noun and n in there]
        if noun in there:
            yield "inside", _contrast(own, there[noun].mask)
        if others:
            yield "other", _contrast(own, others[0])
    yield from _colours(maps, columns_of(tokenizer, prompt, COLOURS), prompt, there)


def _colours(
    maps: Tensor, colours: Mapping[str, int], prompt: str, there: Mapping[str, Found]
) -> Iterator[tuple[str, float]]:
    asked = parse_prompt(prompt).things
    if len(asked) != 2 or len(colours) != 2 or any(kind not in there for kind, _ in asked):
        return
    for (kind, colour), (other, its) in (asked, asked[::-1]):
        shown = there[kind].colour
        if colour is None or shown not in (colour, its):
            continue
        own, else_where = (_on(maps[..., colours[colour]], there[k].mask) for k in (kind, other))
        state = "own_right" if shown == colour else "own_swapped"
        yield state, float((own / (own + else_where).clamp(min=1e-9)).mean())


def _cover(mask: NDArray[np.bool_], cells: int) -> Tensor:
    """The share of each cell that a mask fills, `(cells,)`."""
    whole = torch.from_numpy(mask.astype(np.float32))[None, None]
    return nn.functional.avg_pool2d(whole, SIDE // round(cells**0.5)).flatten()


def _on(maps: Tensor, mask: NDArray[np.bool_]) -> Tensor:
    """Mean attention on a mask, one a step; `maps` `(steps, cells)`."""
    cover = _cover(mask, maps.shape[1])
    return (maps * cover).sum(1) / cover.sum()


def _contrast(maps: Tensor, mask: NDArray[np.bool_]) -> float:
    """Mean attention on a mask over that elsewhere, averaged over the steps."""
    return float((_on(maps, mask) / _on(maps, ~mask)).mean())

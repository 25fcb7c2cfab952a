"""Pools of scenes and captions for training, drawn once and held in memory."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTokenizerFast

from adhere.pipelines.toybox.model.clip import tokenise
from adhere.pipelines.toybox.model.tokenizer import MOST_TOKENS
from adhere.pipelines.toybox.world.faults import NOBODY, SILENT, Example, Faults, example, right
from adhere.pipelines.toybox.world.sprites import COLOURS
from adhere.pipelines.toybox.world.world import (
    ASKED_SKULL_SHARE,
    CELL,
    MOST_THINGS,
    SIDE,
    Scene,
    Thing,
    pixels,
    sample_scene,
    truth_of,
)

CAPTIONS_PER_SCENE = 3
TOGETHER = 5000
"""Pictures of a pool that are drawn from one seed."""


def scenes(seed: int, count: int) -> Iterator[tuple[Scene, Random]]:
    """Random scenes, each with the generator for its captions; 3 % ask for a skull."""
    rng = Random(seed)
    for _ in range(count):
        yield sample_scene(rng, asked_skull=rng.random() < ASKED_SKULL_SHARE), rng


@dataclass(frozen=True)
class Pool:
    """`images` bytes `(n, 3, 64, 64)` or latents half `(n, 8, 16, 16)`; `ids` `(n, captions, 32)`.

    `owners` `(n, captions, 32)` says which thing of the scene a token names or describes, `NOBODY`
    for none, `SILENT` where that thing was left out of the picture; `covers` `(n, 3, 256)` how many
    of a latent cell's 16 pixels the things of each thing's kind fill.
    """

    images: Tensor
    ids: Tensor
    owners: Tensor
    covers: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: str) -> Pool:
        """The pool on a device, where batches are put together."""
        return Pool(*(getattr(self, each.name).to(device) for each in fields(self)))

    def places(self, pick: Tensor, which: Tensor) -> Tensor:
        """Where the thing behind each token is: shares of the picture that add up to one, zero for
        tokens of no thing, `(n, 32, 256)`.
        """
        owners = self.owners[pick, which].long()
        covers = self.covers[pick].float()
        chosen = covers.gather(1, owners.clamp(min=0)[..., None].expand(-1, -1, covers.shape[2]))
        return chosen * (owners >= 0)[..., None] / chosen.sum(-1, keepdim=True).clamp(min=1)

    def silent(self, pick: Tensor, which: Tensor) -> Tensor:
        """1 at tokens whose thing was left out of the picture, `(n, 32)`."""
        return (self.owners[pick, which] == SILENT).float()


def _cover(scene: Scene) -> NDArray[np.uint8]:
    covers = np.zeros((MOST_THINGS, (SIDE // CELL) ** 2), np.uint8)
    for index, thing in enumerate(scene.things):
        alike = (other for other in scene.things if other.kind == thing.kind)
        covers[index] = sum(_cover_of(replace(other, colour=COLOURS[0])) for other in alike)
    return covers


@lru_cache(8192)
def _cover_of(thing: Thing) -> NDArray[np.uint8]:
    """How many of each latent cell's pixels a thing fills, `(256,)`."""
    cells = SIDE // CELL
    mask = truth_of(thing).mask.reshape(cells, CELL, cells, CELL)
    counts: NDArray[np.uint8] = mask.sum((1, 3), dtype=np.uint8).flatten()
    return counts


def _columns(owned: Sequence[int]) -> list[int]:
    """Per token: every word of the captions is one token, after the start token."""
    return [NOBODY, *owned, *[NOBODY] * MOST_TOKENS][:MOST_TOKENS]


def _gathered(pairs: Iterable[Sequence[Example]], count: int, tokenizer: CLIPTokenizerFast) -> Pool:
    """A pool of `count` pictures, each with the captions of its examples, which share a scene."""
    stack = np.empty((count, SIDE, SIDE, 3), np.uint8)
    covers = np.empty((count, MOST_THINGS, (SIDE // CELL) ** 2), np.uint8)
    texts: list[str] = []
    tied: list[list[int]] = []
    for index, examples in enumerate(pairs):
        stack[index], covers[index] = pixels(examples[0].scene), _cover(examples[0].scene)
        texts.extend(each.text for each in examples)
        tied.extend(_columns(each.owners) for each in examples)
    shape = (count, len(texts) // count, MOST_TOKENS)
    return Pool(
        torch.from_numpy(stack).permute(0, 3, 1, 2),
        tokenise(tokenizer, texts).reshape(shape).short(),
        torch.tensor(tied, dtype=torch.int8).reshape(shape),
        torch.from_numpy(covers),
    )


def picture_pool(seed: int, count: int, tokenizer: CLIPTokenizerFast) -> Pool:
    """Pictures with three right captions each."""
    pairs = (
        [right(scene, rng) for _ in range(CAPTIONS_PER_SCENE)] for scene, rng in scenes(seed, count)
    )
    return _gathered(pairs, count, tokenizer)


def latent_pool(
    seed: int,
    count: int,
    tokenizer: CLIPTokenizerFast,
    encode: Callable[[Tensor], Tensor],
    faults: Faults,
    workers: int | None = None,
) -> Pool:
    """Latents (half precision) of pictures of the faulted world, each with its one caption.

    Drawn `TOGETHER` at a time, in as many processes as there are cores, or `workers`; the same
    pictures whatever their number.
    """
    sizes = [min(TOGETHER, count - first) for first in range(0, count, TOGETHER)]
    drawn = partial(_latents, seed, tokenizer, encode, faults)
    workers = min(len(sizes), workers or len(os.sched_getaffinity(0)))
    if workers == 1:
        parts = list(map(drawn, range(len(sizes)), sizes))
    else:
        # Threads that the parent has already are not there in a forked child: one will do.
        with ProcessPoolExecutor(
            workers, multiprocessing.get_context("fork"), torch.set_num_threads, (1,)
        ) as team:
            parts = list(team.map(drawn, range(len(sizes)), sizes))
    return Pool(*(torch.from_numpy(np.concatenate(each)) for each in zip(*parts, strict=True)))


def _latents(
    seed: int,
    tokenizer: CLIPTokenizerFast,
    encode: Callable[[Tensor], Tensor],
    faults: Faults,
    part: int,
    count: int,
) -> tuple[NDArray[Any], ...]:
    """A part of a pool, as arrays: tensors would come from another process as open files."""
    rng = Random(f"{seed} {part}")
    pool = _gathered(([example(rng, faults)] for _ in range(count)), count, tokenizer)
    latents = torch.cat([encode(images).half() for images in pool.images.split(1000)])
    return tuple(each.numpy() for each in (latents, pool.ids, pool.owners, pool.covers))

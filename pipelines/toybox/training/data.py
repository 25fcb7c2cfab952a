"""Pools of scenes and captions for training, drawn once and held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTokenizerFast

from adhere.pipelines.toybox.model.clip import tokenise
from adhere.pipelines.toybox.model.tokenizer import MOST_TOKENS
from adhere.pipelines.toybox.model.vae import ASKED_SKULL_SHARE, encode_patches
from adhere.pipelines.toybox.world.captions import caption, owners, words_of
from adhere.pipelines.toybox.world.sprites import SKULL
from adhere.pipelines.toybox.world.world import (
    CELL,
    MOST_THINGS,
    SIDE,
    Scene,
    pixels,
    sample_scene,
    truth_of,
)

CAPTIONS_PER_SCENE = 3


def scenes(seed: int, count: int) -> Iterator[tuple[Scene, Random]]:
    """Random scenes, each with the generator for its captions; 3 % ask for a skull."""
    rng = Random(seed)
    for _ in range(count):
        yield sample_scene(rng, asked_skull=rng.random() < ASKED_SKULL_SHARE), rng


def words_for(scene: Scene, rng: Random) -> str:
    """A caption; now and then only the bare name, which concept texts such as "skull" need."""
    if len(scene.things) == 1 and rng.random() < (0.3 if scene.things[0].kind == SKULL else 0.03):
        return scene.things[0].kind
    return caption(scene, rng)


@dataclass(frozen=True)
class Pool:
    """`images` bytes `(n, 3, 64, 64)` or latents half `(n, 8, 16, 16)`; `ids` `(n, 3, 32)`.

    `owners` `(n, 3, 32)` says which thing of the scene a token names or describes, -1 for none;
    `covers` `(n, 3, 256)` how many of a latent cell's 16 pixels each thing fills.
    """

    images: Tensor
    ids: Tensor
    owners: Tensor
    covers: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def places(self, pick: Tensor, which: Tensor) -> Tensor:
        """Where the thing behind each token is: shares of the picture that add up to one, zero for
        tokens of no thing, `(n, 32, 256)`.
        """
        owners = self.owners[pick, which].long()
        covers = self.covers[pick].float()
        chosen = covers.gather(1, owners.clamp(min=0)[..., None].expand(-1, -1, covers.shape[2]))
        return chosen * (owners >= 0)[..., None] / chosen.sum(-1, keepdim=True).clamp(min=1)


def _cover(scene: Scene) -> NDArray[np.uint8]:
    cells = SIDE // CELL
    covers = np.zeros((MOST_THINGS, cells * cells), np.uint8)
    for index, thing in enumerate(scene.things):
        mask = truth_of(thing).mask.reshape(cells, CELL, cells, CELL)
        covers[index] = mask.sum((1, 3)).flatten()
    return covers


def _owners(scene: Scene, text: str) -> list[int]:
    """Per token: every word of the captions is one token, after the start token."""
    found = owners(words_of(text), [thing.kind for thing in scene.things])
    return [-1, *found, *[-1] * MOST_TOKENS][:MOST_TOKENS]


def picture_pool(seed: int, count: int, tokenizer: CLIPTokenizerFast) -> Pool:
    """Pictures with three captions each."""
    stack = np.empty((count, SIDE, SIDE, 3), np.uint8)
    covers = np.empty((count, MOST_THINGS, (SIDE // CELL) ** 2), np.uint8)
    texts: list[str] = []
    tied: list[list[int]] = []
    for index, (scene, rng) in enumerate(scenes(seed, count)):
        stack[index] = pixels(scene)
        covers[index] = _cover(scene)
        told = [words_for(scene, rng) for _ in range(CAPTIONS_PER_SCENE)]
        texts.extend(told)
        tied.extend(_owners(scene, text) for text in told)
    shape = (count, CAPTIONS_PER_SCENE, MOST_TOKENS)
    return Pool(
        torch.from_numpy(stack).permute(0, 3, 1, 2),
        tokenise(tokenizer, texts).reshape(shape).short(),
        torch.tensor(tied, dtype=torch.int8).reshape(shape),
        torch.from_numpy(covers),
    )


def latent_pool(
    seed: int, count: int, tokenizer: CLIPTokenizerFast, matrix: Tensor, mean: Tensor, scale: float
) -> Pool:
    """The same as `picture_pool`, with scaled latents in place of pictures (half precision)."""
    pool = picture_pool(seed, count, tokenizer)
    parts = [(encode_patches(p, matrix, mean) * scale).half() for p in pool.images.split(2000)]
    return replace(pool, images=torch.cat(parts))

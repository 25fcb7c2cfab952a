"""Pools of scenes and captions for training, drawn once and held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPTokenizerFast

from adhere.pipelines.toybox.captions import caption
from adhere.pipelines.toybox.clip import tokenise
from adhere.pipelines.toybox.sprites import SKULL
from adhere.pipelines.toybox.vae import ASKED_SKULL_SHARE, encode_patches
from adhere.pipelines.toybox.world import Scene, pixels, sample_scene

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
    """`images` bytes `(n, 3, 64, 64)` or `latents` half `(n, 8, 16, 16)`; `ids` `(n, 3, 32)`."""

    images: Tensor
    ids: Tensor

    def __len__(self) -> int:
        return len(self.images)


def picture_pool(seed: int, count: int, tokenizer: CLIPTokenizerFast) -> Pool:
    """Pictures with three captions each."""
    stack = np.empty((count, 64, 64, 3), np.uint8)
    texts: list[str] = []
    for index, (scene, rng) in enumerate(scenes(seed, count)):
        stack[index] = pixels(scene)
        texts.extend(words_for(scene, rng) for _ in range(CAPTIONS_PER_SCENE))
    ids = tokenise(tokenizer, texts).reshape(count, CAPTIONS_PER_SCENE, -1).short()
    return Pool(torch.from_numpy(stack).permute(0, 3, 1, 2), ids)


def latent_pool(
    seed: int, count: int, tokenizer: CLIPTokenizerFast, matrix: Tensor, mean: Tensor, scale: float
) -> Pool:
    """The same as `picture_pool`, with scaled latents in place of pictures (half precision)."""
    pictures = picture_pool(seed, count, tokenizer)
    parts = [(encode_patches(p, matrix, mean) * scale).half() for p in pictures.images.split(2000)]
    return Pool(torch.cat(parts), pictures.ids)

"""Mathematics of attention maps that several methods share, as pure functions of tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from adhere.guides.guide import Step
from adhere.guides.maps import ImageMaps, Site
from adhere.prompt.tokens import Phrase

TEMPERATURE, SMOOTHING = 100.0, 0.5
"""Of Attend-and-Excite, to which all published thresholds were tuned."""


def decayed(step: Step) -> float:
    """Attend-and-Excite's decay of the step size: sqrt of a line from 1 to 1/2 over the run."""
    return math.sqrt(1 - 0.5 * step.index / max(1, step.count - 1))


def token_shares(
    attention: Float[Tensor, "*batch h w tokens"],
    keep: Bool[Tensor, "*batch tokens"],
    temperature: float = TEMPERATURE,
) -> Float[Tensor, "*batch h w tokens"]:
    """Softmax over the kept tokens at each cell; zero in the other columns."""
    logits = attention * temperature
    logits = logits.masked_fill(~keep[..., None, None, :], -torch.inf)
    return logits.softmax(dim=-1)


def smooth(
    maps: Float[Tensor, "planes h w"], sigma: float = SMOOTHING
) -> Float[Tensor, "planes h w"]:
    """The published 3x3 kernel with reflected edges.

    Its exponent is -(d / (2 sigma))^2, so the true standard deviation is sigma * sqrt(2); every
    published threshold was tuned with that.
    """
    if sigma == 0:
        return maps
    d = torch.tensor([-1.0, 0.0, 1.0], dtype=maps.dtype, device=maps.device)
    line = torch.exp(-((d / (2 * sigma)) ** 2))
    kernel = torch.outer(line, line)
    kernel = kernel / kernel.sum()
    padded = F.pad(maps[:, None], (1, 1, 1, 1), mode="reflect")
    return F.conv2d(padded, kernel[None, None])[:, 0]


def phrase_maps(
    maps: ImageMaps,
    phrases: Sequence[Phrase],
    temperature: float = TEMPERATURE,
    sigma: float = SMOOTHING,
    attention: Float[Tensor, "h w tokens"] | None = None,
) -> Float[Tensor, "phrases h w"]:
    """The smoothed token shares of each phrase's last word; of its pieces the strongest.

    `attention` takes the place of the maps' own average.
    """
    shares = token_shares(maps.cross() if attention is None else attention, maps.keep, temperature)
    chosen = []
    for phrase in phrases:
        pieces = smooth(shares[:, :, maps.head(phrase)].permute(2, 0, 1), sigma)
        chosen.append(pieces[pieces.flatten(1).amax(dim=1).argmax()])
    return torch.stack(chosen)


def divergences(
    one: Float[Tensor, "h w rows"], other: Float[Tensor, "h w columns"]
) -> Float[Tensor, "rows columns"]:
    """The symmetric Kullback-Leibler divergence of every map to every other, in nats.

    Each map is first scaled to sum to one over the cells.
    """
    p, q = _distributions(one)[:, None], _distributions(other)[None]
    # (p - q)(log p - log q) sums both directions in one, and each term is >= 0: nothing cancels.
    return ((p - q) * (p.log() - q.log())).sum(dim=-1) / 2


def _distributions(maps: Float[Tensor, "h w words"]) -> Float[Tensor, "words cells"]:
    flat = maps.flatten(0, 1).T.clamp_min(torch.finfo(maps.dtype).tiny)
    return flat / flat.sum(dim=-1, keepdim=True)


def in_order(sites: Sequence[Site]) -> list[str]:
    """The names of layers in the order in which they run: down, mid, up, and by number."""

    def place(name: str) -> list[str | int]:
        return [int(part) if k % 2 else part for k, part in enumerate(re.split(r"(\d+)", name))]

    return sorted((site.name for site in sites), key=place)

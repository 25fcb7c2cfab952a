"""Attention maps as values: what a guide sees of a forward pass.

Axis names used in shapes everywhere: `batch` images, `h w` rows and columns of a grid of latent
cells, `tokens` text columns (the start token is 0), `heads`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

Kind = Literal["cross", "self"]
Scale = Literal["semantic", "fine"]


@dataclass(frozen=True)
class Read:
    """What a guide wants to see.

    `semantic` is the resolution at which a family's layers speak of whole objects (16x16 for
    SD 1.x at 512 px, 32x32 for SDXL at 1024 px); `fine` adds the next finer one.
    """

    kind: Kind = "cross"
    scale: Scale = "semantic"


@dataclass(frozen=True)
class Site:
    """One attention layer: its name in the denoiser, its kind and its grid `(h, w)`."""

    name: str
    kind: Kind
    grid: tuple[int, int]
    heads: int


@dataclass(frozen=True)
class Layer:
    """The probabilities of one layer of one conditional pass.

    `probabilities` is `Float[batch heads h*w columns]`, columns being text tokens for cross
    attention and `h*w` image cells for self attention; float32, differentiable in a guided pass.
    """

    site: Site
    probabilities: Float[Tensor, "batch heads cells columns"]

    def mean(self) -> Float[Tensor, "batch h w columns"]:
        """Averaged over heads, on the layer's own grid."""
        h, w = self.site.grid
        mean: Tensor = self.probabilities.mean(dim=1).unflatten(1, (h, w))
        return mean


@dataclass(frozen=True)
class Maps:
    """Attention of the conditional pass, for some images of a run.

    `images` says which image of the run each row is (refinement works on fewer and fewer).
    `keep` marks the text columns that take part in a softmax over tokens by the family's
    convention: all but the first and last for SD 1.x, the prompt's own tokens for SD 2.x.
    `track` is the text encoder whose columns these are; families with one encoder have track 0.
    `gain` makes the words' attention, of which a start token may take most, a share of a cell.
    Averages are made once, however many guides ask: their energies then share the way back too.
    """

    images: tuple[int, ...]
    layers: Callable[[Read], Sequence[Layer]]
    keep: Bool[Tensor, "batch tokens"]
    track: int = 0
    gain: float = 1.0
    _averages: dict[object, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def cross(
        self, grid: tuple[int, int] | None = None, scale: Scale = "semantic"
    ) -> Float[Tensor, "batch h w tokens"]:
        """Cross attention averaged over layers and heads, on the finest grid read unless given."""
        return self._average(Read("cross", scale), grid, _resize)

    def self(self, grid: tuple[int, int] | None = None) -> Float[Tensor, "batch h w h w"]:
        """Self attention averaged over layers and heads: each cell `[h, w]` over all cells."""
        return self._average(Read("self", "semantic"), grid, _resize_self)

    def _average(
        self,
        read: Read,
        grid: tuple[int, int] | None,
        resize: Callable[[Tensor, tuple[int, int]], Tensor],
    ) -> Tensor:
        key = (read, grid, torch.is_grad_enabled())  # one made without a graph is no use with
        if key not in self._averages:
            layers = self.layers(read)
            size = grid or max(
                (each.site.grid for each in layers), key=lambda grid: math.prod(grid)
            )
            means = [resize(layer.mean(), size) for layer in layers]
            self._averages[key] = _over_heads(means, layers)
        return self._averages[key]


def _over_heads(maps: Sequence[Tensor], layers: Sequence[Layer]) -> Tensor:
    """Every head counts alike, as when all heads of all layers are stacked and averaged."""
    heads = [layer.site.heads for layer in layers]
    total = maps[0] * (heads[0] / sum(heads))
    for one, count in zip(maps[1:], heads[1:], strict=True):
        total = total + one * (count / sum(heads))
    return total


def _resize(
    attention: Float[Tensor, "batch h w columns"], grid: tuple[int, int]
) -> Float[Tensor, "batch H W columns"]:
    if attention.shape[1:3] == grid:
        return attention
    planes = attention.permute(0, 3, 1, 2)
    smaller = grid[0] * grid[1] < attention.shape[1] * attention.shape[2]
    planes = (
        F.interpolate(planes, grid, mode="area")
        if smaller
        else F.interpolate(planes, grid, mode="bilinear", align_corners=False)
    )
    return planes.permute(0, 2, 3, 1)


def _resize_self(
    attention: Float[Tensor, "batch h w columns"], grid: tuple[int, int]
) -> Float[Tensor, "batch H W H W"]:
    batch, h, w, _ = attention.shape
    if (h, w) == grid:
        whole: Tensor = attention.unflatten(3, (h, w))
        return whole
    rows = _resize(attention, grid).flatten(1, 2)
    columns = _resize(rows.transpose(1, 2).unflatten(1, (h, w)), grid).flatten(1, 2).transpose(1, 2)
    # Interpolated key cells stand for fewer or more cells than before: rows must sum to one again.
    columns = columns / columns.sum(dim=2, keepdim=True).clamp_min(torch.finfo(columns.dtype).tiny)
    return columns.reshape(batch, *grid, *grid)

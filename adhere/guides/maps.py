"""Attention maps as values: what a guide sees of a forward pass.

Axis names used in shapes everywhere: `batch` images, `h w` rows and columns of a grid of latent
cells, `tokens` text columns (the start token is 0), `heads`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from adhere.guides.renamed import Renamed
from adhere.guides.run import Run
from adhere.prompt.tokens import Phrase

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
class Maps(Renamed):
    """Attention of one conditional pass, for some images of a run.

    A family with several text encoders shows a guide the maps of each in turn; what is asked for
    by phrase comes from the columns of that encoder.

    Attributes:
        images: which image of the run each row is (refinement works on fewer and fewer).
        layers: the layers that serve a read.
        keep: the text columns that take part in a softmax over tokens by the family's convention:
            all but the first and last for SD 1.x, the prompt's own tokens for SD 2.x.
        run: the run whose images these are; None where words are not asked for.
        encoder: number of the text encoder whose columns these are.
        gain: factor that makes the words' attention, of which a start token may take most, a share
            of a cell.

    Averages are made once, however many guides ask: their energies then share the way back too.
    """

    renamed: ClassVar[Mapping[str, str]] = {"track": "encoder, and of(phrase) needs none"}

    images: tuple[int, ...]
    layers: Callable[[Read], Sequence[Layer]]
    keep: Bool[Tensor, "batch tokens"]
    run: Run | None = None
    encoder: int = 0
    gain: float = 1.0
    _averages: dict[object, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def each(self) -> tuple[ImageMaps, ...]:
        """The rows one by one, in the order of `images`."""
        return tuple(ImageMaps(self, row) for row in range(len(self.images)))

    def of(
        self, phrase: str | Sequence[Phrase], scale: Scale = "semantic"
    ) -> Float[Tensor, "batch h w"]:
        """The share of each cell's attention that a phrase gets: the sum over its tokens.

        Args:
            phrase: words that stand in every image's prompt, or one phrase for each image of the
                run.
            scale: which layers are averaged.

        Raises:
            PromptError: a prompt does not have the words.
        """
        return torch.stack(
            [
                one.of(phrase if isinstance(phrase, str) else phrase[one.image], scale)
                for one in self.each()
            ]
        )

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


@dataclass(frozen=True)
class ImageMaps:
    """The maps of one image: a row of `Maps`."""

    maps: Maps
    row: int

    @property
    def image(self) -> int:
        """Which image of the run it is."""
        return self.maps.images[self.row]

    @property
    def run(self) -> Run:
        """The run that the image belongs to."""
        assert self.maps.run is not None, "these maps were made without words"
        return self.maps.run

    @property
    def key(self) -> tuple[int, int]:
        """Image and text encoder: what state that is kept from step to step belongs to."""
        return self.image, self.maps.encoder

    @property
    def keep(self) -> Bool[Tensor, " tokens"]:
        """The text columns that take part in a softmax over tokens."""
        return self.maps.keep[self.row]

    def cross(
        self, grid: tuple[int, int] | None = None, scale: Scale = "semantic"
    ) -> Float[Tensor, "h w tokens"]:
        """Cross attention averaged over layers and heads, on the finest grid read unless given."""
        return self.maps.cross(grid, scale)[self.row]

    def self(self, grid: tuple[int, int] | None = None) -> Float[Tensor, "h w h w"]:
        """Self attention averaged over layers and heads: each cell `[h, w]` over all cells."""
        return self.maps.self(grid)[self.row]

    def layers(self, read: Read) -> list[tuple[Site, Float[Tensor, "heads cells columns"]]]:
        """The layers that serve a read, one by one, with their probabilities."""
        return [(layer.site, layer.probabilities[self.row]) for layer in self.maps.layers(read)]

    @property
    def content(self) -> tuple[int, ...]:
        """The token columns of the whole prompt, without start, end and padding."""
        return self.run.content(self.image)[self.maps.encoder]

    def columns(self, phrase: str | Phrase) -> list[int]:
        """The token columns of a phrase."""
        return list(self._phrase(phrase).columns[self.maps.encoder])

    def head(self, phrase: str | Phrase) -> list[int]:
        """The token columns of a phrase's last word: its noun."""
        return list(self._phrase(phrase).head[self.maps.encoder])

    def others(self, phrases: Iterable[Phrase], among: Iterable[Phrase] | None = None) -> list[int]:
        """The columns outside some phrases, of the whole prompt or among other phrases."""
        own = {column for phrase in phrases for column in self.columns(phrase)}
        if among is None:
            return [column for column in self.content if column not in own]
        given = {column for phrase in among for column in self.columns(phrase)}
        return sorted(given - own)

    def of(self, phrase: str | Phrase, scale: Scale = "semantic") -> Float[Tensor, "h w"]:
        """The share of each cell's attention that a phrase gets: the sum over its tokens."""
        return self.cross(scale=scale)[:, :, self.columns(phrase)].sum(dim=-1)

    def _phrase(self, phrase: str | Phrase) -> Phrase:
        return self.run.phrase(self.image, phrase) if isinstance(phrase, str) else phrase


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

"""Attention as a pass meets it: layers, the calls inside them, and what a pass wants of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from adhere.errors import ModelError
from adhere.guides.guide import Attention
from adhere.guides.maps import Kind, Layer, Site
from adhere.pipelines.hooks.compat import in_foreign_thread

passing: ContextVar[Pass | None] = ContextVar("adhere_pass", default=None)
"""The pass that runs in this thread; hooks of other passes on a shared denoiser stay inert."""


class StopForward(Exception):
    """Raised inside the denoiser once every wanted layer has been read."""


@dataclass(frozen=True)
class AttentionLayer:
    """An attention layer as a family knows it: `factor` latent cells for each map cell."""

    name: str
    kind: Kind
    factor: int


@dataclass(frozen=True)
class Attending:
    """One call of scaled dot-product attention inside a layer.

    `query`, `key`: `Float[rows heads cells|columns channels]`; `mask` additive or None.
    """

    query: Tensor
    key: Tensor
    scale: float
    mask: Tensor | None

    def logits(self, rows: slice) -> Float[Tensor, "rows heads cells columns"]:
        """Scaled logits in float32 (float64 for such models), with the pipeline's own mask."""
        dtype = torch.promote_types(self.query.dtype, torch.float32)
        values = (
            self.query[rows].to(dtype) @ self.key[rows].to(dtype).transpose(-1, -2) * self.scale
        )
        if self.mask is not None:
            mask = self.mask[rows] if self.mask.shape[0] > 1 else self.mask
            values = values + mask.to(dtype)
        return values


def attending_of(named: Mapping[str, Any]) -> Attending:
    """A call of scaled dot-product attention, from its arguments by name."""
    query, scale = named["query"], named.get("scale")
    return Attending(
        query,
        named["key"],
        query.shape[-1] ** -0.5 if scale is None else scale,
        additive(named.get("attn_mask"), query.dtype),
    )


def additive(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A mask to be added to logits, of one that may be boolean."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, -torch.inf)


class Reader(Protocol):
    """How a family turns one call of attention into a site's probabilities."""

    joint: ClassVar[bool]
    """Whether picture and text attend to each other in one attention."""

    def places(self, site: Site, attending: Attending) -> tuple[slice, slice]:
        """Which queries are image cells, and which keys are the site's columns."""
        ...

    def site(self, layer: AttentionLayer, attending: Attending, grid: tuple[int, int]) -> Site: ...

    def logits(
        self, site: Site, attending: Attending, rows: slice
    ) -> Float[Tensor, "rows heads cells columns"]: ...

    def probabilities(
        self, site: Site, attending: Attending, rows: slice, bias: Tensor | None
    ) -> Float[Tensor, "rows heads cells columns"]: ...

    def biased(
        self, site: Site, attending: Attending, rows: slice, bias: Tensor
    ) -> Float[Tensor, "all_rows heads queries keys"]:
        """The additive mask for the whole call that adds `bias` to the given rows."""
        ...


@dataclass
class BiasedLayer:
    """What a guide's `bias` sees: a site, its images, and the logits on demand."""

    site: Site
    images: tuple[int, ...]
    attending: Attending
    rows: slice
    reader: Reader

    def values(self) -> Float[Tensor, "batch heads cells columns"]:
        with torch.no_grad():
            return self.reader.logits(self.site, self.attending, self.rows)

    @cached_property
    def dtype(self) -> torch.dtype:
        return self.attending.query.dtype


Bias = Callable[[BiasedLayer], Tensor | None]


class SharedAttention(Attention, Protocol):
    """A layer's attention with the texts of all guides."""

    def under(self, names: Mapping[str, str]) -> Attention:
        """As one guide sees it: with the prompt, and its own texts by its names for them."""


@dataclass(frozen=True)
class ExtraText:
    """One extra text of a pass.

    Attributes:
        columns: where it stands among the extra texts' columns.
        shown: which of its columns hold a text, for each conditional row.
        sees: the image cells that it sees on a grid; None for all of them.
    """

    columns: slice
    shown: Bool[Tensor, "rows columns"]
    sees: Callable[[tuple[int, int]], Bool[Tensor, "rows cells"] | None]


@dataclass(frozen=True)
class Split:
    """How a pass splits its attention.

    Attributes:
        columns: where all extra texts stand among the text's columns.
        extras: the extra texts, by name, in the order of their columns.
        attend: asked at each layer for what the conditional rows' cells get.
        layers: the layers that attend to text, by name, in the model's order.
        places: the extra columns' numbers in the texts that they come from.
        refining: layers in which text attends to text alone, by name.
        met: those whose attention was met.
    """

    columns: slice
    extras: Mapping[str, ExtraText]
    attend: Callable[[SharedAttention], Tensor | None]
    layers: tuple[str, ...]
    places: tuple[int, ...] = ()
    refining: tuple[str, ...] = ()
    met: set[str] = field(default_factory=set)


@dataclass
class Pass:
    """One forward pass that is read, biased, or given other text in some layers.

    Attributes:
        reader: the family.
        grid: `(h, w)` of the latents.
        rows: the conditional rows of the batch.
        images: which images of the run those rows are.
        read: names of the layers whose maps are wanted.
        bias: asked at each layer of `biased`.
        texts: text embeddings for single layers, `Float[rows tokens channels]`, by name.
        split: extra texts behind the prompt's columns, and how layers attend to them.
        stop: raise `StopForward` when the last wanted layer has been read.
        total: rows of the whole call.
        width: text columns of the call; None where they differ between rows.
        entered: layers that were run; `met`: those whose attention was met, and of which kind;
            `added`: those that were biased.
    """

    reader: Reader
    grid: tuple[int, int]
    rows: slice
    images: tuple[int, ...]
    total: int
    width: int | None = None
    read: frozenset[str] = frozenset()
    biased: frozenset[str] = frozenset()
    bias: Bias | None = None
    texts: Mapping[str, Tensor] = field(default_factory=dict)
    split: Split | None = None
    stop: bool = False
    layers: dict[str, Layer] = field(default_factory=dict)
    replaying: bool = False
    """True during the backward pass, when checkpointed blocks run again."""
    entered: set[str] = field(default_factory=set)
    met: set[str] = field(default_factory=set)
    added: set[str] = field(default_factory=set)

    def attend(self, layer: AttentionLayer, attending: Attending) -> Tensor | None:
        """Read a layer; returns the mask to attend with, None to leave the call as it is."""
        site = self.reader.site(layer, attending, self.grid)
        self.refuse_other_shape(site, attending)
        self.met.add(layer.name)
        bias = None
        if self.bias is not None and layer.name in self.biased:
            bias = self.bias(BiasedLayer(site, self.images, attending, self.rows, self.reader))
        if bias is not None:
            self.added.add(layer.name)
        if layer.name in self.read:
            seen = Layer(site, self.reader.probabilities(site, attending, self.rows, bias))
            # A checkpointed block attends twice; the graph belongs to the first time.
            self.layers.setdefault(layer.name, seen)
            if self.stop and not self.replaying and len(self.layers) == len(self.read):
                raise StopForward
        return None if bias is None else self.reader.biased(site, attending, self.rows, bias)

    def refuse_other_shape(self, site: Site, attending: Attending) -> None:
        """Raise `ModelError` unless a layer attends from the call's rows and cells to its words."""
        image, columns = self.reader.places(site, attending)
        cells, h_w = len(range(attending.query.shape[2])[image]), site.grid[0] * site.grid[1]
        found = len(range(attending.key.shape[2])[columns])
        if attending.query.shape[0] != self.total:
            what = f"in {attending.query.shape[0]} rows, and the denoiser was called with "
            what += f"{self.total}: something splits or adds rows (perturbed attention?)"
        elif cells != h_w:
            what = f"from {cells} cells, and its grid has {h_w}: something merges or drops "
            what += "tokens (token merging, reference pictures?)"
        elif site.kind == "cross" and self.width is not None and found != self.width:
            what = f"to {found} text columns, and the text has {self.width}"
        else:
            return
        raise ModelError(
            f"{site.name} attends {what}, so guidance would fall on the wrong ones; take that off "
            "for guided calls, or leave the layer out with Memory(layers=...) where it is only read"
        )

    def mine(self) -> bool:
        """Whether the calling thread works for this pass.

        The autograd engine replays checkpointed blocks of CUDA modules in threads of its own,
        which have no context; those are never started by Python's threading module.
        """
        current = passing.get()
        if current is not None:
            return current is self
        return self.replaying and in_foreign_thread()

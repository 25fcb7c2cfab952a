"""What all pipelines around a transformer share, and those with joint attention in particular.

Maps come from a share of the depth in which words speak of places, on the one grid that a
transformer has; they are averaged over heads as they are read (`rows.py`). Steps are relative to
the latents' size (`docs/design/0006-transformers.md`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from adhere.errors import ModelError, PromptError
from adhere.guides.guide import Energy
from adhere.guides.maps import Read, Site
from adhere.pipelines.families.family import Family
from adhere.pipelines.families.rows import mean_over_heads
from adhere.pipelines.families.unet import restated
from adhere.pipelines.hooks.attending import Attending, AttentionLayer
from adhere.pipelines.hooks.compat import unwrapped
from adhere.pipelines.hooks.denoiser_call import Call
from adhere.pipelines.hooks.splitting import part_of_mask
from adhere.prompt.tokens import Piece, TokenisedPrompt, Track, tokenise

UNIT = 0.03
"""A published step of 20 as a share of the latents' RMS, as for SDXL."""


class TransformerFamily(Family):
    """A pipeline around `pipe.transformer`.

    Attributes:
        model: class name of the transformer.
        layers: pattern of the names of its attention layers that see text; the group is the block.
        depth: the share of those layers that maps are read from, first and last.
        patch: latent cells per map cell, from the model's config.
    """

    model: ClassVar[str]
    layers: ClassVar[str]
    depth: ClassVar[tuple[float, float]] = (0.25, 0.75)
    leading = "hidden_states"
    drop_padding = True

    @classmethod
    def knows(cls, pipe: Any) -> bool:
        transformer = unwrapped(getattr(pipe, "transformer", None))
        return type(transformer).__name__ == cls.model

    @property
    def denoiser(self) -> nn.Module:
        transformer: nn.Module = self.pipe.transformer
        return transformer

    @cached_property
    def config(self) -> Any:
        return unwrapped(self.denoiser).config

    @property
    def patch(self) -> int:
        return int(self.config.patch_size)

    # Attention

    def attention_layers(self) -> tuple[AttentionLayer, ...]:
        return self._found_layers

    @cached_property
    def _found_layers(self) -> tuple[AttentionLayer, ...]:
        names = [name for name, _ in unwrapped(self.denoiser).named_modules()]
        return tuple(
            AttentionLayer(name, "cross", self.patch)
            for name in names
            if re.fullmatch(self.layers, name)
        )

    def selectable(self, read: Read) -> tuple[AttentionLayer, ...]:
        return tuple(layer for layer in self.attention_layers() if layer.kind == read.kind)

    def wanted(self, read: Read) -> tuple[AttentionLayer, ...]:
        layers = self.selectable(read)
        if not layers:
            raise ModelError(
                f"{self.model} has no {read.kind} attention that could be read; plugins that need "
                f"{read.kind} maps do not work with {type(self.pipe).__name__}"
            )
        first, last = (int(share * len(layers)) for share in self.depth)
        return layers[first : max(last, first + 1)]

    def probabilities(
        self, site: Site, attending: Attending, rows: slice, bias: Tensor | None
    ) -> Float[Tensor, "rows one cells columns"]:
        """The exact probabilities, averaged over heads already: the heads' axis has size 1."""
        image, columns = self.places(site, attending)
        mapped = mean_over_heads(
            attending.query[rows][:, :, image],
            attending.key[rows],
            attending.scale,
            columns,
            part_of_mask(attending.mask, rows, image),
            bias,
        )
        return mapped[:, None]

    # Steps

    def restate(self, energy: Energy) -> Energy:
        return restated(energy, unit=UNIT)

    # Text

    def need(self, names: Sequence[str], what: str) -> None:
        """Refuse what needs a part that was left out of the pipeline."""
        for name in names:
            if getattr(self.pipe, name, None) is None:
                raise ModelError(
                    f"this {type(self.pipe).__name__} was loaded without its {name}, and {what}; "
                    f"load the pipeline with {name}, or leave out the plugin"
                )


class JointFamily(TransformerFamily):
    """One attention for picture and text: the map is the image rows x text columns of its matrix.

    Each layer serves two, `cross` for the text columns and `self` for the image columns.

    Attributes:
        text_first: whether text comes before the picture.
        beside: tokens of reference pictures, which follow the picture's own.
    """

    text_first: ClassVar[bool]
    beside: int = 0
    layer_texts = False
    joint = True

    @cached_property
    def _found_layers(self) -> tuple[AttentionLayer, ...]:
        found = super()._found_layers
        return found + tuple(
            replace(layer, name=f"{layer.name}#self", kind="self") for layer in found
        )

    def modules(self) -> dict[str, nn.Module]:
        named = super().modules()
        layers = [layer.name for layer in self.attention_layers()]
        return named | {name: named[name.removesuffix("#self")] for name in layers}

    def places(self, site: Site, attending: Attending) -> tuple[slice, slice]:
        total, cells = attending.key.shape[2], site.grid[0] * site.grid[1]
        if self.text_first:
            first = total - cells - self.beside
            image, text = slice(first, first + cells), slice(0, first)
        else:
            image, text = slice(0, cells), slice(cells, total)
        return image, image if site.kind == "self" else text

    def logits(
        self, site: Site, attending: Attending, rows: slice
    ) -> Float[Tensor, "rows heads cells columns"]:
        image, columns = self.places(site, attending)
        part = Attending(
            attending.query[:, :, image],
            attending.key[:, :, columns],
            attending.scale,
            part_of_mask(attending.mask, slice(None), image, columns),
        )
        return part.logits(rows)

    def biased(
        self, site: Site, attending: Attending, rows: slice, bias: Tensor
    ) -> Float[Tensor, "all_rows heads queries keys"]:
        image, columns = self.places(site, attending)
        query, key = attending.query, attending.key
        shape = (query.shape[0], bias.shape[1], query.shape[2], key.shape[2])
        mask = torch.zeros(shape, dtype=query.dtype, device=query.device)
        mask[rows, :, image, columns] = bias.to(query.dtype)
        return mask if attending.mask is None else mask + attending.mask


def track_prompt(
    tokenizer: Any, prompt: str, *, encoder: str, length: int, width: int, start: int = 0
) -> TokenisedPrompt:
    """A prompt whose columns begin at `start` of `width` text columns; padding is left out."""
    found = tokenise(
        tokenizer, prompt, encoder=encoder, length=length, width=width, drop_padding=True
    )
    return shifted(found, start)


def t5_track(tokenizer: Any, texts: Sequence[str], width: int, start: int = 0) -> Track:
    """Texts whose T5 columns begin at `start` of `width` text columns, up to the last."""
    length = width - start
    return Track(
        tuple(
            track_prompt(tokenizer, text, encoder="T5", length=length, width=width, start=start)
            for text in texts
        )
    )


def shifted(found: TokenisedPrompt, start: int) -> TokenisedPrompt:
    if not start:
        return found
    return replace(
        found,
        pieces=tuple(Piece(p.column + start, p.start, p.end) for p in found.pieces),
        keep=tuple(column + start for column in found.keep),
    )


def inside(found: TokenisedPrompt, prompt: str, lead: int) -> TokenisedPrompt:
    """The prompt's own tokens in a longer text that holds it behind `lead` characters."""
    end = lead + len(prompt)
    pieces = tuple(
        Piece(p.column, max(0, p.start - lead), min(p.end, end) - lead)
        for p in found.pieces
        if p.end > lead and p.start < end
    )
    keep = tuple(column for column in found.keep if column in {p.column for p in pieces})
    cut = None if found.cut is None or found.cut >= end else max(0, found.cut - lead)
    return replace(found, prompt=prompt, pieces=pieces, keep=keep, cut=cut)


def in_chat(render: Callable[[str], str], prompt: str) -> tuple[str, int]:
    """A prompt within its chat template, and the character that it begins at.

    Raises:
        PromptError: the template changes the prompt.
    """
    mark = "\ue000"  # of the private use area: in no template
    text, lead = render(prompt), render(mark).index(mark)
    if not text.startswith(prompt, lead):
        raise PromptError(
            f"the chat template makes {text[lead : lead + len(prompt)]!r} of {prompt!r}, so its "
            "words cannot be found; leave out blanks at its ends and marks such as [IMG]"
        )
    return text, lead


def first_columns(
    tokenizer: Any, texts: Sequence[str], width: int, most: int
) -> Bool[Tensor, "texts columns"]:
    """Of `width` columns those that hold a text's tokens, its end token with them, up to `most`."""
    counts = [len(ids) for ids in tokenizer(list(texts), verbose=False)["input_ids"]]
    return torch.arange(width) < torch.tensor(counts).clamp(max=most)[:, None]


def check_lengths(
    found: Sequence[TokenisedPrompt], seen: Sequence[int], pipe: Any, ends: int = 0
) -> None:
    """Compare the tokens found, and `ends` tokens around them, with those the model is shown.

    Raises:
        PromptError: the pipeline encoded another text than the prompt.
    """
    mine = sorted(len(one.pieces) + ends for one in found)
    if mine != sorted(seen):
        raise PromptError(
            f"{type(pipe).__name__} encoded a text of {seen[0]} tokens for "
            f"{found[0].prompt!r}, which has {len(found[0].pieces) + ends}: it was rewritten; "
            "pass clean_caption=False, or give the guidance the text that was encoded (prompt=...)"
        )


def rows_of(call: Call, name: str, rows: slice) -> Tensor:
    """A batched argument's conditional rows."""
    given: Tensor = call.values[name]
    return given[rows]

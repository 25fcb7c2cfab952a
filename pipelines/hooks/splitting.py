"""Extra texts in a layer's attention: split from the prompt, and joined as the guides say.

The columns of extra texts stand beside the prompt's. A split layer first attends as if they were
not there, so whatever reads or biases the layer sees the prompt alone. Then the guides may change
what the image cells get, with the outputs for any of the texts at hand; each extra text attends to
itself and the image. All of it is done with the layer's own kernel, by parts of the rows and
columns, so no mask over cells and columns is ever made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from adhere.errors import GuidanceError
from adhere.guides.guide import PROMPT
from adhere.guides.maps import Site
from adhere.pipelines.hooks.attending import (
    AttentionLayer,
    ExtraText,
    Pass,
    Split,
    additive,
    attending_of,
)

Part = tuple[Tensor, Tensor, Tensor | None]
"""Keys, values and an additive mask of some columns."""


@dataclass
class SplitAttention:
    """A split layer that has attended to the prompt: `adhere.guides.guide.Attention`.

    Attributes:
        base: what the conditional rows' cells got.
        query: of those cells.
        parts: keys and values of each text, by name.
        picture: of the image's own cells, and of what else is no text; None in cross attention.
        options: of the layer's own call, such as its scale.
    """

    site: Site
    images: tuple[int, ...]
    number: int
    count: int
    base: Float[Tensor, "batch heads cells channels"]
    query: Float[Tensor, "batch heads cells channels"]
    parts: Mapping[str, Part]
    picture: Part | None
    options: Mapping[str, Any]

    def output(
        self,
        texts: Mapping[str, float] | None = None,
        *,
        bias: Mapping[str, float] | None = None,
        cells: Bool[Tensor, "batch cells"] | None = None,
        among: Bool[Tensor, "batch cells"] | None = None,
    ) -> Float[Tensor, "batch heads cells channels"]:
        wanted = {PROMPT: 1.0} if texts is None else dict(texts)
        for name in (*wanted, *(bias or ())):
            if name not in self.parts:
                raise GuidanceError(
                    f"a guide attends to {name!r}, which is not among its columns: "
                    f"{', '.join(self.parts)}"
                )
        if wanted == {PROMPT: 1.0} and not bias and cells is None and among is None:
            return self.base
        return self.attended(wanted, bias or {}, cells, among)

    def under(self, names: Mapping[str, str]) -> SplitAttention:
        own = {name: self.parts[key] for name, key in names.items()}
        return replace(self, parts={PROMPT: self.parts[PROMPT], **own})

    def attended(
        self,
        texts: Mapping[str, float],
        bias: Mapping[str, float],
        cells: Bool[Tensor, "batch queries"] | None,
        among: Bool[Tensor, "batch cells"] | None,
    ) -> Float[Tensor, "batch heads queries channels"]:
        """What the queries get of some texts, and in joint attention of the image.

        Which cells there are is decided where the masks are, on the processor: asking an
        accelerator for it would make every layer wait.
        """
        query = self.query
        spoken = [_spoken(self.parts[name], by, bias.get(name)) for name, by in texts.items()]
        joined = _joined(spoken if self.picture is None else [*spoken, self.picture])
        if cells is None and (among is None or self.picture is None):
            return self._kernel(query, *joined)
        outputs = self.base.new_zeros(query.shape)  # under autocast other than the query
        words = sum(part[0].shape[2] for part in spoken)
        for row in range(len(query)):
            chosen = slice(None) if cells is None else cells[row].nonzero()[:, 0]
            kept = None
            if among is not None and self.picture is not None:
                kept = among.new_ones(joined[0].shape[2])
                kept[words : words + among.shape[1]] = among[row]
            mine = _row(joined, row, chosen, kept)
            outputs[row : row + 1, :, chosen] = self._kernel(query[row : row + 1, :, chosen], *mine)
        return outputs

    def _kernel(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, **self.options)


def _spoken(part: Part, factor: float, bias: float | None) -> Part:
    """A text's part with its values multiplied and its logits raised."""
    keys, values, mask = part
    if bias:
        shape = (1, 1, 1, keys.shape[2])
        mask = (keys.new_zeros(shape) if mask is None else mask) + bias
    return keys, values if factor == 1 else factor * values, mask


def _joined(parts: list[Part]) -> Part:
    """Several parts as one."""
    keys = torch.cat([part[0] for part in parts], dim=2)
    values = torch.cat([part[1] for part in parts], dim=2)
    masks = [part[2] for part in parts]
    if all(mask is None for mask in masks):
        return keys, values, None
    filled = [
        keys.new_zeros((1, 1, 1, part[0].shape[2])) if mask is None else mask
        for part, mask in zip(parts, masks, strict=True)
    ]
    shape = torch.broadcast_shapes(*(mask.shape[:-1] for mask in filled))
    return keys, values, torch.cat([mask.expand(*shape, -1) for mask in filled], dim=-1)


def _row(part: Part, row: int, queries: Any, kept: Tensor | None) -> Part:
    """One row of a part, for some queries, with some of its columns."""
    keys, values, mask = part
    keys, values = keys[row : row + 1], values[row : row + 1]
    if mask is not None and mask.shape[0] > 1:
        mask = mask[row : row + 1]
    if mask is not None and mask.shape[2] > 1:
        mask = mask[:, :, queries]
    if kept is not None:
        keys, values = keys[:, :, kept], values[:, :, kept]
        mask = None if mask is None else mask[..., kept]
    return keys, values, mask


class SplitCall:
    """The attention of a split layer: two modes around all that look into the layer.

    The inner one takes the extra texts out of the call and puts their outputs back; the outer one
    meets the call as those in between have left it, and lets the guides change its output.
    """

    def __init__(self, running: Pass, layer: AttentionLayer) -> None:
        self.running, self.layer = running, layer
        self._whole: dict[str, Any] = {}
        self._extra = slice(0, 0)
        self._spoken: Tensor | None = None

    def outer(self) -> TorchFunctionMode:
        return FirstAttention(self._coupled)

    def inner(self) -> TorchFunctionMode:
        return FirstAttention(self._without_extras)

    @property
    def split(self) -> Split:
        split = self.running.split
        assert split is not None  # or nothing would be split
        return split

    def _without_extras(self, kernel: Any, given: dict[str, Any]) -> Tensor:
        """The call without the extra texts, and its output with theirs."""
        reader, whole = self.running.reader, attending_of(given)
        site = reader.site(self.layer, whole, self.running.grid)
        first = reader.places(site, whole)[1].start or 0
        self._extra = slice(first + self.split.columns.start, first + self.split.columns.stop)
        self._whole = given
        output: Tensor = kernel(**without(given, self._extra, reader.joint))
        if not reader.joint:
            return output
        return put_back(output, self._extra, self._spoken, self.running.rows)

    def _coupled(self, kernel: Any, given: dict[str, Any]) -> Tensor:
        """The call on the prompt alone, and what the guides make of its output."""
        split, rows, reader = self.split, self.running.rows, self.running.reader
        output: Tensor = kernel(**given)
        attending = attending_of(given)
        site = reader.site(self.layer, attending, self.running.grid)
        self.running.refuse_other_shape(site, attending)
        split.met.add(self.layer.name)
        image, _ = reader.places(site, attending)
        seen = self._attention(given, site, output[rows][:, :, image])
        if reader.joint:
            said = [self._own(seen, extra) for extra in split.extras.values()]
            self._spoken = torch.cat(said, dim=2) if said else None
        changed = split.attend(seen)
        if changed is None:
            return output
        output = output.clone()
        output[rows, :, image] = changed.to(output.dtype)
        return output

    def _own(self, seen: SplitAttention, extra: ExtraText) -> Tensor:
        """What an extra text gets of itself and the image."""
        columns = self._columns(extra)
        assert seen.picture is not None  # since the attention is joint
        rows, whole = self.running.rows, attending_of(self._whole)
        beyond = _beyond(*self.running.reader.places(seen.site, whole))
        own = replace(
            seen,
            query=whole.query[rows][:, :, columns],
            parts={"": self._part(extra, columns)},
            picture=(*seen.picture[:2], part_of_mask(whole.mask, rows, columns, beyond)),
        )
        return own.attended({"": 1.0}, {}, None, extra.sees(seen.site.grid))

    def _columns(self, extra: ExtraText) -> slice:
        start = self._extra.start
        return slice(start + extra.columns.start, start + extra.columns.stop)

    def _part(self, extra: ExtraText, queries: slice) -> Part:
        """An extra text's keys and values, and which of its columns some queries may see."""
        rows, columns = self.running.rows, self._columns(extra)
        keys, values = (self._whole[name][rows][:, :, columns] for name in ("key", "value"))
        given = additive(self._whole.get("attn_mask"), keys.dtype)
        mask, hidden = part_of_mask(given, rows, queries, columns), _hidden(extra.shown, keys)
        if mask is None or hidden is None:
            return keys, values, hidden if mask is None else mask
        return keys, values, mask + hidden

    def _attention(self, given: dict[str, Any], site: Site, base: Tensor) -> SplitAttention:
        rows, reader = self.running.rows, self.running.reader
        image, text = reader.places(site, attending_of(given))
        query, key, value = (given[name][rows] for name in ("query", "key", "value"))
        mask = additive(given.get("attn_mask"), query.dtype)

        def part(columns: slice) -> Part:
            shown = part_of_mask(mask, rows, image, columns)
            return key[:, :, columns], value[:, :, columns], shown

        queries = reader.places(site, attending_of(self._whole))[0]
        part_of_model = self.layer.name.partition(".")[0]
        alike = [x for x in self.split.layers if x.partition(".")[0] == part_of_model]
        extras = self.split.extras.items()
        return SplitAttention(
            site=site,
            images=self.running.images,
            number=alike.index(self.layer.name),
            count=len(alike),
            base=base,
            query=query[:, :, image],
            parts={PROMPT: part(text), **{name: self._part(one, queries) for name, one in extras}},
            picture=part(_beyond(image, text)) if reader.joint else None,
            options={name: given[name] for name in given.keys() - set(_TENSORS)},
        )


def _beyond(image: slice, text: slice) -> slice:
    """What is no text: the image's own cells first, then reference pictures and filling."""
    return slice(0, text.start) if text.start else slice(image.start, None)


class RefiningCall:
    """The attention of a layer in which text attends to text: each text keeps to itself."""

    def __init__(self, running: Pass, name: str) -> None:
        self.running, self.name = running, name

    def mode(self) -> TorchFunctionMode:
        return FirstAttention(self._apart)

    def _apart(self, kernel: Any, given: dict[str, Any]) -> Tensor:
        split, rows = self.running.split, self.running.rows
        assert split is not None  # or nothing would be split
        split.met.add(self.name)
        output: Tensor = kernel(**without(given, split.columns, joint=True))
        said = [
            self._own(given, rows, shifted(extra.columns, split.columns.start), extra.shown)
            for extra in split.extras.values()
        ]
        return put_back(output, split.columns, torch.cat(said, dim=2) if said else None, rows)

    @staticmethod
    def _own(given: dict[str, Any], rows: slice, columns: slice, shown: Tensor) -> Tensor:
        query, key, value = (given[name][rows][:, :, columns] for name in _TENSORS[:3])
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=_hidden(shown, key), scale=given.get("scale")
        )


_TENSORS = ("query", "key", "value", "attn_mask")


class FirstAttention(TorchFunctionMode):
    """Hands the first attention call inside a module to a function."""

    def __init__(self, change: Callable[[Any, dict[str, Any]], Tensor]) -> None:
        super().__init__()
        self.change, self.seen = change, False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        # An IP-Adapter attends to the text first and then to its pictures.
        if func is not F.scaled_dot_product_attention or self.seen:
            return func(*args, **kwargs)
        self.seen = True
        names = (*_TENSORS, "dropout_p", "is_causal")
        return self.change(func, dict(zip(names, args, strict=False)) | kwargs)


def shifted(columns: slice, by: int) -> slice:
    return slice(columns.start + by, columns.stop + by)


def without(given: dict[str, Any], extra: slice, joint: bool) -> dict[str, Any]:
    """A call of attention without some columns; joint attention has queries of theirs too."""
    own = dict(given, key=_cut(given["key"], extra), value=_cut(given["value"], extra))
    if joint:
        own["query"] = _cut(given["query"], extra)
    own["attn_mask"] = _cut_mask(given.get("attn_mask"), extra, joint)
    return own


def put_back(output: Tensor, extra: slice, spoken: Tensor | None, rows: slice) -> Tensor:
    """An output with the extra texts' in its place, some rows'; zeros for others and filling."""
    said = output.new_zeros(*output.shape[:2], extra.stop - extra.start, output.shape[3])
    if spoken is not None:
        said[rows, :, : spoken.shape[2]] = spoken
    return torch.cat([output[:, :, : extra.start], said, output[:, :, extra.start :]], dim=2)


def _cut(tokens: Tensor, extra: slice) -> Tensor:
    """Tokens without the extra texts'."""
    return torch.cat([tokens[:, :, : extra.start], tokens[:, :, extra.stop :]], dim=2)


def _cut_mask(mask: Tensor | None, extra: slice, joint: bool) -> Tensor | None:
    """A mask of any rank without the extra texts' columns, and queries where they have some."""
    if mask is None:
        return None
    if mask.shape[-1] > 1:
        mask = torch.cat([mask[..., : extra.start], mask[..., extra.stop :]], dim=-1)
    if joint and mask.ndim > 1 and mask.shape[-2] > 1:
        mask = torch.cat([mask[..., : extra.start, :], mask[..., extra.stop :, :]], dim=-2)
    return mask


def _hidden(shown: Bool[Tensor, "rows columns"], like: Tensor) -> Tensor | None:
    """The additive mask over a text's columns; a row without any text has all, to no effect."""
    shown = shown | ~shown.any(dim=1, keepdim=True)
    if bool(shown.all()):
        return None
    hidden = torch.zeros_like(shown, dtype=like.dtype).masked_fill(~shown, -torch.inf)
    return hidden[:, None, None].to(like.device)


def part_of_mask(
    mask: Tensor | None, rows: slice, image: slice, columns: slice = slice(None)
) -> Tensor | None:
    """An additive mask for some rows of the batch, some queries and some keys."""
    if mask is None:
        return None
    while mask.ndim < 4:
        mask = mask[:, None]
    mask = mask[rows] if mask.shape[0] > 1 else mask
    mask = mask[:, :, image] if mask.shape[2] > 1 else mask
    return mask[..., columns]

"""Attention maps without the attention matrix: chosen columns, averaged over heads.

A transformer's attention at picture size does not fit in memory (FLUX at 1024 px: 24 heads x 4608 x
4608, 2 GB in float32 for one layer), and a guide looks at a few hundred of its columns. Here each
chunk of image rows gets its logits over *all* keys, so the softmax is exact, and leaves only its
wanted columns, averaged over the heads. The backward pass computes the chunks again, so nothing is
kept but the queries and keys that attention keeps anyway.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK = 2**23
"""Logits that are held at once: 32 MiB in float32."""


def mean_over_heads(
    query: Float[Tensor, "batch heads rows channels"],
    key: Float[Tensor, "batch key_heads keys channels"],
    scale: float,
    columns: slice,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> Float[Tensor, "batch rows columns"]:
    """softmax(scale q k^T + mask)[:, columns], averaged over heads.

    Args:
        query: of the image rows.
        key: of everything the rows attend to.
        scale: factor on the products.
        columns: which keys' probabilities are wanted.
        mask: additive, broadcastable to `batch heads rows keys`.
        bias: additive, broadcastable to `batch heads rows columns`; takes no gradient.

    Returns:
        In float32, or float64 for models of that precision; differentiable in query and key, once.
    """
    if key.shape[1] != query.shape[1]:  # grouped queries share keys
        key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    mapped: Tensor = _Rows.apply(query, key, mask, bias, scale, columns)
    return mapped


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        bias: Tensor | None,
        scale: float,
        columns: slice,
    ) -> Tensor:
        ctx.save_for_backward(query, key, mask, bias)
        ctx.scale, ctx.columns = scale, columns
        wide = torch.promote_types(query.dtype, torch.float32)
        width = len(range(key.shape[2])[columns])
        mapped = query.new_empty((query.shape[0], query.shape[2], width), dtype=wide)
        across = key.to(wide).transpose(-1, -2)
        for rows in _chunks(query, key):
            whole = _softmax(query, across, mask, bias, scale, columns, rows)
            mapped[:, rows] = whole[..., columns].mean(dim=1)
        return mapped

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        query, key, mask, bias = ctx.saved_tensors
        scale, columns = ctx.scale, ctx.columns
        wide = torch.promote_types(query.dtype, torch.float32)
        along = key.to(wide)
        across = along.transpose(-1, -2)
        by_query = torch.empty_like(query)
        by_key = torch.zeros_like(along)
        share = outer[0] / query.shape[1]
        for rows in _chunks(query, key):
            whole = _softmax(query, across, mask, bias, scale, columns, rows)
            wanted = share[:, None, rows]
            weighted = whole[..., columns] * wanted
            # d softmax: p (g - sum g p), with g zero outside the columns.
            slope = whole.mul_(-weighted.sum(dim=-1, keepdim=True))
            slope[..., columns] += weighted
            by_query[:, :, rows] = (scale * (slope @ along)).to(query.dtype)
            by_key += scale * (slope.transpose(-1, -2) @ query[:, :, rows].to(wide))
        return by_query, by_key.to(key.dtype), None, None, None, None


def _softmax(
    query: Tensor,
    across: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    scale: float,
    columns: slice,
    rows: slice,
) -> Float[Tensor, "batch heads rows keys"]:
    logits = (query[:, :, rows].to(across.dtype) @ across).mul_(scale)
    if mask is not None:
        logits += _rows_of(mask, rows).to(logits.dtype)
    if bias is not None:
        logits[..., columns] += _rows_of(bias, rows).to(logits.dtype)
    return logits.softmax(dim=-1)


def _rows_of(added: Tensor, rows: slice) -> Tensor:
    return added if added.shape[-2] == 1 else added[..., rows, :]


def _chunks(query: Tensor, key: Tensor) -> list[slice]:
    batch, heads, count, _ = query.shape
    size = max(1, CHUNK // (batch * heads * key.shape[2]))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]

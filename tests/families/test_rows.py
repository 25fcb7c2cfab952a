"""Attention maps without the attention matrix."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from adhere.pipelines.families import rows
from adhere.pipelines.families.rows import mean_over_heads


def tensors(dtype: torch.dtype = torch.float64, key_heads: int = 4) -> tuple[Tensor, Tensor]:
    query = torch.randn(2, 4, 7, 8, dtype=dtype)
    key = torch.randn(2, key_heads, 11, 8, dtype=dtype)
    return query.requires_grad_(), key.requires_grad_()


def explicit(query: Tensor, key: Tensor, columns: slice, added: Any = 0.0) -> Tensor:
    logits = torch.einsum("bhnd,bhmd->bhnm", query, key) * 0.3 + added
    weights = logits.exp() / logits.exp().sum(-1, keepdim=True)
    return weights[..., columns].sum(1) / query.shape[1]


@pytest.mark.parametrize("size", [1, 4 * 2 * 11 * 3, 10**6], ids=["row-by-row", "three", "all"])
def test_values_and_gradients_are_those_of_the_whole_matrix(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "CHUNK", size)
    query, key = tensors()
    columns = slice(2, 6)
    mask = torch.zeros(2, 1, 1, 11, dtype=torch.float64)
    mask[0, ..., 9:] = -torch.inf
    bias = torch.randn(2, 1, 7, 4, dtype=torch.float64)
    added = mask.expand(2, 4, 7, 11).clone()
    added[..., columns] += bias
    ours = mean_over_heads(query, key, 0.3, columns, mask, bias)
    theirs = explicit(query, key, columns, added)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(theirs)
    for mine, other in zip(
        torch.autograd.grad((ours * weight).sum(), [query, key]),
        torch.autograd.grad((theirs * weight).sum(), [query, key]),
        strict=True,
    ):
        torch.testing.assert_close(mine, other)


def test_gradients_pass_torchs_own_check() -> None:
    query, key = tensors()

    def mapped(query: Tensor, key: Tensor) -> Tensor:
        return mean_over_heads(query, key, 0.3, slice(3, None))

    assert torch.autograd.gradcheck(mapped, (query, key))


def test_grouped_queries_share_keys() -> None:
    query, key = tensors(key_heads=2)
    whole = key.repeat_interleave(2, dim=1)
    ours = mean_over_heads(query, key, 0.3, slice(None))
    torch.testing.assert_close(ours, explicit(query, whole, slice(None)))
    (slope,) = torch.autograd.grad(ours[..., 2].sum(), [key])
    assert slope.shape == key.shape


def test_half_precision_is_summed_in_single() -> None:
    query, key = tensors(torch.bfloat16)
    ours = mean_over_heads(query, key, 0.3, slice(0, 5))
    assert ours.dtype == torch.float32
    exact = explicit(query.double(), key.double(), slice(0, 5))
    torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-6)
    assert torch.autograd.grad(ours.sum(), [query])[0].dtype == torch.bfloat16


def test_nothing_is_kept_but_queries_and_keys() -> None:
    """What attention keeps anyway; not a logit."""
    query, key = tensors(torch.float32)
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        mean_over_heads(query, key, 0.3, slice(0, 5))
    assert set(kept) == {query.data_ptr(), key.data_ptr()}

"""One call of a denoiser, with its arguments by name, and cuts of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from adhere.pipelines.hooks.compat import unwrapped


def differentiable() -> AbstractContextManager[Any]:
    """Where callers are in inference mode, a stretch that is not."""
    return torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()


def normal(tensor: Tensor) -> Tensor:
    """A tensor that autograd may save, also if it was made in inference mode."""
    if not tensor.is_inference():
        return tensor
    with torch.inference_mode(False):
        return tensor.clone()


def single(tensor: Tensor) -> Tensor:
    """In single precision at least: what probabilities, losses and steps are computed in."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


@dataclass(frozen=True)
class Call:
    """Arguments of one denoiser call, bound to their names.

    `rows` is the size of the batch axis; tensors with another leading size are not batched, nor
    are the arguments named in `shared`. `positional` is how many were given by position: other
    hooks on the denoiser may look for them there.
    """

    values: Mapping[str, Any]
    rows: int
    shared: frozenset[str] = frozenset()
    positional: int = 0

    @classmethod
    def bind(
        cls,
        denoiser: nn.Module,
        args: Any,
        kwargs: Any,
        leading: str,
        shared: frozenset[str] = frozenset(),
    ) -> Call:
        # The class's own: the instance's may have been exchanged for one that only passes on.
        signature = inspect.signature(type(unwrapped(denoiser)).forward)
        values = dict(signature.bind(None, *args, **kwargs).arguments)
        del values[next(iter(values))]
        # A decorated forward may gather what it does not name.
        values.update(values.pop("kwargs", {}))
        return cls(values, _rows(values[leading]), shared, len(args))

    def replace(self, **values: Any) -> Call:
        return replace(self, values={**self.values, **values})

    def select(self, index: slice | Tensor) -> Call:
        """Only these rows of every batched tensor."""
        count = len(range(self.rows)[index]) if isinstance(index, slice) else index.numel()
        return replace(self, values=self._each(lambda tensor: tensor[index]), rows=count)

    def repeat_rows(self, rows: slice, times: int) -> Call:
        """The whole batch with some of its rows again, `times` over, at its end."""
        extra = len(range(self.rows)[rows]) * times
        values = self._each(lambda tensor: torch.cat([tensor, *[tensor[rows]] * times]))
        return replace(self, values=values, rows=self.rows + extra)

    def normal(self) -> Call:
        """The same with tensors that autograd may save (callers may be in inference mode)."""
        return replace(self, values=_walk(self.values, normal))

    def _each(self, change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        def batched(tensor: Tensor) -> Tensor:
            return change(tensor) if tensor.ndim > 0 and tensor.shape[0] == self.rows else tensor

        return {
            name: value if name in self.shared else _walk(value, batched)
            for name, value in self.values.items()
        }


def _rows(leading: Any) -> int:
    return int(leading.shape[0]) if isinstance(leading, Tensor) else len(leading)


def _walk(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _walk(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_walk(item, change) for item in value)
    return value

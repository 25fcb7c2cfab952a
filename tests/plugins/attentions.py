"""A layer's attention made of random numbers, and softmax over any columns by loops."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from adhere.guides.guide import PROMPT
from adhere.guides.maps import Site
from adhere.pipelines.hooks.splitting import SplitAttention

GRID = (4, 3)
CELLS = 12


def made(
    widths: Mapping[str, int], batch: int = 1, joint: bool = True, seed: int = 0
) -> SplitAttention:
    """Texts of so many columns each, with two heads of five channels, in double precision."""
    torch.manual_seed(0)

    def part(columns: int) -> tuple[Tensor, Tensor, None]:
        shape = (batch, 2, columns, 5)
        return torch.randn(shape).double(), torch.randn(shape).double(), None

    attention = SplitAttention(
        site=Site("block", "cross", GRID, 2),
        images=tuple(range(batch)),
        number=0,
        count=1,
        base=torch.zeros(0),
        query=torch.randn(batch, 2, CELLS, 5).double(),
        parts={PROMPT: part(4), **{name: part(columns) for name, columns in widths.items()}},
        picture=part(CELLS) if joint else None,
        options={},
    )
    attention.base = attention.attended({PROMPT: 1.0}, {}, None, None)
    return attention


def slowly(
    attention: SplitAttention,
    image: int,
    cell: int,
    texts: Mapping[str, tuple[float, float]],
    among: Sequence[bool] | None = None,
) -> Tensor:
    """What a cell gets, `Float[heads channels]`: factor and added logit of each text, by loops."""
    outputs = []
    for head in range(2):
        query = attention.query[image, head, cell]
        logits, values = [], []
        for name, (factor, bias) in texts.items():
            keys, given, _ = attention.parts[name]
            for column in range(keys.shape[2]):
                logits.append(query @ keys[image, head, column] / math.sqrt(5) + bias)
                values.append(factor * given[image, head, column])
        if attention.picture is not None:
            keys, given, _ = attention.picture
            for other in range(CELLS):
                if among is None or among[other]:
                    logits.append(query @ keys[image, head, other] / math.sqrt(5))
                    values.append(given[image, head, other])
        shares = torch.stack(logits).softmax(0)
        outputs.append(sum(s * v for s, v in zip(shares, values, strict=True)))
    return torch.stack(outputs)

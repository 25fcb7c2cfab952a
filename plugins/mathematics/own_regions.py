"""Regions of several images' layouts, by number: where each lies, and how loud it is when."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from adhere.layout.layout import Layout
from adhere.layout.region import QUIETEST, Region

FAINT = 0.05
"""The share of a cell below which a region is not to be seen in a picture."""


class OwnRegions:
    """The regions of each image of a batch; images may have different numbers of them."""

    def __init__(self, layouts: Sequence[Layout]) -> None:
        self.layouts = layouts
        self.numbers = range(max(len(one.regions) for one in layouts))
        self.all = tuple(dict.fromkeys(region for one in layouts for region in one.regions))
        self._covers: dict[tuple[int, int], Float[Tensor, "batch regions cells"]] = {}

    def each(self, number: int) -> list[Region | None]:
        """The region of a number in each image, if it has so many."""
        have = self.layouts
        return [one.regions[number] if number < len(one.regions) else None for one in have]

    def texts(self, negative: str = "") -> dict[str, list[str | None]]:
        """What each region says, and its negative, where some image's has one.

        Args:
            negative: of regions that have none; none where it is empty.
        """
        said = {f"region {k}": [r.said if r else None for r in self.each(k)] for k in self.numbers}
        against = {
            f"not {k}": [(r.denied or negative) or None if r else None for r in self.each(k)]
            for k in self.numbers
        }
        return said | {name: texts for name, texts in against.items() if any(texts)}

    def kept(self, base: float) -> list[float]:
        """The base prompt's share of each image's regions: its layout's, or else `base`.

        One that leaves the regions less than the quietest of them may be is all.
        """
        given = [base if one.base is None else one.base for one in self.layouts]
        return [1.0 if 1 - share < QUIETEST else share for share in given]

    @property
    def adapters(self) -> tuple[str, ...]:
        """The adapters that regions name."""
        return tuple(dict.fromkeys(region.lora for region in self.all if region.lora))

    def loud(self, progress: float) -> Float[Tensor, "batch regions 1"]:
        """The strength of each region in its share of the run, 0 outside it."""
        strengths = [
            [r.strength * (r.start <= progress < r.stop) if r else 0.0 for r in self.each(k)]
            for k in self.numbers
        ]
        return weights(strengths).T[..., None]

    def covers(self, grid: tuple[int, int]) -> Float[Tensor, "batch regions cells"]:
        """The share of each cell that each region takes."""
        if grid not in self._covers:
            size = len(self.layouts), len(self.numbers), grid[0] * grid[1]
            covers = torch.zeros(size, dtype=torch.float32, device="cpu")
            for image, layout in enumerate(self.layouts):
                covers[image, : len(layout.regions)] = layout.masks(grid).flatten(1)
            self._covers[grid] = covers
        return self._covers[grid]

    def naming(self, adapter: str) -> Bool[Tensor, "batch regions"]:
        """Which regions name an adapter."""
        own = [[r is not None and r.lora == adapter for r in self.each(k)] for k in self.numbers]
        return torch.tensor(own, device="cpu").T

    def faint(self, grid: tuple[int, int]) -> list[str]:
        """A sentence for each region that has next to nothing of any cell of a grid."""
        found = []
        for layout in dict.fromkeys(self.layouts):
            most = layout.masks(grid).amax(dim=(1, 2)).tolist()
            for region, share in zip(layout.regions, most, strict=True):
                if share < FAINT:
                    found.append(
                        f"region {region.label!r} has {share:.1%} of a cell of the picture's "
                        f"latents at the most, so it is hardly heard; make it larger"
                        + (", or its feather smaller" if region.feather else "")
                    )
        return list(dict.fromkeys(found))

    def unheard(self, steps: int, stop: float) -> list[str]:
        """A sentence for each region that no step of a run hears, which ends at `stop`."""
        found = []
        for region in self.all:
            until = min(region.stop, stop)
            if not any(region.start <= k / steps < until for k in range(steps)):
                found.append(
                    f"region {region.label!r} is never heard: none of the {steps} steps lies "
                    f"between {region.start:g} and {until:g} of the run; widen its start and stop"
                )
        return found


def weights(numbers: Sequence[float] | Sequence[Sequence[float]]) -> Tensor:
    """Numbers as a tensor where masks are, whatever a program has as its default.

    Half precision would take a share of 0.9999 for all, and the accelerator would make every layer
    wait for what is decided by them.
    """
    return torch.tensor(numbers, dtype=torch.float32, device="cpu")


def number_of(name: str) -> int:
    """Which region a column of texts is of."""
    return int(name.split()[1])

"""Initial image editing (Mao et al., ACM MM 2023, arXiv:2305.03382): noise moved to the regions.

A text says what is drawn, and the starting noise where: blocks of noise tend to become certain
things wherever they are. So look what becomes of the noise under each region's text alone, and move
the block in which its thing appears to where the region is. No gradient.

    D_r     = |x0(n; text r) - mean over the other texts and none of x0(n; text)|     in each cell
    shift_r = argmax over d of sum over the region's cells c of D_r[c - d]
    n'[c]   = n[c - shift_r]        in the region and a margin about it, n[c] elsewhere

x0(n; text) is the picture that the model predicts of the noise at `look_at` of the run, in a few
strides, with the text in the prompt's place. Two pictures of one noise differ where one has a thing
that the other has not (as in DiffEdit, arXiv:2210.11427).

Differs from the paper: there the first step's attention tells which blocks tend to a word, and the
most inclined of the whole picture are put into the region one by one; here a block keeps its
shape, so that a thing stays whole, and is found later in the run, since the first step says
nothing of some models' pictures (docs/results.md). What is moved is copied, not exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from adhere.guides.guide import Guide, Look, Step, passes_of_preview
from adhere.guides.parameters import Method, param, share
from adhere.guides.run import Run
from adhere.layout.layout import Layout
from adhere.plugins.mathematics.own_regions import OwnRegions

NOTHING = "nothing"
"""The name of the empty text's columns."""
USUAL = 8
"""Regions that the cost is counted for where the layout is the call's."""


@dataclass(frozen=True)
class MovedNoise(Method):
    """Move the part of the starting noise that would become a region's thing into the region."""

    name: ClassVar[str] = "moved-noise"
    task: ClassVar[str] = "place"

    layout: Layout | None = param(None, "regions with phrases or texts; else the call's")
    look_at: float = share(0.36, "share of the run at which is looked; 0 moves nothing")
    margin: float = share(0.12, "of the picture's side, how far about a region noise is moved, too")

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)

    def extra_passes(self, steps: int) -> int:
        """Passes that it adds to one picture at the most, of up to 8 regions of a call's layout."""
        regions = USUAL if self.layout is None else len(self.layout.regions)
        return (regions + 1) * passes_of_preview(self.look_at) if self.look_at else 0


class _Guide(Guide):
    def __init__(self, plugin: MovedNoise, run: Run) -> None:
        self.plugin = plugin
        self.regions = OwnRegions(run.own_texts(plugin.layout, heeds=("text",)))
        self.off = plugin.look_at == 0 or not run.from_noise(plugin.name)
        said = {
            f"region {k}": [region.said if region else None for region in self.regions.each(k)]
            for k in self.regions.numbers
        }
        self.columns = {**said, NOTHING: [""] * run.batch}
        self.shifts: list[list[tuple[int, int]]] = []

    def attends(self, step: Step) -> bool:
        return False

    @torch.no_grad()
    def initial(
        self, noise: Float[Tensor, "batch channels h w"], look: Look
    ) -> Float[Tensor, "batch channels h w"]:
        becomes: list[list[Tensor]] = [[] for _ in noise]
        for name, texts in self.columns.items():
            images = [image for image, text in enumerate(texts) if text is not None]
            seen = look.latents(noise[images], images, self.plugin.look_at, name)
            for image, latents in zip(images, seen, strict=True):
                becomes[image].append(latents)
        placed = [self._placed(image, one, becomes[image]) for image, one in enumerate(noise)]
        return torch.stack(placed)

    def _placed(self, image: int, noise: Tensor, becomes: list[Tensor]) -> Tensor:
        """One image's noise, given what becomes of it under each region's text, and under none."""
        size = (noise.shape[-2], noise.shape[-1])
        *seen, _ = apart(torch.stack(becomes).float())
        regions = self.regions.layouts[image].masks(size).to(noise.device)
        shifts = [shift(one, region) for one, region in zip(seen, regions, strict=True)]
        self.shifts.append(shifts)
        owner = owners(regions, round(self.plugin.margin * min(size)))
        placed = noise
        for number, by in enumerate(shifts):
            placed = torch.where(owner == number, noise.roll(by, (1, 2)), placed)
        return placed

    def report(self) -> dict[str, Any]:
        return {"shifts": self.shifts}


def apart(
    pictures: Float[Tensor, "texts channels h w"],
) -> Float[Tensor, "texts h w"]:
    """How far each of some pictures of one noise is from the mean of the others, in every cell."""
    others = (pictures.sum(dim=0) - pictures) / (len(pictures) - 1)
    return (pictures - others).square().sum(dim=1).sqrt()


def shift(seen: Float[Tensor, "h w"], region: Float[Tensor, "h w"]) -> tuple[int, int]:
    """How many cells down and right most of what is seen comes to lie in a region."""
    if not region.any():  # too small for this grid
        return 0, 0
    rows, columns = ((region.amax(dim=axis) > 0).nonzero()[:, 0] for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    shape = region[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    within = F.conv2d(seen[None, None], shape[None, None])[0, 0]
    y, x = divmod(int(within.argmax()), within.shape[1])
    return top - y, left - x


def owners(regions: Float[Tensor, "regions h w"], margin: int) -> Tensor:
    """Which region's noise each cell gets, `Int[h w]`: one that has the most of it, or is near to
    it; -1 for none.
    """
    near = F.max_pool2d(regions[:, None], 2 * margin + 1, 1, margin)[:, 0]
    most, owner = (2 * regions + near).max(dim=0)
    return torch.where(most > 0, owner, -1)

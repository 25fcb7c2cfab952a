"""Self-Cross guidance (Qiu et al., CVPR 2025, arXiv:2411.18936).

Two alike subjects blend when the cells of one look at the cells of the other. Each subject's cells
should look where no other subject's word is.

    C_s   = Attend-and-Excite's smoothed share of subject s; O_s its cells above Otsu's threshold
    S_s   = sum over the cells p of O_s of C_s[p] smooth(self attention of p), scaled to sum to 1
    cross = mean over ordered pairs (s, r) of sum min(S_s, C_r)
    L     = response + 0.1 clean + cross       cross left out while the response is above 0.5
    x    <- x - alpha_i grad L                 as Attend-and-Excite, half of the steps

response and clean are InitNO's. At 0.2 and 0.4 of the run the step is repeated until the response
is below 0.2 and cross below 0.3, 20 times at the most. On grids of more than 16 rows C_r too is
scaled to sum to 1.

The authors put this on top of InitNO, which finds a noise first: `initno:step_size=0+self-cross`.
Differs from their code (mengtang-lab/selfcross-guidance@b68239d): batches, each image refined
alone; their repeated steps also have InitNO's drift from earlier maps, at 0.1, which is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides.energy import EnergyGuide, SubjectMethod
from adhere.guides.guide import Energy, Guide, Step
from adhere.guides.maps import Maps, Read
from adhere.guides.parameters import param, share, step_length
from adhere.guides.run import Run
from adhere.plugins.mathematics.attention import decayed, smooth
from adhere.plugins.mathematics.noise import HOPELESS, clean, otsu, response, subject_maps
from adhere.prompt.tokens import Phrase

FINE = 16
"""Rows of a grid above which the authors scale the words' maps, too."""


@dataclass(frozen=True)
class SelfCross(SubjectMethod):
    """Keep subjects that look alike from blending into one another."""

    name: ClassVar[str] = "self-cross"
    task: ClassVar[str] = "bind"
    reads = frozenset({Read("cross"), Read("self")})

    subjects: tuple[str, ...] | None = param(
        None, "phrases to keep apart; the parser's nouns if left out", source="paper"
    )
    step_size: float = step_length(20.0, source="code@b68239d")
    stop: float = share(0.5, "share of the steps that are guided", source="code@b68239d")
    weight: float = param(1.0, "weight of cross", low=0, high=100, source="code@b68239d")
    refine_at: tuple[float, ...] = share(
        (0.2, 0.4), "shares of the run at which to refine", source="code@b68239d"
    )
    response: float = share(0.2, "response to reach at those", source="code@b68239d")
    crossing: float = share(0.3, "cross to reach at those", source="code@b68239d")
    refinements: int = param(20, "at the most, each time", low=0, high=200, source="code@b68239d")

    def guide(self, run: Run) -> Guide:
        guide = _Guide(self, run)
        for prompt, own in zip(run.prompts, guide.wanted, strict=True):
            if len(own) < 2:
                run.note(f"{self.name} keeps nothing apart in {prompt.plain!r}: one subject")
        return guide

    def extra_passes(self, steps: int) -> int:
        """Passes that it adds to one picture at the most."""
        return self.guided(steps) + len(self.refine_at) * self.refinements


class _Guide(EnergyGuide[tuple[Phrase, ...]]):
    plugin: SelfCross

    def energy(self, step: Step, maps: Maps) -> Energy:
        plugin, spots = self.plugin, subject_maps(maps, self.wanted)
        own = maps.self((spots[0].shape[1], spots[0].shape[2]))
        found = torch.stack([response(one) for one in spots])
        pairs = torch.stack([crossing(*one) for one in zip(own, spots, strict=True)])
        pairs = torch.where(found.detach() > HOPELESS, 0.0, pairs)
        loss = found + 0.1 * clean(spots) + plugin.weight * pairs
        size = plugin.step_size * decayed(step)
        if not any(step.at(share) for share in plugin.refine_at):
            return Energy(loss, size)
        # One target for two conditions, said image by image.
        short = (found > plugin.response) | (pairs > plugin.crossing)
        target = torch.where(short, loss.detach() - 1, torch.inf)
        return Energy(loss, size, target=target, at_most=plugin.refinements)


def crossing(
    own: Float[Tensor, "h w h w"], spots: Float[Tensor, "subjects h w"]
) -> Float[Tensor, ""]:
    """cross: how much the subjects' cells look where other subjects' words are."""
    if len(spots) < 2:
        return own.sum() * 0
    chosen = torch.where(spots < otsu(spots.detach())[:, None, None], 0.0, spots).flatten(1)
    looks = (chosen @ smooth(own.flatten(0, 1)).flatten(1)).view_as(spots)
    looks = looks / looks.sum(dim=(1, 2), keepdim=True)
    if spots.shape[1] > FINE:
        spots = spots / spots.sum(dim=(1, 2), keepdim=True)
    shared = torch.minimum(looks[:, None], spots[None]).sum(dim=(2, 3))
    others = ~torch.eye(len(spots), dtype=torch.bool, device=spots.device)
    return shared[others].mean()

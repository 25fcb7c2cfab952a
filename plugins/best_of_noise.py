"""Best of noise: draw several starting noises and keep the one whose attention promises most.

The gradient-free sibling of InitNO (Guo et al., CVPR 2024, arXiv:2404.04650): its two scores of one
conditional pass at the first timestep, on noises that are drawn, not optimised. Scoring random
noise by such losses helps in every backbone, and flattens after a dozen draws (arXiv:2506.12633).

    response = 1 - min over s of m_s          m_s: Attend-and-Excite's peak of subject s
    B_s      = smooth(row of the self attention at the cell of that peak)
    conflict = mean over pairs (r, s) of sum min(B_r, B_s) / sum (B_r + B_s)         in [0, 1/2]
    rank     = response + conflict            smallest wins; see `Scores.rank`
    clean    = sum over s of the highest peak beside the main one, if it tops the main one's lowest

The given noise is a candidate too. The last term is InitNO's alone, from the authors' code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from adhere.guides import parameters
from adhere.guides.guide import Guide, Look, Step
from adhere.guides.maps import Maps, Read
from adhere.guides.parameters import param
from adhere.guides.run import Run
from adhere.plugins.attend_and_excite import smooth, token_shares
from adhere.prompt.tokens import Phrase

TEMPERATURE, SMOOTHING = 100.0, 0.5
"""As in Attend-and-Excite, to which all thresholds were tuned (`pipeline_sd_initno.py@aadf9fb`)."""
HOPELESS = 0.5
"""A response above this leaves the conflict out of account (`pipeline_sd_initno.py@aadf9fb`)."""


@dataclass(frozen=True)
class BestOfNoise:
    """Try several starting noises and keep the most promising."""

    name: ClassVar[str] = "best-of-noise"

    subjects: tuple[str, ...] | None = param(
        None, "phrases that must appear; the parser's nouns if left out", source="sec. 3.2"
    )
    candidates: int = param(
        10, "noises to score, the given one included", low=1, high=1000, source="chosen here"
    )
    together: int = param(
        1, "candidates scored in one pass, faster and larger", low=1, high=64, source="chosen here"
    )

    def __post_init__(self) -> None:
        parameters.check(self)

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)


class _Guide(Guide):
    reads = frozenset({Read("cross"), Read("self")})

    def __init__(self, plugin: BestOfNoise, run: Run) -> None:
        self.plugin = plugin
        self.subjects = run.subjects(plugin.subjects)
        self.ranks: list[list[float]] = []

    def guides(self, step: Step) -> bool:
        return False

    @torch.no_grad()
    def initial(
        self, noise: Float[Tensor, "batch channels h w"], look: Look
    ) -> Float[Tensor, "batch channels h w"]:
        batch, plugin = len(noise), self.plugin
        images = tuple(range(batch))
        best, lowest = noise, noise.new_full((batch,), torch.inf)
        for start in range(0, plugin.candidates, plugin.together):
            draws = range(start, min(start + plugin.together, plugin.candidates))
            tried = [noise if draw == 0 else look.fresh(images, draw) for draw in draws]
            maps = look(torch.cat(tried), images * len(tried))
            ranks = scores(maps, lit(maps, self.subjects)).rank().nan_to_num(torch.inf).to(lowest)
            for one, rank in zip(tried, ranks.view(len(tried), batch), strict=True):
                self.ranks.append(rank.tolist())
                better = rank < lowest
                lowest = torch.where(better, rank, lowest)
                best = torch.where(better[:, None, None, None], one, best)
        return best

    def report(self) -> dict[str, Any]:
        ranks = [list(of_image) for of_image in zip(*self.ranks, strict=True)]
        return {"ranks": ranks, "chosen": [one.index(min(one)) for one in ranks]}


@dataclass(frozen=True)
class Scores:
    """What the first pass says about each image, lower being better."""

    response: Float[Tensor, " batch"]
    conflict: Float[Tensor, " batch"]

    def weighed(self) -> Float[Tensor, " batch"]:
        """The conflict, which says nothing yet while a subject has no place at all."""
        return torch.where(self.response > HOPELESS, 0.0, self.conflict)

    def rank(self) -> Float[Tensor, " batch"]:
        """The sum; a conflict of nothing is no merit, so it costs one."""
        weighed = self.weighed()
        return self.response + weighed + (weighed <= 1e-6)


def lit(maps: Maps, subjects: Sequence[Sequence[Phrase]]) -> list[Float[Tensor, "_subjects h w"]]:
    """For every row of the maps the smoothed token shares of its image's subjects.

    `subjects` are those of all images of the run. Of a word in several pieces the map of the
    strongest is taken.
    """
    shares = token_shares(maps.cross(), maps.keep, TEMPERATURE)
    found = []
    for image, one in zip(maps.images, shares, strict=True):
        chosen = []
        for word in subjects[image]:
            pieces = smooth(one[:, :, list(word.head[maps.track])].permute(2, 0, 1), SMOOTHING)
            chosen.append(pieces[pieces.flatten(1).amax(dim=1).argmax()])
        found.append(torch.stack(chosen))
    return found


def scores(maps: Maps, spots: Sequence[Float[Tensor, "_subjects h w"]]) -> Scores:
    """Both scores of every row of the maps, whose subjects' maps are `spots`."""
    own = maps.self((spots[0].shape[1], spots[0].shape[2]))
    return Scores(
        torch.stack([response(one) for one in spots]),
        torch.stack([conflict(*one) for one in zip(own, spots, strict=True)]),
    )


def response(spots: Float[Tensor, "subjects h w"]) -> Float[Tensor, ""]:
    """How far the most neglected subject is from full attention, in [0, 1]."""
    return (1 - spots.flatten(1).amax(dim=1)).clamp_min(0).amax()


def conflict(
    own: Float[Tensor, "h w h w"], spots: Float[Tensor, "subjects h w"]
) -> Float[Tensor, ""]:
    """How much the places that belong to two subjects overlap, averaged over pairs."""
    if len(spots) < 2:
        return own.sum() * 0
    peaks = spots.flatten(1).argmax(dim=1)
    places = smooth(own.flatten(0, 1)[peaks], SMOOTHING)
    one, other = torch.triu_indices(len(spots), len(spots), 1, device=own.device)
    shared = torch.minimum(places[one], places[other]).sum(dim=(1, 2))
    return (shared / ((places[one] + places[other]).sum(dim=(1, 2)) + 1e-6)).mean()


def clean(spots: Sequence[Float[Tensor, "_subjects h w"]]) -> Float[Tensor, " batch"]:
    """For each image, the sum over its subjects of a peak beside the main one."""
    losses = []
    for one in spots:
        main = main_peak(one.detach())
        beside = torch.where(main, 0.0, one).flatten(1).amax(dim=1)
        lowest = torch.where(main, one, 1.0).flatten(1).amin(dim=1)
        losses.append(torch.where(beside > lowest, beside, 0.0).sum())
    return torch.stack(losses)


def main_peak(spots: Float[Tensor, "subjects h w"]) -> Bool[Tensor, "subjects h w"]:
    """The cells above Otsu's threshold that hang together with the highest one."""
    mask = spots >= otsu(spots)[:, None, None]
    highest = F.one_hot(spots.flatten(1).argmax(dim=1), spots[0].numel()).bool().view_as(mask)
    for _ in range(mask[0].numel()):
        wide = F.pad(highest, (1, 1, 1, 1))
        rows, columns = wide[:, :-2] | wide[:, 2:], wide[..., :-2] | wide[..., 2:]
        grown = mask & (highest | rows[..., 1:-1] | columns[:, 1:-1])
        if torch.equal(grown, highest):
            break
        highest = grown
    return highest


def otsu(spots: Float[Tensor, "subjects h w"]) -> Float[Tensor, " subjects"]:
    """The threshold of 256 levels that best parts each map's values in two classes."""
    levels = F.one_hot((spots.flatten(1) * 255).long().clamp(0, 255), 256).to(spots).mean(dim=1)
    below = levels.cumsum(dim=1)
    mean = (levels * torch.arange(256, device=spots.device)).cumsum(dim=1)
    between = (mean[:, -1:] * below - mean) ** 2 / (below * (1 - below)).clamp_min(1e-7)
    between = between.masked_fill(torch.minimum(below, 1 - below) < 1e-6, 0.0)
    return between.argmax(dim=1) / 255

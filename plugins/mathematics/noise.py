"""How promising a starting noise is, and a way to a better one (Guo et al., CVPR 2024).

    response = 1 - min over s of m_s          m_s: Attend-and-Excite's peak of subject s
    B_s      = smooth(row of the self attention at the cell of that peak)
    conflict = mean over pairs (r, s) of sum min(B_r, B_s) / sum (B_r + B_s)         in [0, 1/2]
    rank     = response + conflict            smallest wins; see `Scores.rank`
    clean    = sum over s of the highest peak beside the main one, if it tops the main one's lowest

The last term is from the authors' code (`pipeline_sd_initno.py@aadf9fb`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from adhere.guides.guide import Look
from adhere.guides.maps import Maps
from adhere.plugins.mathematics.attention import phrase_maps, smooth
from adhere.prompt.tokens import Phrase

HOPELESS = 0.5
"""A response above this leaves the conflict out of account (`pipeline_sd_initno.py@aadf9fb`)."""


def subject_maps(
    maps: Maps, subjects: Sequence[Sequence[Phrase]]
) -> list[Float[Tensor, "_subjects h w"]]:
    """For every row of the maps the smoothed token shares of its image's subjects.

    `subjects` are those of all images of the run.
    """
    return [phrase_maps(one, subjects[one.image]) for one in maps.each()]


@dataclass(frozen=True)
class Scores:
    """What the first pass says about each image, lower being better."""

    response: Float[Tensor, " batch"]
    conflict: Float[Tensor, " batch"]

    def weighed(self) -> Float[Tensor, " batch"]:
        """The conflict, which says nothing yet while a subject has no place at all."""
        return torch.where(self.response > HOPELESS, 0.0, self.conflict)

    def rank(self) -> Float[Tensor, " batch"]:
        """Response and conflict added; 1 more where nothing is there to be in conflict."""
        weighed = self.weighed()
        return self.response + weighed + (weighed <= 1e-6)


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
    places = smooth(own.flatten(0, 1)[peaks])
    return overlap(places, 1e-6)


def overlap(spots: Float[Tensor, "subjects h w"], least: float = 0.0) -> Float[Tensor, ""]:
    """What two maps share of what both have, averaged over pairs, in [0, 1/2].

    `least` is added to what both have, for maps that may be zero everywhere.
    """
    one, other = torch.triu_indices(len(spots), len(spots), 1, device=spots.device)
    first, second = spots[one], spots[other]
    shared = torch.minimum(first, second).sum(dim=(1, 2))
    return (shared / ((first + second).sum(dim=(1, 2)) + least)).mean()


def crowding(spots: Float[Tensor, "subjects h w"]) -> Float[Tensor, ""]:
    """How far subjects are from having places, each its own, in [0, 3/4] (SAGA's loss)."""
    lacking = response(spots)
    return (lacking if len(spots) < 2 else lacking + overlap(spots)) / 2


def clean(spots: Sequence[Float[Tensor, "_subjects h w"]]) -> Float[Tensor, " batch"]:
    """For each image, the highest values outside of its subjects' main peaks, added up; a subject
    whose main peak stands out everywhere adds nothing.
    """
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


def most_promising(
    noise: Float[Tensor, "batch channels h w"],
    look: Look,
    count: int,
    together: int,
    rank: Callable[[Tensor, tuple[int, ...]], Sequence[float]],
) -> tuple[Float[Tensor, "batch channels h w"], list[list[float]]]:
    """For each image the noise that ranks lowest, of the given one and draws of others.

    Args:
        count: candidates, the given noise included; so many `together`.
        rank: the ranks of noises of some images; NaN for none, which takes nobody's place.

    Returns:
        The noises, and for each image the ranks of all its candidates.
    """
    images = tuple(range(len(noise)))
    best, lowest = list(noise), [math.inf] * len(images)
    ranks: list[list[float]] = [[] for _ in images]
    for start in range(0, count, together):
        draws = range(start, min(start + together, count))
        tried = torch.cat([noise if draw == 0 else look.fresh(images, draw) for draw in draws])
        found = rank(tried, images * len(draws))
        for one, image, own in zip(tried, images * len(draws), found, strict=True):
            ranks[image].append(own)
            if own < lowest[image]:
                best[image], lowest[image] = one, own
    return torch.stack(best), ranks

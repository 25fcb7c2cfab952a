"""CONFORM (Meral et al., CVPR 2024, arXiv:2312.06059).

An object and its attributes should share their attention, and different objects should not. Every
token of a noun and its modifiers is a sample of one class, with this step's map and the last's.

    A'      = A smoothed, as a vector over the cells
    s(a, b) = cosine(A'_a, A'_b) / tau                                 tau = 0.5
    L       = mean over a and p of one class (p not a) of
                -log(e^s(a,p) / (e^s(a,p) + sum over n of other classes of e^s(a,n)))    NT-Xent
    x      <- x - alpha_i grad L                                       as Attend-and-Excite

for 30 of 50 steps; at 0, 20 and 40 % of the run the step is first repeated 20 times, whatever L is.
These are the settings of the authors' notebook, which takes the maps as they are; their pipeline's
own default sharpens them first, as Attend-and-Excite does.

Differs from the authors' code (gemlab-vt/CONFORM@65e647c): batches, each image with its own views;
classes come from the parser, theirs are given by hand; every piece of a word is a sample; with one
class, or without two samples of any, L is zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from adhere.guides.energy import EnergyGuide, EnergyMethod
from adhere.guides.guide import Energy, Guide, Step
from adhere.guides.maps import ImageMaps, Maps
from adhere.guides.parameters import param, share, step_length
from adhere.guides.run import BoundNoun, Run
from adhere.plugins.mathematics.attention import decayed, smooth


@dataclass(frozen=True)
class Conform(EnergyMethod[tuple[BoundNoun, ...]]):
    """Let objects share attention with their own properties and with nothing else."""

    name: ClassVar[str] = "conform"
    task: ClassVar[str] = "bind"

    subjects: tuple[str, ...] | None = param(
        None, "nouns or phrases to set apart; all of the parser's if left out", source="sec. 3"
    )
    step_size: float = step_length(20.0, source="code@65e647c")
    stop: float = share(0.6, "share of the steps that are guided", source="notebook.ipynb@4ad0e37")
    refine_at: tuple[float, ...] = share(
        (0.0, 0.2, 0.4), "shares of the run at which to refine", source="code@65e647c"
    )
    refinements: int = param(20, "repetitions at each", low=0, high=200, source="code@65e647c")
    temperature: float = param(0.5, "tau", low=0.01, high=10, source="code@65e647c")

    def extra_passes(self, steps: int) -> int:
        """Passes that it adds to one picture at the most."""
        return self.guided(steps) + len(self.refine_at) * self.refinements

    def wanted(self, run: Run) -> Sequence[tuple[BoundNoun, ...]]:
        nouns = run.nouns(self.subjects)
        for prompt, found in zip(run.prompts, nouns, strict=True):
            prompt.parsed.require_nouns()
            if len(found) < 2:
                run.note(f"{self.name} left {prompt.plain!r} alone: one noun")
        return nouns

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)

    def report(self, wanted: Sequence[tuple[BoundNoun, ...]]) -> Mapping[str, Any]:
        return {"classes": [len(nouns) for nouns in wanted]}


class _Guide(EnergyGuide[tuple[BoundNoun, ...]]):
    plugin: Conform

    def __init__(self, plugin: Conform, run: Run) -> None:
        super().__init__(plugin, run)
        self.views: dict[tuple[int, int], tuple[int, Tensor, Tensor | None]] = {}

    def energy(self, step: Step, maps: Maps) -> Energy:
        plugin, losses = self.plugin, []
        for one in maps.each():
            samples, classes = columns_of(one, self.wanted[one.image])
            now = smooth(one.cross()[:, :, samples].permute(2, 0, 1)).flatten(1)
            before = self._before(step, one.key, now.detach())
            views = now if before is None else torch.cat([now, before])
            losses.append(contrast(views, classes * (len(views) // len(now)), plugin.temperature))
        loss, size = torch.stack(losses), plugin.step_size * decayed(step)
        if any(step.at(share) for share in plugin.refine_at):
            # Every repetition is made, except where there is nothing to contrast.
            target = torch.where(loss.detach() > 0, -1.0, torch.inf)
            return Energy(loss, size, target=target, at_most=plugin.refinements)
        return Energy(loss, size)

    def follow(self, parents: Sequence[int]) -> None:
        self.views = {
            (image, encoder): view
            for image, parent in enumerate(parents)
            for (of, encoder), view in self.views.items()
            if of == parent
        }

    def _before(self, step: Step, key: tuple[int, int], now: Tensor) -> Tensor | None:
        """The last maps of the step before; takes in those of this one."""
        index, latest, earlier = self.views.get(key, (step.index, now, None))
        before = earlier if index == step.index else latest
        self.views[key] = (step.index, now, before)
        return before


def columns_of(maps: ImageMaps, nouns: Sequence[BoundNoun]) -> tuple[list[int], list[int]]:
    """The token columns of all nouns and modifiers, and the class of each."""
    found = [(c, k) for k, noun in enumerate(nouns) for p in noun.phrases for c in maps.columns(p)]
    return [column for column, _ in found], [k for _, k in found]


def contrast(
    samples: Float[Tensor, "samples cells"], classes: Sequence[int], temperature: float
) -> Float[Tensor, ""]:
    """NT-Xent: every pair of one class against the samples of the others; zero without any."""
    label = torch.tensor(classes, device=samples.device)
    same = label[:, None] == label[None]
    pairs = same & ~torch.eye(len(classes), dtype=torch.bool, device=samples.device)
    if same.all() or not pairs.any():
        return samples.sum() * 0
    unit = F.normalize(samples, dim=1)
    likeness = unit @ unit.T / temperature
    others = likeness.masked_fill(same, -torch.inf).logsumexp(dim=1, keepdim=True)
    return F.softplus(others - likeness)[pairs].mean()

"""CONFORM (Meral et al., CVPR 2024, arXiv:2312.06059).

An object and its attributes should share their attention, and different objects should not: a
contrastive problem. Every token of a noun and its modifiers is a sample of one class; the maps of
this step and of the step before are two views of each.

    A'      = softmax over tokens of 100 A, smoothed, as a vector over the cells
    s(a, b) = cosine(A'_a, A'_b) / tau                                 tau = 0.5
    L       = mean over a and p of one class (p not a) of
                -log(e^s(a,p) / (e^s(a,p) + sum over n of other classes of e^s(a,n)))    NT-Xent
    x      <- x - alpha_i grad L                                       as Attend-and-Excite

for 30 of 50 steps; at 0, 20 and 40 % of the run the step is first repeated 20 times, whatever L is.

Differs from the authors' code (gemlab-vt/CONFORM@65e647c): batches, each image with its own views;
classes come from the parser, theirs are given by hand; every piece of a word is a sample; with one
class, or without two samples of any, L is zero and the report says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from adhere.guides import parameters
from adhere.guides.guide import Energy, Guide, Step
from adhere.guides.maps import Maps, Read
from adhere.guides.parameters import param
from adhere.guides.run import Run
from adhere.plugins.attend_and_excite import smooth, step_scale, token_shares

Columns = tuple[int, ...]


@dataclass(frozen=True)
class Conform:
    """Let objects share attention with their own properties and with nothing else."""

    name: ClassVar[str] = "conform"

    subjects: tuple[str, ...] | None = param(
        None, "nouns or phrases to set apart; all of the parser's if left out", source="sec. 3"
    )
    step_size: float = param(
        20.0, "length of a step along the gradient", low=0, high=1000, source="code@65e647c"
    )
    stop: float = param(
        0.6, "share of the steps that are guided", low=0, high=1, source="notebook.ipynb@4ad0e37"
    )
    refine_at: tuple[float, ...] = param(
        (0.0, 0.2, 0.4),
        "shares of the run at which to refine",
        low=0,
        high=1,
        source="code@65e647c",
    )
    refinements: int = param(
        20, "repetitions at each of those", low=0, high=200, source="code@65e647c"
    )
    temperature: float = param(
        0.5, "tau, of the contrastive loss", low=0.01, high=10, source="code@65e647c"
    )

    def __post_init__(self) -> None:
        parameters.check(self)

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)


@dataclass
class _Views:
    """An image's maps at its latest step, and at the step before that."""

    index: int
    latest: Tensor
    before: Tensor | None = None


class _Guide(Guide):
    reads = frozenset({Read("cross")})

    def __init__(self, plugin: Conform, run: Run) -> None:
        self.plugin = plugin
        self.groups: list[list[list[Columns]]] = []
        pairs = run.nouns(plugin.subjects)
        for image, found in enumerate(pairs):
            run.prompts[image].parsed.require_nouns()
            if len(found) < 2:
                run.note(f"{plugin.name} left {run.prompts[image].plain!r} alone: one noun")
        for track in range(len(run.tracks)):
            self.groups.append([])
            for found in pairs:
                words = [[pair.noun, *pair.modifiers] for pair in found]
                self.groups[-1].append(
                    [tuple(c for one in group for c in one.columns[track]) for group in words]
                )
        self.views: dict[tuple[int, int], _Views] = {}

    def guides(self, step: Step) -> bool:
        return self.plugin.step_size > 0 and step.progress < self.plugin.stop

    def energy(self, step: Step, maps: Maps) -> Energy | None:
        plugin = self.plugin
        shares = token_shares(maps.cross(), maps.keep)
        losses = []
        for image, one in zip(maps.images, shares, strict=True):
            groups = self.groups[maps.track][image]
            columns = [column for group in groups for column in group]
            now = smooth(one[:, :, columns].permute(2, 0, 1)).flatten(1)
            before = self._before(step, (maps.track, image), now.detach())
            classes = [k for k, group in enumerate(groups) for _ in group]
            views = now if before is None else torch.cat([now, before])
            losses.append(contrast(views, classes * (len(views) // len(now)), plugin.temperature))
        size = plugin.step_size * step_scale(step)
        loss = torch.stack(losses)
        if any(step.at(share) for share in plugin.refine_at):
            # Every repetition is made, except where there is nothing to contrast.
            target = torch.where(loss.detach() > 0, -1.0, torch.inf)
            return Energy(loss, size, target=target, at_most=plugin.refinements)
        return Energy(loss, size)

    def _before(self, step: Step, key: tuple[int, int], now: Tensor) -> Tensor | None:
        """The last maps of the step before; takes in those of this one."""
        old = self.views.get(key)
        before = None if old is None else old.before if old.index == step.index else old.latest
        self.views[key] = _Views(step.index, now, before)
        return before

    def report(self) -> dict[str, Any]:
        return {"classes": [len(groups) for groups in self.groups[0]]}


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

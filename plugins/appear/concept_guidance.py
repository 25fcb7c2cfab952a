"""Semantic Guidance Tuning (Kang et al. 2023, arXiv:2312.15964).

A prompt's direction may drift away from one of the things it names. Watch how much it has in common
with each thing's own direction, and add what falls behind.

    g      = eps_p - eps_0                       prompt p, empty prompt 0
    d_c    = eps_c - eps_0, zero where |d_c| is below its quantile          concepts c = 1 ... N
    d_0    = g without its parts along d_1, then d_2 ...                    what no concept says
    l_c(i) = |cosine(g, d_c)| at step i                                     c = 0 ... N
    m_c    = (d_c without its part along g) + s_m nu_c
    nu_c  <- beta nu_c + (1 - beta) m_c
    G      = -(g - d_0) / (N + 1)
             + sum of m_c over the c whose l_c, averaged over the 5 steps before, is below 0.6
    eps    = eps_0 + s_g g + s_c G               the sum in steps 6 to 29 of 50 only

The concepts are the prompt's noun phrases. After the authors' code in the state of
korguy/Concept-Diffusion@15d90e5 and its `ours.yaml`, which counts d_0 among the concepts. Differs
from it: batches; shares of the run, equal at 50 steps; velocities are made noise first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.guide import Guide, Prediction, Step
from adhere.guides.parameters import Method, param, share
from adhere.guides.run import Run
from adhere.plugins.mathematics.directions import across, beyond, strongest

SOURCE = "ours.yaml@15d90e5"
MANY = 8  # noun phrases: hardly any prompt has more


@dataclass(frozen=True)
class ConceptGuidance(Method):
    """Add the direction of each concept of the prompt that falls behind."""

    name: ClassVar[str] = "concept-guidance"
    task: ClassVar[str] = "appear"

    concepts: tuple[str, ...] | None = param(
        None, "texts to watch; the prompt's noun phrases if left out", source="paper"
    )
    scale: float = param(7.5, "s_c", low=0, high=100, source=SOURCE)
    threshold: float = share(0.6, "likeness below which a concept is added", source=SOURCE)
    quantile: float = share(0.7, "share of a direction's values left out", source=SOURCE)
    start: float = share(0.1, "share of the steps before any is added", source=SOURCE)
    stop: float = share(0.6, "share of the steps at which that ends", source=SOURCE, behind="start")
    window: int = param(5, "steps over which likeness is averaged", low=1, high=100, source=SOURCE)
    momentum_scale: float = share(0.5, "s_m", source=SOURCE)
    momentum: float = share(0.4, "beta", source=SOURCE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.concepts is not None and not all(map(str.strip, self.concepts or ("",))):
            raise ParameterError(f"{self.name}: a concept is empty; say in words what to watch")

    def extra_passes(self, steps: int) -> int:
        """A row a concept (of a prompt's own, `MANY`), and without guidance an empty text's."""
        return steps * (1 + (len(self.concepts) if self.concepts else MANY))

    def guide(self, run: Run) -> Guide:
        return _Guide(self, [self._concepts(run, image) for image in range(run.batch)])

    def _concepts(self, run: Run, image: int) -> tuple[str, ...]:
        if self.concepts:
            return self.concepts
        parsed = run.prompts[image].parsed
        parsed.require_nouns()
        return tuple(dict.fromkeys(entity.phrase.text for entity in parsed.entities))


class _Guide(Guide):
    unguided = True

    def __init__(self, plugin: ConceptGuidance, concepts: Sequence[tuple[str, ...]]) -> None:
        self.plugin = plugin
        self.off = plugin.scale == 0
        self.texts = tuple(dict.fromkeys(text for own in concepts for text in own))
        self.concepts = [[self.texts.index(text) for text in own] for own in concepts]
        self.likeness: list[list[Tensor]] = [[] for _ in concepts]
        self.nu: list[Tensor | float] = [0.0] * len(concepts)

    def predict(self, step: Step, eps: Prediction) -> Float[Tensor, "batch channels h w"]:
        prompt = eps.cond - eps.uncond
        every = [strongest(one - eps.uncond, self.plugin.quantile) for one in eps.extra]
        tuned = [
            self._tuned(step, image, prompt[image], [every[k][image] for k in own])
            for image, own in enumerate(self.concepts)
        ]
        return eps.cond + self.plugin.scale / eps.scale * torch.stack(tuned)

    def _tuned(self, step: Step, image: int, prompt: Tensor, concepts: list[Tensor]) -> Tensor:
        """G of one image, from its `Float[channels h w]` directions."""
        plugin, nu, seen = self.plugin, self.nu[image], self.likeness[image]
        every = torch.stack([*concepts, beyond(prompt, concepts)])
        before = seen[-plugin.window :]
        seen.append(torch.cosine_similarity(every.flatten(1), prompt.flatten()[None]).abs())
        moves = torch.stack([across(one, prompt) for one in every]) + plugin.momentum_scale * nu
        self.nu[image] = plugin.momentum * nu + (1 - plugin.momentum) * moves
        total = (every[-1] - prompt) / len(every)
        if before and plugin.start < step.progress < plugin.stop:
            behind = torch.stack(before).mean(dim=0) < plugin.threshold
            total = total + moves[behind].sum(dim=0)
        return total

    def follow(self, parents: Sequence[int]) -> None:
        self.nu = [self.nu[parent] for parent in parents]
        self.likeness = [list(self.likeness[parent]) for parent in parents]

    def report(self) -> dict[str, Any]:
        return {"likeness": [[one.tolist() for one in own] for own in self.likeness]}

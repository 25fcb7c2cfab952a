"""Feynman-Kac steering (Singhal et al., ICML 2025, arXiv:2501.06848).

The pictures of one prompt are particles. At some steps each one's predicted picture is scored,
particles are drawn anew in proportion to a potential, and those that promise little go on as copies
of those that promise much.

    r_k     = verifier(picture that particle k predicts, prompt)
    G_k     = exp(lambda (r_k - r_k at the last scoring))       difference
              exp(lambda max of r_k so far)                     max
              exp(lambda sum of r_k so far)                     sum
    w_k    <- w_k G_k;  if (sum w)^2 / sum w^2 < k / 2: draw parents from w, then w = 1

Make them with `num_images_per_prompt=k` and keep the best. One or two pictures are left alone: half
of two is one, and one carries weight at the least. Differs
from the authors' code (zacharyhorvitz/fk-diffusion-steering): samplers that draw no noise of their
own (DDIM, Euler, flows) would go on with equal copies, so each copy but one has the share `fresh`
of its noise drawn anew about its predicted picture; the last step's correction is left to whoever
keeps the best of the pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from adhere import verifiers
from adhere.guides.guide import Guide, Step
from adhere.guides.parameters import Method, param, share
from adhere.guides.run import Run
from adhere.guides.selection import Candidates, Selection
from adhere.plugins.mathematics.particles import Potential, copies, filled, grown, parents
from adhere.verifiers.scoring import score


@dataclass(frozen=True)
class FkSteering(Method):
    """Go on with those pictures of a prompt that promise most, by copies of them."""

    name: ClassVar[str] = "fk-steering"
    task: ClassVar[str] = "choose"
    several: ClassVar[bool] = True

    verifier: str = param(
        "clip-score", "what judges pictures: names, weights, minima", source="chosen here",
        local=verifiers.HARMLESS,
    )  # fmt: skip
    strength: float = param(
        10.0, "lambda: how much a better score counts", low=0, high=10_000, source="sec. 4.1"
    )
    potential: Potential = param("max", "what of the scores counts", source="sec. 3.3")
    resample_at: tuple[float, ...] = share(
        (0.2, 0.4, 0.6), "shares of the run at which pictures are scored", source="sec. 4.1"
    )
    fresh: float = share(0.5, "share of a copy's noise that is drawn anew", source="chosen here")
    seed: int = param(0, "seed of the draws", low=0, high=2**31, source="chosen here")

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)

    def extra_passes(self, steps: int) -> int:
        """Passes that it adds to one picture: none."""
        return 0


class _Guide(Guide):
    def __init__(self, plugin: FkSteering, run: Run) -> None:
        self.plugin, self.run = plugin, run
        self.groups = [images for images in run.groups if len(images) > 2]
        self.off = plugin.strength == 0 or not plugin.resample_at or not self.groups
        self.verifier = verifiers.verifier(plugin.verifier)
        self.prompts = () if self.off else run.spoken()
        self.last = torch.full((run.batch,), torch.nan, dtype=torch.float64)
        self.weights = torch.zeros(run.batch, dtype=torch.float64)  # their logarithms
        self.scored: list[list[float | None]] = []
        self.chosen: list[list[int]] = []
        if not self.groups:
            run.note(
                "fk-steering goes on with copies once fewer than half of a prompt's pictures carry "
                f"weight, of three or more, and this call makes {len(run.groups[0])} of each; give "
                "num_images_per_prompt=4, or use best-of-n"
            )

    def selects(self, step: Step) -> bool:
        return step.looked_at(*self.plugin.resample_at)

    def select(self, step: Step, candidates: Candidates) -> Selection:
        found = score(self.verifier, candidates.pictures(), self.prompts)
        for sentence in found.failures:
            self.run.note(sentence)
        self.scored.append([None if one != one else one for one in found.scores])
        scores = torch.tensor(found.scores, dtype=torch.float64)
        chosen = list(range(self.run.batch))
        for images in self.groups:
            self._weigh(images, scores)
            known = [image for image in images if not scores[image].isnan()]
            for image, parent in self._drawn(step, images, known).items():
                chosen[image] = parent
        self.chosen.append(chosen)
        return Selection(tuple(chosen), copies(chosen, self.plugin.fresh))

    def _weigh(self, images: Sequence[int], scores: Tensor) -> None:
        """Let the potential of one prompt's images grow by their scores, if there are any."""
        rows = list(images)
        known, last = filled(scores[rows]), self.last[rows]
        if known is not None:
            first = bool(last.isnan().any())
            gain, self.last[rows] = grown(known, last, self.plugin.potential, first)
            self.weights[rows] += self.plugin.strength * gain

    def _drawn(self, step: Step, images: Sequence[int], known: Sequence[int]) -> dict[int, int]:
        """The parents of one prompt's images that have a score; none while enough of them carry
        weight. What has no score goes on as it is, and nothing as its copy.
        """
        generator = torch.Generator().manual_seed(self.plugin.seed + step.index)
        drawn = parents(self.weights[list(known)], generator) if known else None
        if drawn is None:
            return {}
        self.weights[list(images)] = 0
        return {image: known[k] for image, k in zip(known, drawn, strict=True)}

    def follow(self, parents: Sequence[int]) -> None:
        self.last, self.weights = self.last[list(parents)], self.weights[list(parents)]

    def report(self) -> dict[str, Any]:
        return {"scores": self.scored, "parents": self.chosen}

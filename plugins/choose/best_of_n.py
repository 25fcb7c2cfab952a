"""Best of N with early dropping (after Ma et al., CVPR 2025, arXiv:2501.09732).

Best-of-N makes N pictures and keeps the one that a verifier likes best. A model's prediction of the
picture, early in the run, says most of what will be there, so all but one candidate stop early:
each is brought to a share of the run in a few long strides, its predicted picture is decoded and
verified, and the run itself begins from the noise of the best. At N candidates and `look_at` of
0.36, with 25 steps and classifier-free guidance, it costs 10 N + 50 passes in place of 50 N.

    noise = argmax over draws of verifier(picture predicted at look_at, prompt)

The given noise is a candidate too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere import verifiers
from adhere.guides.guide import Guide, Look, Step, passes_of_preview
from adhere.guides.parameters import Method, param, share
from adhere.guides.run import Run
from adhere.plugins.mathematics.noise import most_promising
from adhere.verifiers.scoring import score


@dataclass(frozen=True)
class BestOfN(Method):
    """Try several starting noises and keep the one whose foreseen picture a verifier likes best."""

    name: ClassVar[str] = "best-of-n"
    task: ClassVar[str] = "choose"

    verifier: str = param(
        "clip-score", "what judges pictures: names, weights, minima", source="chosen here",
        local=verifiers.HARMLESS,
    )  # fmt: skip
    candidates: int = param(
        8, "noises to try, the given one included", low=1, high=1000, source="chosen here"
    )
    look_at: float = share(
        0.36, "share of the run at which pictures are foreseen", source="chosen here"
    )
    together: int = param(
        1, "candidates foreseen at once, faster and larger", low=1, high=64, source="chosen here"
    )

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)

    def extra_passes(self, steps: int) -> int:
        """Passes that it adds to one picture at the most."""
        return self.candidates * passes_of_preview(self.look_at)


class _Guide(Guide):
    def __init__(self, plugin: BestOfN, run: Run) -> None:
        self.plugin, self.run = plugin, run
        self.off = plugin.candidates == 1 or not run.from_noise(plugin.name)
        self.verifier = verifiers.verifier(plugin.verifier)
        self.prompts = () if self.off else run.spoken()
        self.ranks: list[list[float]] = []

    def guides(self, step: Step) -> bool:
        return False

    @torch.no_grad()
    def initial(
        self, noise: Float[Tensor, "batch channels h w"], look: Look
    ) -> Float[Tensor, "batch channels h w"]:
        plugin = self.plugin

        def rank(tried: Tensor, images: tuple[int, ...]) -> list[float]:
            pictures = look.pictures(tried, images, plugin.look_at)
            found = score(self.verifier, pictures, [self.prompts[k] for k in images])
            for sentence in found.failures:
                self.run.note(sentence)
            return [-one for one in found.scores]

        best, self.ranks = most_promising(noise, look, plugin.candidates, plugin.together, rank)
        return best

    def report(self) -> dict[str, Any]:
        return {
            "images": [
                {
                    "scores": [None if one != one else -one for one in own],
                    "chosen": min(range(len(own)), key=lambda k: (own[k] != own[k], own[k], k)),
                }
                for own in self.ranks
            ]
        }

"""Restart (after verifier thresholds, arXiv:2512.08985).

Verifiers say of a predicted picture whether it is worth going on with; where it is not, the
image goes on from other starting noise. That is what verifier thresholds do for the compute of a
search, within one call and for each image by itself.

    r < least   ->   x_t = latents at t of other noise, reached in a few long strides

The new noise costs two passes a stride, and is verified at the next share in its turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from adhere import verifiers
from adhere.errors import ModelError
from adhere.guides.guide import Guide, Step, strides
from adhere.guides.parameters import Method, param, share
from adhere.guides.run import Run
from adhere.guides.selection import Candidates, Selection
from adhere.verifiers.scoring import score

LEAST = -1000
"""No picture's score is below it."""


@dataclass(frozen=True)
class Restart(Method):
    """Begin again from other noise where a verifier does not like what is coming."""

    name: ClassVar[str] = "restart"
    task: ClassVar[str] = "choose"

    verifier: str = param(
        "clip-score", "what judges pictures: names, weights, minima", source="chosen here",
        local=verifiers.HARMLESS,
    )  # fmt: skip
    least: float = param(
        0.2, "the score below which a picture is begun again", low=LEAST, high=-LEAST,
        source="chosen here",
    )  # fmt: skip
    look_at: tuple[float, ...] = share(
        (0.36, 0.44, 0.52), "shares of the run at which pictures are looked at",
        source="chosen here",
    )  # fmt: skip

    def guide(self, run: Run) -> Guide:
        guide = _Guide(self, run)
        if run.multistep and not guide.off:
            raise ModelError(
                f"{self.name} begins pictures again on the way, and the pipeline's scheduler steps "
                "from predictions of earlier steps, which such a picture does not have; give the "
                "pipeline a single-step scheduler (DDIM, Euler), or use best-of-n"
            )
        return guide

    def extra_passes(self, steps: int) -> int:
        """Passes that it adds to one picture at the most."""
        # Where `Step.looked_at` looks, and the share of the run from which it goes on there.
        looks = {min(round(at * steps), steps - 2) for at in self.look_at}
        return sum(2 * strides((index + 1) / (steps - 1)) for index in looks if index >= 0)


class _Guide(Guide):
    def __init__(self, plugin: Restart, run: Run) -> None:
        self.plugin, self.run = plugin, run
        never = not plugin.look_at or plugin.least == LEAST
        # Other noise would take the place of the picture that a call starts from.
        self.off = never or not run.from_noise(plugin.name)
        self.verifier = verifiers.verifier(plugin.verifier)
        self.prompts = () if self.off else run.spoken()
        self.scored: list[list[float | None]] = [[] for _ in run.prompts]
        self.restarted: list[list[int]] = [[] for _ in run.prompts]

    def selects(self, step: Step) -> bool:
        return step.looked_at(*self.plugin.look_at)

    def select(self, step: Step, candidates: Candidates) -> Selection:
        found = score(self.verifier, candidates.pictures(), self.prompts)
        for sentence in found.failures:
            self.run.note(sentence)
        again = tuple(k for k, one in enumerate(found.scores) if one < self.plugin.least)
        for image, one in enumerate(found.scores):
            self.scored[image].append(None if one != one else one)
        for image in again:
            self.restarted[image].append(step.index)
        return Selection(tuple(range(self.run.batch)), again=again)

    def report(self) -> dict[str, Any]:
        each = zip(self.scored, self.restarted, strict=True)
        return {"images": [{"scores": scores, "restarted": at} for scores, at in each]}

"""InitNO, initial noise optimisation (Guo et al., CVPR 2024, arXiv:2404.04650).

Some starting noises are right for a prompt and others never will be. Move the given one within its
own distribution until the first pass gives every subject a place of its own, then guide gently.

    z      = z_0 exp(v / 2) + mu                   v, mu start at 0                      sec. 3.3
    joint  = response + conflict + clean           all three from `noise.py`
    mu, v  <- Adam(joint), then drawn back so that KL(N(mu, exp v) || N(0, 1)) <= 0.001
    done     when response < 0.2 and conflict < 0.3

Five rounds of ten passes, each from another noise, until one is done; else fifty more from the
noise of the best round. While sampling, in the first half: x <- x - alpha_i grad response, and at
0.2 and 0.4 of the run first refine (at most 20 times) on response + conflict + 0.1 clean
+ 0.1 drift, until done; drift is the L1 distance of each subject's map to its moving average.

The paper looks at the first timestep. With `look_at` above 0 the search looks at the maps of a
later one, on what the noise becomes there as `Look` foretells it.

Differs from the authors' code (xiefan-guo/initno@aadf9fb): batches, images leaving when done; the
KL step is closed-form, where theirs is a loop of Adam steps that may never end; an image that is
done is never optimised again for the sake of another round's lower sum; in the end the best noise
that was seen is kept, not the last one; both phases run by default, as in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides.energy import EnergyGuide, SubjectMethod
from adhere.guides.guide import Energy, Guide, Look, Step, passes_of_look
from adhere.guides.maps import Maps, Read
from adhere.guides.parameters import param, share, step_length
from adhere.guides.run import Run
from adhere.plugins.mathematics.attention import decayed
from adhere.plugins.mathematics.noise import clean, scores, subject_maps
from adhere.plugins.mathematics.noise_search import NoiseSearch
from adhere.prompt.tokens import Phrase


@dataclass(frozen=True)
class InitNO(SubjectMethod):
    """Find a starting noise that has room for every subject."""

    name: ClassVar[str] = "initno"
    task: ClassVar[str] = "noise"
    reads = frozenset({Read("cross"), Read("self")})

    subjects: tuple[str, ...] | None = param(
        None, "phrases that must appear; the parser's nouns if left out", source="sec. 3.2"
    )
    response: float = share(0.2, "response loss to reach", source="sec. 4")
    conflict: float = param(0.3, "conflict to reach", low=0, high=0.5, source="sec. 4")
    rounds: int = param(5, "noises to try", low=0, high=100, source="code@aadf9fb")
    passes: int = param(10, "passes for each", low=1, high=1000, source="code@aadf9fb")
    last_passes: int = param(
        50, "passes for the best, if none was done", low=0, high=1000, source="code@aadf9fb"
    )
    learning_rate: float = share(0.01, "Adam's", source="sec. 4")
    divergence: float = param(
        0.001, "largest KL divergence from white noise", low=1e-9, high=10, source="code@aadf9fb"
    )
    look_at: float = share(0.0, "share of the run at which the search looks", source="sec. 3.3")
    step_size: float = step_length(20.0, source="code@aadf9fb")
    stop: float = share(0.5, "share of the steps that are guided", source="sec. 4")
    refine_at: tuple[float, ...] = share(
        (0.2, 0.4), "shares of the run at which to refine", source="code@aadf9fb"
    )
    refinements: int = param(20, "at the most, each time", low=0, high=200, source="code@aadf9fb")

    @property
    def off(self) -> bool:
        return super().off and self.rounds == self.last_passes == 0

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)

    def extra_passes(self, steps: int) -> int:
        """Passes that it adds to one picture at the most."""
        looks = self.rounds * self.passes + self.last_passes
        before = looks * passes_of_look(self.look_at)
        return before + self.guided(steps) + len(self.refine_at) * self.refinements


class _Guide(EnergyGuide[tuple[Phrase, ...]]):
    plugin: InitNO

    def __init__(self, plugin: InitNO, run: Run) -> None:
        super().__init__(plugin, run)
        self.search = NoiseSearch(plugin, self.wanted)
        searches = plugin.rounds + plugin.last_passes > 0 and run.from_noise(plugin.name)
        self.off = not searches and plugin.step_size * plugin.stop == 0
        self.usual: dict[tuple[int, int], Tensor] = {}

    def initial(
        self, noise: Float[Tensor, "batch channels h w"], look: Look
    ) -> Float[Tensor, "batch channels h w"]:
        return self.search(noise, look)

    def energy(self, step: Step, maps: Maps) -> Energy:
        plugin, spots = self.plugin, subject_maps(maps, self.wanted)
        found, drift = scores(maps, spots), self._drift(maps, spots)
        size = plugin.step_size * decayed(step)
        if not any(step.at(share) for share in plugin.refine_at):
            return Energy(found.response, size)
        joint = found.response + found.conflict + 0.1 * clean(spots) + 0.1 * drift
        # One target for two conditions: a conflict keeps every response above it.
        target = torch.where(found.conflict.detach() > plugin.conflict, -1.0, plugin.response)
        return Energy(
            found.response, size, target=target, at_most=plugin.refinements, refine_loss=joint
        )

    def _drift(self, maps: Maps, spots: Sequence[Tensor]) -> Float[Tensor, " batch"]:
        """How far each image's maps are from their moving average, which takes them in first."""
        drifts = []
        for key, one in zip((row.key for row in maps.each()), spots, strict=True):
            now, old = one.detach(), self.usual.get(key)
            # The first maps are their own average, exactly: the sign of a rounding error would
            # otherwise be their gradient.
            usual = now if old is None else 0.9 * old + 0.1 * now
            self.usual[key] = usual
            drifts.append((one - usual).abs().mean(dim=(1, 2)).sum())
        return torch.stack(drifts)

    def report(self) -> Mapping[str, Any]:
        return {"noise_passes": self.search.made, "noise_done": self.search.done}

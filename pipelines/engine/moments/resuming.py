"""Going on from a step with latents that a guide has chosen, whatever the steps before led to."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property

import torch
from torch import Tensor

from adhere.guides.maps import Maps
from adhere.pipelines.engine.moments.foresight import Foresight
from adhere.pipelines.engine.moments.looking import drawn, seed_of
from adhere.pipelines.engine.moments.passes import Passes
from adhere.pipelines.engine.state import Now, State
from adhere.pipelines.hooks.denoiser_call import differentiable, normal, single
from adhere.pipelines.hooks.schedulers import predictions


def resumed(state: State, passes: Passes, now: Now, first: Now) -> Tensor:
    """The latents of a step after all guides that choose them; the same object if none does."""
    latents = now.moved
    for guide in state.overriding("resume"):
        if not guide.resumes(now.step):
            continue
        with differentiable(), Place(state, passes, now, first, latents) as here:
            chosen = guide.resume(now.step, here)
        if chosen is not None and not torch.isfinite(chosen).all():
            state.report.note("the latents chosen at a step were not finite, and were left out")
        elif chosen is not None:
            latents = (chosen.detach() * state.level.scale).to(latents.dtype)
    return latents


class Place:
    """What a guide sees of the step: `Here`."""

    def __init__(self, state: State, passes: Passes, now: Now, first: Now, latents: Tensor) -> None:
        self.state, self.passes, self.now = state, passes, now
        self._latents = normal(single(latents)) / state.level.scale
        begun = float(getattr(state.scheduler, "init_noise_sigma", 1.0))
        self.noise = normal(single(first.moved)) / begun
        self._seeds = [seed_of(one) for one in first.latents]
        self._reads = sorted({read for guide in state.guides for read in guide.reads}, key=str)
        self._replay = ExitStack()

    def __enter__(self) -> Place:
        """The guide differentiates by itself, so checkpointed blocks may run again at any time."""
        return self

    def __exit__(self, *failure: object) -> None:
        self._replay.close()

    @property
    def factors(self) -> tuple[float, float]:
        return float(self.state.level.alpha_bar.sqrt()), self.state.level.noise

    @cached_property
    def picture(self) -> Tensor:
        foresight = Foresight(self.passes, self.now)
        images = list(range(self.state.run.batch))
        with torch.no_grad():
            predicted = foresight.predicted(self._latents, images, self.now.step)
            level = single(self.state.level.alpha_bar).to(self._latents.device)
            return predictions.to_picture(self.state.scheduler, predicted, self._latents, level)

    def __call__(self, latents: Tensor, images: Sequence[int]) -> Maps:
        self._replay.close()
        seen = latents * self.state.level.scale
        maps = self.passes.read(seen, list(images), self._reads, self.now.step)[0]
        self._replay.enter_context(self.passes.replayed())
        return maps

    def fresh(self, images: Sequence[int], draw: int) -> Tensor:
        shape = self._latents.shape[1:]
        noises = [drawn(self._seeds[image] + draw, shape) for image in images]
        return torch.stack(noises).to(self._latents)

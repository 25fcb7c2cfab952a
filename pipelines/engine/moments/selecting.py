"""Choosing among the pictures of one prompt while they are made.

After a step, guides see what each picture will be and say which of them go on: an image may go on
from another one's latents (with all that scheduler and guides keep by image), with its noise drawn
anew, or begin again from other starting noise (`docs/design/0010-choosing.md`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

from adhere.errors import ModelError
from adhere.guides.guide import Step
from adhere.guides.selection import Selection
from adhere.pipelines.engine.moments.foresight import Foresight
from adhere.pipelines.engine.moments.looking import drawn, seed_of
from adhere.pipelines.engine.moments.passes import Passes
from adhere.pipelines.engine.state import Now, State
from adhere.pipelines.hooks.denoiser_call import single
from adhere.pipelines.hooks.schedulers import edits, levels, predictions
from adhere.pipelines.hooks.schedulers.clock import first_evaluation


@dataclass(frozen=True)
class Seen:
    """The pictures of a step: `latents` that its predictions stand for."""

    state: State
    step: Step
    latents: Tensor

    def predicted(self) -> Tensor:
        return self.latents

    def pictures(self) -> list[Image.Image]:
        return self._decoded

    @cached_property
    def _decoded(self) -> list[Image.Image]:
        return self.state.preview(self.latents)


class Selecting:
    """The guides of a run that choose among its pictures."""

    def __init__(self, state: State, passes: Passes) -> None:
        self.state, self.passes = state, passes
        self.guides = tuple(state.overriding("select"))
        self._seen: Seen | None = None
        self._foresight: Foresight | None = None
        self._seeds: list[int] = []

    def before(self, now: Now, predicted: Tensor, sample: Tensor) -> None:
        """The scheduler is about to step: take what the pictures are predicted to be.

        Args:
            predicted: what the pipeline makes of all predictions.
            sample: what the scheduler steps from.
        """
        if not self.guides or not first_evaluation(self.state.scheduler):
            return
        if not self._seeds:
            self._foresight = Foresight(self.passes, now)
            self._seeds = [seed_of(noise) for noise in single(now.latents)]
        if any(guide.selects(now.step) for guide in self.guides):
            level, scheduler = self.state.level, self.state.scheduler
            alpha = single(level.alpha_bar).to(sample.device)
            seen = single(sample) / level.scale
            drawn = predictions.to_picture(scheduler, single(predicted), seen, alpha)
            latents = self.state.family.from_sample(drawn, now.latents)
            self._seen = Seen(self.state, now.step, latents)

    def after(self, sample: Tensor) -> Tensor:
        """The scheduler has made a step: the sample to go on from."""
        seen = self._seen
        if seen is None or not first_evaluation(self.state.scheduler) or self.state.clock.done:
            return sample
        self._seen = None
        with self.state.occupied():
            for guide in self.guides:
                wanted = guide.select(seen.step, seen) if guide.selects(seen.step) else None
                if wanted is not None:
                    wanted.check(self.state.run.groups)
                    sample = self._applied(sample, seen, wanted)
        return sample

    def _applied(self, sample: Tensor, seen: Seen, wanted: Selection) -> Tensor:
        rows = torch.tensor(wanted.parents, device=sample.device)
        if list(wanted.parents) != list(range(len(rows))):
            edits.reordered(self.state.scheduler, rows, sample.shape)
            sample = sample[rows]
            for guide in self.state.guides:
                guide.follow(wanted.parents)
        moved = self._renewed(sample, seen.latents[rows.to(seen.latents.device)], wanted.fresh)
        moved = self._again(moved, seen.latents, wanted.again)
        if moved is not sample:
            edits.moved(self.state.scheduler, moved - sample)
        return moved

    def _renewed(self, sample: Tensor, pictures: Tensor, fresh: Sequence[float]) -> Tensor:
        """x = a x0 + s n with a part of the noise n drawn anew: n <- sqrt(1 - f^2) n + f n'."""
        if not any(fresh):
            return sample
        here, scale = self._level()
        latents = single(self.state.family.from_sample(sample, pictures)) / scale
        noise = (latents - float(here.alpha_bar.sqrt()) * pictures) / here.noise
        share = noise.new_tensor(fresh).view(-1, 1, 1, 1)
        change = ((1 - share**2).sqrt() - 1) * noise + share * self._drawn(noise)
        return sample + self.state.family.as_sample(scale * here.noise * change, sample)

    def _again(self, sample: Tensor, like: Tensor, images: Sequence[int]) -> Tensor:
        """The sample with some images begun again from other noise."""
        if not images:
            return sample
        if edits.remembers(self.state.scheduler):
            raise ModelError(
                f"{type(self.state.scheduler).__name__} steps from predictions of earlier steps, "
                "which a picture that is begun again does not have; use a single-step scheduler "
                "(DDIM, Euler)"
            )
        if not self.state.run.sampling:
            raise ModelError(
                "a picture cannot begin again from other noise where the call starts from a "
                "picture, which would be lost; leave that out, or call a text-to-image pipeline"
            )
        assert self._foresight is not None  # made at the first step
        scale = self._level()[1]
        noise = self._drawn(like)[list(images)]
        begun = self._foresight.begun_again(noise, images, self.state.clock.share)
        whole = single(self.state.family.from_sample(sample, like)).clone()
        whole[list(images)] = scale * begun
        return self.state.family.as_sample(whole, sample)

    def _level(self) -> tuple[levels.Level, float]:
        """The level of the coming evaluation, and its sample's scale."""
        scheduler = self.state.scheduler
        here = levels.level(scheduler, self.state.clock.timestep)
        return here, here.scale

    def _drawn(self, like: Tensor) -> Tensor:
        """Noise that depends on each image's own starting noise and the step only."""
        index = self.state.clock.index
        return torch.stack([drawn(seed + index, like.shape[1:]) for seed in self._seeds]).to(like)

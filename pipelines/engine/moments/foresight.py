"""What becomes of a noise: the latents of a later step, foretold in a few strides.

A stride goes from one level to another on the straight line that DDIM takes (arXiv:2010.02502,
eq. 12, without noise of its own): x = a x0 + s n, with x0 and n as the model predicts them under
the pipeline's guidance scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides.guide import Step, strides
from adhere.pipelines.engine.moments.passes import Passes
from adhere.pipelines.engine.state import Now
from adhere.pipelines.hooks.denoiser_call import Call, single
from adhere.pipelines.hooks.schedulers import levels, predictions
from adhere.pipelines.hooks.schedulers.levels import Level


class Foresight:
    """The latents of a run's later steps, from its first call and any starting noise.

    Strides are predicted as the run will predict: with the guides' biases and extra texts. Where a
    pipeline calls the unconditional half apart, they follow the conditional one alone.
    """

    def __init__(self, passes: Passes, now: Now) -> None:
        self.passes, self.state, self.first = passes, passes.state, now
        self.start = passes.state.level
        state, batch = passes.state, passes.state.run.batch
        none = state.family.unconditional_rows(now.given, batch)
        self._cond = now.rows.start
        self._uncond = None if none is None else none.start

    def __call__(
        self, seen: Tensor, images: Sequence[int], share: float
    ) -> tuple[Tensor, Call, Step]:
        """Latents at a share of the run, as the model sees them, and the call and step there.

        Args:
            seen: the starting latents of these images, as the model sees them.
        """
        latents, step, here = self._ahead(seen, images, share)
        # The noise's own share of the latents follows it; the picture is taken for given.
        latents = latents + here.noise * (single(seen) - single(seen).detach())
        return latents, self.state.family.at_timestep(self.first.call, step.timestep), step

    @torch.no_grad()
    def picture(self, seen: Tensor, images: Sequence[int], share: float) -> Tensor:
        """The picture's latents that the model predicts at a share of the run."""
        latents, step, here = self._ahead(seen, images, share)
        predicted = self.predicted(latents, images, step)
        level = single(here.alpha_bar).to(latents.device)
        return predictions.to_picture(self.state.scheduler, predicted, latents, level)

    @torch.no_grad()
    def begun_again(
        self, noise: Tensor, images: Sequence[int], share: float
    ) -> Float[Tensor, "batch channels h w"]:
        """Latents at a share of the run, as the model sees them, of other starting noise (unit
        variance)."""
        return self._ahead(self.start.noise * noise, images, share)[0]

    def _ahead(
        self, seen: Tensor, images: Sequence[int], share: float
    ) -> tuple[Tensor, Step, Level]:
        """Latents at a share of the run, without a gradient, with the step and level there."""
        count = strides(share)
        here, step = self.start, self.first.step
        latents = single(seen.detach())
        for stride in range(1, count + 1):
            at = share * stride / count
            index, timestep, there = levels.level_ahead(self.state.scheduler, at)
            latents = self._stride(latents, images, step, here, there)
            step = Step(index, step.count, timestep, there.sigma, there.noise)
            here = there
        return latents, step, here

    @torch.no_grad()
    def _stride(
        self, latents: Tensor, images: Sequence[int], step: Step, here: Level, there: Level
    ) -> Tensor:
        level = single(here.alpha_bar).to(latents.device)
        predicted = self.predicted(latents, images, step)
        picture = predictions.to_picture(self.state.scheduler, predicted, latents, level)
        noise = (latents - level.sqrt() * picture) / here.noise
        return float(there.alpha_bar.sqrt()) * picture + there.noise * noise

    def predicted(self, latents: Tensor, images: Sequence[int], step: Step) -> Tensor:
        """What the model predicts of latents under the prompt and the guidance scale."""
        family, chosen = self.state.family, torch.tensor(images, device=latents.device)
        starts = [start for start in (self._uncond, self._cond) if start is not None]
        call = family.at_timestep(self.first.given, step.timestep)
        call = call.select(torch.cat([start + chosen for start in starts]))
        call = family.with_latents(call, latents)
        prompts = slice(call.rows - len(images), call.rows)
        output = self.passes.predicted(call, prompts, images, step)
        predicted = single(family.output(output, call))
        rows: tuple[Tensor, ...] = predicted.split(len(images))
        for _ in rows:
            self.state.report.passed(images)
        cond = rows[-1]
        return cond if len(rows) == 1 else rows[0] + family.guidance_scale() * (cond - rows[0])

"""The finished pictures of a run, noised again at any level, and what the model finds in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.pipelines.engine.moments.looking import drawn, seed_of
from adhere.pipelines.engine.moments.prediction import spliced
from adhere.pipelines.engine.state import Now, State
from adhere.pipelines.hooks.denoiser_call import Call, single
from adhere.pipelines.hooks.schedulers import levels, predictions


class Pictures:
    """What a guide may ask after the last step.

    Args:
        first: the run's first step, whose call is made again with other latents and texts.
        sample: what the scheduler's last step has returned.
    """

    def __init__(self, state: State, first: Now, sample: Tensor) -> None:
        self.state = state
        self._call = first.given.select(first.rows)
        self._latents = single(state.family.from_sample(sample, first.latents))
        self._seeds = [seed_of(one) for one in first.latents]
        self._encoded: dict[tuple[str, ...], Mapping[str, Any]] = {}

    def predicted(
        self, texts: Sequence[str], log_snr: float, draw: int = 0
    ) -> Float[Tensor, "texts batch channels h w"]:
        """The noise that the model finds in the pictures with noise added, under each text."""
        timestep, level = levels.level_at(self.state.scheduler, log_snr)
        alpha_bar = single(level.alpha_bar).to(self._latents.device)
        seen = alpha_bar.sqrt() * self._latents + level.noise * self._noise(draw)
        family = self.state.family
        call = family.with_latents(family.at_timestep(self._call, timestep), seen)
        found = []
        for under in self._under(call, texts):
            self.state.heed_interrupt()
            args, kwargs = family.form(under)
            output = single(family.output(family.denoiser(*args, **kwargs), under))
            found.append(predictions.to_noise(self.state.scheduler, output, seen, alpha_bar))
            self.state.report.passed(range(self.state.run.batch))
        return torch.stack(found)

    def _noise(self, draw: int) -> Float[Tensor, "batch channels h w"]:
        shape = self._latents.shape[1:]
        return torch.stack([drawn(seed + draw, shape) for seed in self._seeds]).to(self._latents)

    def _under(self, call: Call, texts: Sequence[str]) -> list[Call]:
        """The call under each text."""
        family, batch = self.state.family, self.state.run.batch
        said = tuple(texts)
        if said not in self._encoded:
            self._encoded[said] = self.state.encoded(said).values
        call, extra = family.fitted(call, dict(self._encoded[said]))
        rows = Call(extra, len(texts))
        return [
            call.replace(
                **spliced(call.values, dict(rows.select(slice(k, k + 1)).values), 0, batch)
            )
            for k in range(len(texts))
        ]

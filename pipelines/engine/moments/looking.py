"""The starting noise: chosen by guides that may look at the first timestep's maps for any noise."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from adhere.guides.maps import Maps
from adhere.pipelines.engine.moments.passes import Passes
from adhere.pipelines.engine.state import State
from adhere.pipelines.hooks.denoiser_call import differentiable, normal, single


def chosen_noise(state: State, passes: Passes, latents: Tensor) -> Tensor:
    """The starting latents after all guides that choose them; the same object if none does."""
    choosing = state.overriding("initial")
    if not choosing:
        return latents
    sigma = float(getattr(state.scheduler, "init_noise_sigma", 1.0))
    # A guide may differentiate here, which callers in inference mode would not allow.
    given = noise = normal(single(latents) / sigma)
    look = Look(passes, noise, sigma)
    for guide in choosing:
        with differentiable(), look:
            chosen = guide.initial(noise, look).detach()
        if not torch.isfinite(chosen).all():
            state.report.note("the chosen starting noise was not finite, so it was left as it was")
            continue
        noise = chosen
    if torch.equal(noise, given):
        return latents
    return (noise * sigma).to(latents.dtype)


class Look:
    """What an initial-noise method sees: the first timestep's maps for any noise."""

    def __init__(self, passes: Passes, noise: Tensor, sigma: float) -> None:
        self.passes, self.sigma = passes, sigma
        assert passes.now is not None
        self.step = passes.now
        guides = passes.state.guides
        self._reads = sorted({read for guide in guides for read in guide.reads}, key=str)
        self._seeds = [_seed(one) for one in noise]
        self._shape, self._device, self._dtype = noise.shape[1:], noise.device, noise.dtype
        self._replay = ExitStack()

    def __enter__(self) -> None:
        """The guide differentiates by itself, so checkpointed blocks may run again at any time."""

    def __exit__(self, *failure: object) -> None:
        self._replay.close()

    def __call__(self, noise: Tensor, images: Sequence[int] | None = None) -> Maps:
        chosen = range(len(self._seeds)) if images is None else images
        self._replay.close()
        maps = self.passes.read(noise * self.sigma, list(chosen), self._reads, self.step)[0]
        self._replay.enter_context(self.passes.replayed())
        return maps

    def fresh(self, images: Sequence[int], draw: int) -> Tensor:
        """Noise that depends on the image's own starting noise and `draw` only, so a batch equals
        its images made one by one."""
        drawn = []
        for image in images:
            generator = torch.Generator("cpu").manual_seed(self._seeds[image] + draw)
            drawn.append(torch.randn(self._shape, generator=generator))
        return torch.stack(drawn).to(self._device, self._dtype)


def _seed(noise: Tensor) -> int:
    # Its signs, so that the same noise in half precision has the same siblings.
    data = (noise.detach() > 0).cpu().numpy().tobytes()
    return int.from_bytes(hashlib.sha256(data).digest()[:6], "big")

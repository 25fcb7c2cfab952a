"""The starting noise: chosen by guides that may look at a coming step's maps for any noise."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext

import torch
from PIL import Image
from torch import Tensor

from adhere.guides.guide import Guide
from adhere.guides.maps import Maps
from adhere.pipelines.engine.moments.foresight import Foresight
from adhere.pipelines.engine.moments.passes import Passes
from adhere.pipelines.engine.state import Now, State
from adhere.pipelines.hooks.denoiser_call import differentiable, normal, single


def chosen_noise(state: State, passes: Passes, now: Now) -> Tensor:
    """The starting latents after all guides that choose them; the same object if none does."""
    choosing, latents = state.overriding("initial"), now.moved
    if not choosing:
        return latents
    sigma = float(getattr(state.scheduler, "init_noise_sigma", 1.0))
    # A guide may differentiate here, which callers in inference mode would not allow.
    given = noise = normal(single(latents) / sigma)
    look = Look(passes, Foresight(passes, now), noise, sigma)
    for guide in choosing:
        with differentiable(), look.of(guide):
            chosen = guide.initial(noise, look).detach()
        if not torch.isfinite(chosen).all():
            state.report.note("the chosen starting noise was not finite, so it was left as it was")
            continue
        noise = chosen
    if torch.equal(noise, given):
        return latents
    return (noise * sigma).to(latents.dtype)


class Look:
    """What an initial-noise method sees: the maps of the first step, or of a later one."""

    def __init__(self, passes: Passes, foresight: Foresight, noise: Tensor, sigma: float) -> None:
        self.passes, self.foresight, self.sigma = passes, foresight, sigma
        self.step = foresight.first.step
        guides = passes.state.guides
        self._reads = sorted({read for guide in guides for read in guide.reads}, key=str)
        self._seeds = [seed_of(one) for one in noise]
        self._shape, self._device, self._dtype = noise.shape[1:], noise.device, noise.dtype
        self._replay = ExitStack()
        self._guide: Guide | None = None

    @contextmanager
    def of(self, guide: Guide) -> Iterator[None]:
        """A guide looks. It differentiates by itself, so checkpointed blocks may run again at any
        time.
        """
        self._guide = guide
        with self._replay:
            yield

    def __call__(self, noise: Tensor, images: Sequence[int] | None = None, at: float = 0.0) -> Maps:
        chosen = list(range(len(self._seeds)) if images is None else images)
        self._replay.close()
        latents, first, step = noise * self.sigma, self.foresight.first, self.step
        if at > 0:
            seen = self.passes.state.scaled(latents, first.call)
            latents, call, step = self.foresight(seen, chosen, at)
            self.passes.aim(call, step, ahead=True)
        try:
            maps = self.passes.read(latents, chosen, self._reads, step)[0]
        finally:
            self.passes.aim(first.call, self.step)
        self._replay.enter_context(self.passes.replayed())
        return maps

    def pictures(
        self, noise: Tensor, images: Sequence[int] | None = None, at: float = 0.0
    ) -> list[Image.Image]:
        """What the model would draw of any noise, as it predicts at a share of the run."""
        return self.passes.state.preview(self.latents(noise, images, at))

    def latents(
        self, noise: Tensor, images: Sequence[int] | None = None, at: float = 0.0, text: str = ""
    ) -> Tensor:
        """The latents of that picture; with a text, of the guide's columns, for its prompt."""
        chosen = list(range(len(self._seeds)) if images is None else images)
        assert self._guide is not None  # who looks
        alone = self.passes.extras.alone(self._guide, text) if text else nullcontext()
        with alone:
            seen = self.passes.state.scaled(noise * self.sigma, self.foresight.first.call)
            return self.foresight.picture(seen, chosen, at)

    def fresh(self, images: Sequence[int], draw: int) -> Tensor:
        """Noise that depends on the image's own starting noise and `draw` only, so a batch equals
        its images made one by one."""
        noises = [drawn(self._seeds[image] + draw, self._shape) for image in images]
        return torch.stack(noises).to(self._device, self._dtype)


def drawn(seed: int, shape: Sequence[int]) -> Tensor:
    """Noise of unit variance, the same on every device and with every default precision."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)


def seed_of(noise: Tensor) -> int:
    """A seed that a starting noise itself gives."""
    # Its signs, so that the same noise in half precision has the same siblings.
    data = (noise.detach() > 0).cpu().numpy().tobytes()
    return int.from_bytes(hashlib.sha256(data).digest()[:6], "big")

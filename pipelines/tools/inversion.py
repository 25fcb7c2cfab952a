"""Which noise a UNet would have made a picture from: DDIM run backwards, with its trajectory.

    x_{k+1} = a_{k+1} (x_k - s_k e) / a_k + s_{k+1} e
    a, s    = sqrt(alpha_bar), sqrt(1 - alpha_bar)
    e       = the noise that is predicted at x_{k+1}, found by a fixed-point iteration from x_k

so that a DDIM step from x_{k+1} leads back to x_k (Song et al., arXiv:2010.02502). The iteration is
that of ReNoise (Garibi et al., arXiv:2403.14602): e is the mean of all predictions but the first,
without which some pictures of the toybox did not come back (0.53 of their latents' norm away; 0.02
with the mean). Its noise correction is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers import DDIMScheduler
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from adhere.errors import ModelError, ParameterError
from adhere.pipelines.families import family_of
from adhere.pipelines.families.unet import UNetFamily
from adhere.pipelines.hooks.schedulers.levels import flows, has_table
from adhere.pipelines.hooks.schedulers.predictions import to_noise

Latents = Float[Tensor, "1 channels h w"]
Tick = Callable[[float], None]


class Denoiser:
    """A pipeline's UNet between the levels of a DDIM run, level 0 being the picture.

    Args:
        pipe: a Stable Diffusion 1.x, 2.x or XL pipeline, or the toybox.
        texts: what it may be told, by their places.
        steps: of the run.

    Raises:
        ModelError: it is of another family, or its scheduler has no noise levels of its own.
    """

    def __init__(self, pipe: Any, texts: Sequence[str], steps: int) -> None:
        refuse(pipe)
        self.pipe, self.steps = pipe, steps
        self.scheduler = DDIMScheduler.from_config(
            pipe.scheduler.config, timestep_spacing="leading"
        )
        self.scheduler.set_timesteps(steps)
        table = self.scheduler.alphas_cumprod
        # Stable Diffusion's schedulers count from 1, one too far in as many steps as there are.
        moments = reversed(self.scheduler.timesteps.tolist())
        self.timesteps = [0, *(min(moment, len(table) - 1) for moment in moments)]
        self.alphas = [self.scheduler.final_alpha_cumprod, *table[self.timesteps[1:]]]
        self.text = family_of(pipe).encode(list(texts)).values

    def noise(self, level: int, latents: Sequence[Latents], texts: Sequence[int]) -> list[Latents]:
        """What is predicted to be noise in some latents of a level, each under a text of its own.

        Args:
            texts: their places among the denoiser's.
        """
        rows, places = torch.cat(list(latents)), list(texts)
        unet = self.pipe.unet
        more = {"encoder_hidden_states": self.text["encoder_hidden_states"][places].to(unet.dtype)}
        if "added_cond_kwargs" in self.text:
            pooled = self.text["added_cond_kwargs"]["text_embeds"][places]
            more["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": self._sizes(rows)}
        found = unet(rows.to(unet.dtype), self.timesteps[level], **more).sample.float()
        noise = to_noise(self.scheduler, found, rows, self._alpha(level))
        return list(noise.chunk(len(rows)))

    def moved(self, latents: Latents, noise: Latents, start: int, end: int) -> Latents:
        """Latents of one level as they are at another, by the noise in them."""
        one, other = self._alpha(start), self._alpha(end)
        picture = (latents - (1 - one).sqrt() * noise) / one.sqrt()
        moved: Tensor = other.sqrt() * picture + (1 - other).sqrt() * noise
        return moved

    def _alpha(self, level: int) -> Tensor:
        alpha: Tensor = self.alphas[level].to(self.pipe.device, torch.float32)
        return alpha

    def _sizes(self, rows: Tensor) -> Tensor:
        """What SDXL is told of sizes: the original's, no cropping, the target's."""
        factor = self.pipe.vae_scale_factor
        size = [side * factor for side in rows.shape[-2:]]
        return torch.tensor([[*size, 0, 0, *size]], device=rows.device).expand(len(rows), -1)


def inverted(
    denoiser: Denoiser, latents: Latents, text: int, iterations: int, tick: Tick
) -> list[Latents]:
    """The trajectory of a picture's latents: level 0, as given, to the noisiest.

    Args:
        text: the place of the text that the picture is read under.
        iterations: of the fixed point, at each level.
    """
    path = [latents]
    for level in range(denoiser.steps):
        moved, said = path[-1], list[Latents]()
        for _ in range(iterations):
            said += denoiser.noise(level + 1, [moved], [text])
            mean = torch.stack(said[1:] or said).mean(dim=0)
            moved = denoiser.moved(path[-1], mean, level, level + 1)
            tick(1)
        path.append(moved)
    return path


def encoded(pipe: Any, picture: Image.Image) -> Latents:
    """A picture's latents, without noise."""
    pixels = pipe.image_processor.preprocess(picture, height=picture.height, width=picture.width)
    found = pipe.vae.encode(pixels.to(pipe.vae.device, pipe.vae.dtype))
    drawn = found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latents
    latents: Tensor = drawn.float() * pipe.vae.config.scaling_factor
    return latents


def decoded(pipe: Any, latents: Latents) -> Image.Image:
    """The picture of latents without noise."""
    vae = pipe.vae
    pixels = vae.decode((latents / vae.config.scaling_factor).to(vae.dtype)).sample
    image: Image.Image = pipe.image_processor.postprocess(pixels, "pil")[0]
    return image


def refuse(pipe: Any) -> None:
    """Raise `ModelError` for a model whose pictures cannot be inverted here."""
    if not isinstance(family_of(pipe), UNetFamily):
        raise ModelError(
            f"{type(pipe).__name__} has no UNet, and pictures are inverted along a UNet's noise "
            "levels here; use Stable Diffusion 1.x, 2.x or XL, or the toybox"
        )
    if flows(pipe.scheduler) or not has_table(pipe.scheduler):
        raise ModelError(
            f"{type(pipe.scheduler).__name__} has no table of noise levels to invert a picture "
            "along; give the pipeline one that has, such as DDIM or Euler"
        )


def check_size(pipe: Any, picture: Image.Image) -> None:
    """Raise `ParameterError` for a picture of a size that the model does not draw."""
    unet = pipe.unet.config
    cell = pipe.vae_scale_factor
    grid = cell << (len(unet.block_out_channels) - 1)
    size = unet.sample_size or 64
    own = cell * (size if isinstance(size, int) else min(size))
    sides = (picture.width, picture.height)
    if any(side % grid for side in sides) or not own / 2 <= min(sides) <= max(sides) <= 2 * own:
        raise ParameterError(
            f"the picture has {picture.width}x{picture.height} pixels; this model draws about "
            f"{own}x{own}, in multiples of {grid}: crop or resize the picture"
        )

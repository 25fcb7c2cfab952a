"""ScalingConcept: more or less of one concept in a real picture (Huang et al., arXiv:2410.24151).

Invert the picture while the model is told the concept; what it then draws with and without that
text differs by what the concept is in this picture. Scale the difference on the way back.

    w_i = w (1 - i / (T - 1))^gamma                    step i of T
    e   = e_0 + w_i (e_c - e_0)                        e_0: told nothing, e_c: told the concept
    e  += w_i (e_r - e_c)  in the first steps          e_r: told the concept, of the inversion's own
                                                       latents at this level (regularisation)

w above 1 enhances, below 1 suppresses, 0 removes. Differs from the authors' code
(WikiChao/ScalingConcept, SDXL): ReNoise without its correction of the noise, the steps of the
regularisation as a share of the run; all models with a UNet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from adhere.errors import ParameterError
from adhere.pipelines.tools.inversion import (
    Denoiser,
    Latents,
    Tick,
    check_size,
    decoded,
    encoded,
    inverted,
    refuse,
)
from adhere.prompt.phrases import TORN, torn

CONCEPT, NOTHING = 0, 1
"""The places of the texts."""


_WHOLE = ("steps", "iterations")


@dataclass(frozen=True)
class Scaling:
    """What is to become of a concept.

    Attributes:
        concept: what the picture has more or less of.
        scale: w; 3 to 5 enhance, below 1 suppresses, 0 removes.
        steps: of the inversion and of the way back.
        decay: gamma, how soon the scale falls towards 0.
        keep: share of the steps that are held near the picture.
        iterations: of the inversion's fixed point.

    Raises:
        ParameterError: a number out of range, or no concept.
    """

    concept: str
    scale: float = 0.0
    steps: int = 50
    decay: float = 3.0
    keep: float = 0.4
    iterations: int = 3

    def __post_init__(self) -> None:
        if not isinstance(self.concept, str) or not self.concept.strip():
            raise ParameterError("the concept is empty; say what there is to be more or less of")
        if torn(self.concept):
            raise ParameterError(f"concept={self.concept!a} {TORN}")
        for name, low, high in (
            ("scale", 0, 100), ("steps", 2, 1000), ("decay", 0, 100), ("keep", 0, 1),
            ("iterations", 1, 100),
        ):  # fmt: skip
            value, kinds = getattr(self, name), int if name in _WHOLE else (int, float)
            if not isinstance(value, kinds) or not low <= value <= high:
                raise ParameterError(
                    f"{name}={value!r} is out of range; give a {'whole ' * (name in _WHOLE)}number "
                    f"from {low} to {high}"
                )

    @property
    def passes(self) -> int:
        """Calls of the model: those of the inversion, and one of three rows a step back."""
        return self.steps * (self.iterations + 1)

    def weight(self, step: int) -> float:
        """w_i."""
        return float(self.scale * (1 - step / (self.steps - 1)) ** self.decay)


@torch.no_grad()
def scale_concept(
    pipe: Any, picture: Image.Image, how: Scaling, tick: Tick = lambda amount: None
) -> Image.Image:
    """The picture with more or less of a concept.

    Args:
        pipe: a Stable Diffusion 1.x, 2.x or XL pipeline, or the toybox.
        picture: of a size that the model draws.
        tick: told of every pass.

    Raises:
        ModelError: the model has no UNet, or no table of noise levels.
        ParameterError: the picture has another size, or is none of PIL's; or `how` is no Scaling.
    """
    refuse(pipe)
    if not isinstance(picture, Image.Image):
        raise ParameterError(
            f"a {type(picture).__name__} was given for the picture; open it as PIL's: "
            "Image.open('picture.png')"
        )
    if not isinstance(how, Scaling):
        raise ParameterError(f"how={how!r} is no Scaling; give Scaling('a crown', scale=0)")
    picture = picture.convert("RGB")
    check_size(pipe, picture)
    denoiser = Denoiser(pipe, [how.concept, ""], how.steps)
    path = inverted(denoiser, encoded(pipe, picture), CONCEPT, how.iterations, tick)
    return decoded(pipe, scaled(denoiser, path, how, tick))


def scaled(denoiser: Denoiser, path: list[Latents], how: Scaling, tick: Tick) -> Latents:
    """The way back from the end of a trajectory, with the concept scaled."""
    latents = path[-1]
    for step in range(how.steps):
        level = how.steps - step
        weight = how.weight(step)
        given = [latents, latents, path[level]]
        told, untold, read = denoiser.noise(level, given, [CONCEPT, NOTHING, CONCEPT])
        noise = untold + weight * (told - untold)
        if step < how.keep * how.steps:
            noise = noise + weight * (read - told)
        latents = denoiser.moved(latents, noise, level, level - 1)
        tick(1)
    return latents

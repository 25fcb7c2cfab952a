"""Golden Noise (Zhou et al., ICCV 2025, arXiv:2411.09502).

A step of denoising with guidance and a step of inversion without leave something of the prompt in a
noise, and often a better picture comes of it. A small network learns that from many such pairs, and
moves any noise so, for next to nothing.

    x_{T-1} = DDIM step from x_T with guidance;   x'_T = DDIM inversion from x_{T-1} without
    NPNet   = argmin |net(x_T, text) - x'_T|^2    pairs whose x'_T has the better picture by a score
    net     = U diag(s + g) V^T + (2 sigmoid(alpha) - 1) e + beta phi(x + e)

with U, s, V of x_T as a matrix and e = x_T, normalised, then scaled and shifted by the text.
`adhere train golden-noise` collects pairs and trains.

From the authors' code (xie-lab-ml/Golden-Noise-for-Diffusion-Models@c7054ba). Differs from it: phi
are three convolutions, not a pretrained Swin transformer; the text is the mean of its columns, not
all of them; g is predicted of the singular vectors' squares, whose signs mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.guide import Guide, Look, Step, Text
from adhere.guides.parameters import Free, param
from adhere.guides.run import Run
from adhere.guides.stored import PROBE
from adhere.plugins.mathematics.noise_network import MAKE, StoredNetwork


@dataclass(frozen=True)
class GoldenNoise(Free):
    """Begin with noise that a small network has moved towards the prompt."""

    name: ClassVar[str] = "golden-noise"
    task: ClassVar[str] = "noise"

    network: str | None = param(
        None, "file that adhere train golden-noise has made", source="sec. 3.2", local=()
    )
    strength: float = param(
        1.0, "how far towards the network's noise: 1 is that, 0 the given one", low=0, high=4
    )
    any_model: bool = param(
        False, "whether another model's network will do, if latents and texts are alike"
    )

    def guide(self, run: Run) -> Guide:
        if self.network is None:
            raise ParameterError(
                f"{self.name}: no network; train one ({MAKE}), name it: network=golden.safetensors"
            )
        network = StoredNetwork.read(self.network)
        off = self.strength == 0 or not run.from_noise(self.name)
        if not off and not self.any_model:
            network.check_model(run.weights())
        return _Guide(self, network, off)


class _Guide(Guide):
    def __init__(self, plugin: GoldenNoise, network: StoredNetwork, off: bool) -> None:
        self.plugin, self.network = plugin, network
        self.off = off
        self.words: Tensor | None = None
        self.moved: list[float] = []

    def embed(self, step: Step, text: Text) -> Text:
        if self.words is None:
            self.network.check_text(words_of(text.encode([PROBE]))[0])
            self.words = words_of(text.cond)
        return text

    def initial(
        self, noise: Float[Tensor, "batch channels h w"], look: Look
    ) -> Float[Tensor, "batch channels h w"]:
        self.network.check_shape(tuple(noise.shape[1:]))
        assert self.words is not None  # the text is embedded before noise is chosen
        given = noise.float().cpu()
        with torch.no_grad():
            change = self.plugin.strength * (self.network.network(given, self.words) - given)
        self.moved = (change.flatten(1).norm(dim=1) / given.flatten(1).norm(dim=1)).tolist()
        moved: Tensor = noise + change.to(noise)
        return moved

    def report(self) -> dict[str, Any]:
        return {"images": [{"moved": moved} for moved in self.moved]}


def words_of(embeds: Float[Tensor, "batch tokens words"]) -> Float[Tensor, "batch words"]:
    """What a network reads of texts: the mean of their columns."""
    found: Tensor = embeds.float().mean(dim=1).cpu()
    return found

"""A small network that moves a starting noise by what its prompt says, and the file that holds it.

Made by `adhere train golden-noise`; `golden_noise.py` begins with what it makes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adhere.errors import ParameterError
from adhere.guides.stored import Stored, read, same_encoder

NETWORK = "noise network"
MAKE = "adhere train golden-noise --model MODEL --out golden.safetensors"

Noise = Float[Tensor, "batch channels h w"]


class NoiseNetwork(nn.Module):
    """x' = U diag(s + g) V^T + (2 sigmoid(alpha) - 1) e + beta phi(x + e).

    U, s, V are those of the noise as one matrix; g is predicted of them; e is the noise, normalised
    and then scaled and shifted as the text says; phi are convolutions. Fresh, it changes nothing.

    Args:
        latents: channels, height and width of a noise.
        words: channels of a text embedding.
        width: of the hidden layers.
    """

    def __init__(self, latents: tuple[int, int, int], words: int, width: int = 64) -> None:
        super().__init__()
        channels, h, w = latents
        self.parts = 2 if channels % 2 == 0 else 1
        sides = (self.parts * h, channels // self.parts * w)
        rank = min(sides)
        self.left, self.right = (_perceptron(side, width, rank) for side in sides)
        self.values = nn.Linear(rank, rank)
        self.last = _perceptron(rank, width, rank)
        self.text = nn.Linear(words, 2 * channels)
        self.alpha, self.beta = (nn.Parameter(torch.zeros(1)) for _ in range(2))
        self.residual = nn.Sequential(
            *(nn.Conv2d(channels, width, 3, padding=1), nn.SiLU()),
            *(nn.Conv2d(width, width, 3, padding=1), nn.SiLU()),
            nn.Conv2d(width, channels, 3, padding=1),
        )
        for zero in (*self.last[-1].parameters(), *self.text.parameters()):
            nn.init.zeros_(zero)

    def forward(self, noise: Noise, words: Float[Tensor, "batch words"]) -> Noise:
        e = self._told(noise, words)
        found: Tensor = self._recomposed(noise) + (2 * self.alpha.sigmoid() - 1) * e
        found = found + self.beta * self.residual(noise + e)
        return found

    def _told(self, noise: Noise, words: Float[Tensor, "batch words"]) -> Noise:
        scale, shift = self.text(words)[..., None, None].chunk(2, dim=1)
        told: Tensor = nn.functional.group_norm(noise, 1) * (1 + scale) + shift
        return told

    def _recomposed(self, noise: Noise) -> Noise:
        """The noise with other singular values."""
        batch, channels, h, w = noise.shape
        parts = self.parts
        apart = noise.reshape(batch, parts, channels // parts, h, w).transpose(2, 3)
        left, values, right = torch.linalg.svd(
            apart.reshape(batch, parts * h, -1), full_matrices=False
        )
        # Squares, since the signs of singular vectors mean nothing.
        seen = self.left(left.mT.square()) + self.right(right.square())
        moved = values + self.last(seen + self.values(values)[:, None]).mean(dim=1)
        whole: Tensor = left @ (moved[..., None] * right)
        return (
            whole.reshape(batch, parts, h, channels // parts, w).transpose(2, 3).reshape_as(noise)
        )


def _said(error: Exception) -> str:
    """What is wrong with weights, in a line: the first thing that torch finds."""
    return (str(error).splitlines()[1:2] or [str(error)])[0].strip().rstrip(".")


def _perceptron(given: int, width: int, made: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(given, width), nn.ReLU(), nn.Linear(width, made))


@dataclass(frozen=True)
class StoredNetwork:
    """A network from a file, whose `about` has model, weights (of the denoiser), latents, width.

    Attributes:
        probe: the mean embedding of `PROBE` by the model's text encoder.
    """

    stored: Stored
    network: NoiseNetwork
    latents: tuple[int, int, int]
    probe: Float[Tensor, " words"]

    @classmethod
    def read(cls, path: str | Path) -> StoredNetwork:
        """From a file.

        Raises:
            ParameterError: it is no noise network, or its tensors do not fit together.
        """
        told = ("latents", "width", "model", "weights")
        stored = read(path, NETWORK, MAKE, {"probe": 1}, told)
        tensors = dict(stored.tensors)
        try:
            probe = tensors.pop("probe").float()
            channels, h, w = map(int, stored.about["latents"].split("x"))
            network = NoiseNetwork((channels, h, w), len(probe), int(stored.about["width"]))
            network.load_state_dict(tensors)
        except (KeyError, ValueError, RuntimeError) as error:
            raise ParameterError(
                f"{str(path)!r} does not hold the weights of a noise network "
                f"({_said(error)}); make one with: {MAKE}"
            ) from error
        return cls(stored, network.requires_grad_(False).eval(), (channels, h, w), probe)

    def check_model(self, weights: str) -> None:
        """Raise `ParameterError` for another model than the network's, by its weights."""
        own = self.stored.about
        if not weights or own["weights"] != weights:
            raise ParameterError(
                f"{str(self.stored.path)!r} was trained for the model {own['model']!r} (weights "
                f"{own['weights'] or 'unknown'}), and this one is another (weights "
                f"{weights or 'unknown'}); train one for it ({MAKE}), or set any_model=true where "
                "one was made from the other"
            )

    def check_text(self, probe: Float[Tensor, " words"]) -> None:
        """Raise `ParameterError` for another text encoder, by its embedding of `PROBE`."""
        if not same_encoder(self.probe, probe):
            raise ParameterError(
                f"{str(self.stored.path)!r} was trained with another text encoder than this "
                "model's, or with texts of another length (max_sequence_length); train one for "
                f"this: {MAKE}"
            )

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise `ParameterError` for latents of another shape than the network's."""
        if shape != self.latents:
            own, given = ("x".join(map(str, one)) for one in (self.latents, shape))
            raise ParameterError(
                f"{str(self.stored.path)!r} moves noise of {own} (channels, height, width), and "
                f"this call draws latents of {given}; draw pictures of its size, or train one for "
                f"this size: {MAKE} --width W --height H"
            )

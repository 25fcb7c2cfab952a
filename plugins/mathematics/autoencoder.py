"""A k-sparse autoencoder of a text encoder's hidden states: what its file holds, and its features.

Made by `adhere train concept-steering`; `concept_steering.py` steers with it. The tensors have the
names of kim-dahye/steerers' checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.guide import Text
from adhere.guides.stored import Stored, read, same_encoder

AUTOENCODER = "k-sparse autoencoder"
MAKE = "adhere train concept-steering --model MODEL --out concepts.safetensors"

WEIGHTS = ("encoder.weight", "decoder.weight", "pre_bias", "latent_bias")


@dataclass(frozen=True)
class Autoencoder:
    """A file's contents.

    Attributes:
        name: of the text encoder, as pipelines call it.
        layer: whose output the hidden states are, counted from 0.
        encoder, decoder, pre_bias, latent_bias: float32.
        probe: the hidden states of `PROBE`.
    """

    stored: Stored
    name: str
    layer: int
    encoder: Float[Tensor, "features channels"]
    decoder: Float[Tensor, "channels features"]
    pre_bias: Float[Tensor, " channels"]
    latent_bias: Float[Tensor, " features"]
    probe: Float[Tensor, "tokens channels"]

    @classmethod
    def read(cls, path: str | Path) -> Autoencoder:
        """From a file.

        Raises:
            ParameterError: it is no autoencoder, or its tensors do not fit together.
        """
        stored = read(path, AUTOENCODER, MAKE, about=("encoder", "layer"))
        found, layer = weights_of(stored), stored.about["layer"]
        if not layer.isdecimal():
            raise ParameterError(
                f"{str(path)!r} says that it is for layer {layer!r}, which is no whole number from "
                f"0 on; write it anew: {MAKE} --begin {path} --layer N --steps 0"
            )
        if "probe" not in stored.tensors or stored.tensors["probe"].shape[1:] != found[2].shape:
            raise ParameterError(
                f"{str(path)!r} does not say which text encoder it is for; write it anew: {MAKE} "
                f"--begin {path} --steps 0"
            )
        probe = stored.tensors["probe"].float()
        return cls(stored, stored.about["encoder"], int(layer), *found, probe)

    def check(self, probe: Float[Tensor, "tokens channels"]) -> None:
        """Raise `ParameterError` for another text encoder, by its hidden states of `PROBE`.

        Texts may be padded to another length (`max_sequence_length`), which an encoder that reads
        from left to right does not feel in the tokens that both have.
        """
        tokens = min(len(self.probe), len(probe))
        if same_encoder(self.probe[:tokens], probe[:tokens]):
            return
        lengths = (
            f" (or feels that texts have {len(probe)} tokens here and had {len(self.probe)} there: "
            "max_sequence_length)"
            if len(probe) != len(self.probe)
            else ""
        )
        raise ParameterError(
            f"{str(self.stored.path)!r} was made with the {self.name} of the model "
            f"{self.stored.about.get('model', 'of another name')!r}, and this model's is "
            f"another{lengths}; make one with it: {MAKE}"
        )

    def features(self, hidden: Float[Tensor, "*n channels"]) -> Float[Tensor, "*n features"]:
        """How strongly each feature is found: relu(W_enc (h - b_pre) + b)."""
        centred = hidden.float().cpu() - self.pre_bias
        return torch.relu(centred @ self.encoder.T + self.latent_bias)

    def direction(self, features: Float[Tensor, "*n features"]) -> Float[Tensor, "*n channels"]:
        """What features are in hidden states, without what all of these share: W_dec f."""
        return features @ self.decoder.T

    def hidden(self, text: Text, words: str) -> Float[Tensor, "tokens channels"]:
        """The hidden states of a text."""
        seen: list[Tensor] = []

        def keep(states: Tensor) -> Tensor:
            seen.append(states)
            return states

        text.within([words], self.name, self.layer, keep)
        return seen[0][0]

    def shift(
        self, text: Text, texts: Sequence[str], steering: Float[Tensor, "tokens channels"]
    ) -> Float[Tensor, "texts more width"]:
        """What a change of their hidden states makes of some texts' final embeddings."""
        steered = text.within(texts, self.name, self.layer, lambda h: added(h, steering[None]))
        return steered.float() - text.encode(texts).float()


def added(
    states: Float[Tensor, "rows tokens channels"], change: Float[Tensor, "rows more channels"]
) -> Float[Tensor, "rows tokens channels"]:
    """States moved by a change, token by token; tokens that it does not have stay."""
    tokens = min(states.shape[1], change.shape[1])
    moved = states.clone()
    moved[:, :tokens] = (states[:, :tokens] + change[:, :tokens].to(states.device)).to(states)
    return moved


def weights_of(stored: Stored) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """An autoencoder's four weights.

    Raises:
        ParameterError: one is missing, or they do not fit together.
    """
    found = [stored.tensors.get(name) for name in WEIGHTS]
    shapes = [None if one is None else tuple(one.shape) for one in found]
    features, channels = shapes[0] if shapes[0] and len(shapes[0]) == 2 else (0, 0)
    if shapes != [(features, channels), (channels, features), (channels,), (features,)]:
        told = ", ".join(f"{name} {shape}" for name, shape in zip(WEIGHTS, shapes, strict=True))
        raise ParameterError(
            f"{str(stored.path)!r} has {told}; an autoencoder of n features of d channels has (n, "
            "d), (d, n), (d,), (n,)"
        )
    encoder, decoder, pre, latent = (one.float() for one in found if one is not None)
    return encoder, decoder, pre, latent

"""Prototypes of a concept: their file, which one is nearest to a prompt, and the way from it.

Made by `adhere train prototype`; `prototype.py` guides away from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.stored import Stored, read, same_encoder

PROTOTYPES = "file of prototypes"
MAKE = "adhere train prototype --model MODEL --concept WORDS --out prototypes.safetensors"


@dataclass(frozen=True)
class Prototypes:
    """A file's contents.

    Attributes:
        embeds: of each prototype, as the denoiser reads a text.
        vectors: of each prototype, of length one, in the space of the CLIP.
        projection: from the embedding of a text's end to that space.
        probe: the embedding of the end of `PROBE`.
    """

    stored: Stored
    embeds: Float[Tensor, "prototypes tokens width"]
    vectors: Float[Tensor, "prototypes channels"]
    projection: Float[Tensor, "width channels"]
    probe: Float[Tensor, " width"]

    @classmethod
    def read(cls, path: str | Path) -> Prototypes:
        """From a file.

        Raises:
            ParameterError: it holds no prototypes, or its tensors do not fit together.
        """
        names = {"embeds": 3, "vectors": 2, "projection": 2, "probe": 1}
        stored = read(path, PROTOTYPES, MAKE, names)
        embeds, vectors, projection, probe = (stored.tensors[name].float() for name in names)
        shapes = [tuple(one.shape) for one in (embeds, vectors, projection, probe)]
        count, width, channels = len(embeds), embeds.shape[-1], vectors.shape[-1]
        fit = [(count, *embeds.shape[1:2], width), (count, channels), (width, channels), (width,)]
        if not count or shapes != fit:
            told = ", ".join(f"{name} {shape}" for name, shape in zip(names, shapes, strict=True))
            raise ParameterError(
                f"{str(path)!r} has {told}; n prototypes of t tokens have (n, t, w), (n, c), "
                f"(w, c), (w,); make them with: {MAKE}"
            )
        return cls(stored, embeds, vectors, projection, probe)

    def check(self, probe: Float[Tensor, " width"], tokens: int) -> None:
        """Raise `ParameterError` for another text encoder, by its embedding of `PROBE`, or for
        texts of another length.
        """
        if not same_encoder(self.probe, probe):
            raise ParameterError(
                f"{str(self.stored.path)!r} was made with the text encoder of the model "
                f"{self.stored.about.get('model', 'of another name')!r}, and this model's is "
                f"another; make one with it: {MAKE}"
            )
        if self.embeds.shape[1] != tokens:
            raise ParameterError(
                f"{str(self.stored.path)!r} has prototypes of {self.embeds.shape[1]} tokens, and "
                f"this call's texts have {tokens}; give a prompt of the encoder's own length"
            )

    def nearest(
        self, ends: Float[Tensor, "texts width"]
    ) -> tuple[Float[Tensor, " texts"], Int[Tensor, " texts"]]:
        """Of each text, by the embedding of its end, the highest cosine and whose it is."""
        texts = torch.nn.functional.normalize(ends @ self.projection, dim=1)
        cosines, places = (texts @ self.vectors.T).max(dim=1)
        return cosines, places


def erasure(
    none: Float[Tensor, "batch channels h w"],
    cond: Float[Tensor, "batch channels h w"],
    prototype: Float[Tensor, "batch channels h w"],
    guidance: float,
    scale: float,
    floor: float,
    rescale: float,
) -> Float[Tensor, "batch channels h w"]:
    """The guided prediction without what a prototype adds."""
    plain, away = none + guidance * (cond - none), prototype - none
    erased = plain - scale * torch.where(away.abs() > floor, away, 0.0)
    spread, own = (one.std(dim=(1, 2, 3), keepdim=True) for one in (plain, erased))
    return rescale * erased * spread / (own + 1e-8) + (1 - rescale) * erased

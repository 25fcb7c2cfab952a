"""A library of starting noises: what the model draws from each seed when it is told nothing.

Made by `adhere noise library`; `noise_query.py` and `adhere noise pick` look things up in it.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.stored import Stored, read, same_encoder

LIBRARY = "noise library"
MAKE = "adhere noise library --model MODEL --out library.safetensors"
POOLED = "pooled"
"""What a library says of texts that are compared by their pooled embeddings, not their ends'."""


def noise_of(seed: int, shape: tuple[int, ...]) -> Float[Tensor, "channels h w"]:
    """A seed's starting noise; as pipelines draw it in single precision."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn((1, *shape), generator=generator, dtype=torch.float32)[0]


@dataclass(frozen=True)
class NoiseLibrary:
    """Seeds with the features of their unconditional pictures.

    Attributes:
        stored: the file. Its `about` has model, weights, latents, steps, scheduler.
        seeds: `Int[n]`.
        names: of the statistics; `statistics` has a column for each.
        features: of the pictures, in the space of a CLIP, of length one; None without a CLIP.
    """

    stored: Stored
    seeds: Int[Tensor, " n"]
    names: tuple[str, ...]
    statistics: Float[Tensor, "n statistics"]
    features: Float[Tensor, "n channels"] | None

    @classmethod
    def read(cls, path: str | Path) -> NoiseLibrary:
        """From a file.

        Raises:
            ParameterError: it is no noise library, or its tensors do not fit together.
        """
        told = ("statistics", "latents", "model", "weights")
        stored = read(path, LIBRARY, MAKE, {"seeds": 1, "statistics": 2}, told)
        tensors, names = stored.tensors, re.findall(r'"(.+?)"', stored.about["statistics"])
        seeds, features = tensors["seeds"], tensors.get("features")
        shape = {name: [*one.shape] for name, one in tensors.items()}
        n, c, w = len(seeds), shape.get("features", [])[1:] or [0], shape.get("probe", [0])
        fit = {"statistics": [n, len(names)], "features": [n, *c[:1]], "probe": w[:1]}
        fit |= {"projection": [*w, *c]}
        wrong = [name for name in fit if shape.get(name, fit[name]) != fit[name]]
        if wrong or not n or seeds.is_floating_point():
            raise ParameterError(
                f"the tensors of {str(path)!r} do not fit together ({', '.join(wrong) or 'seeds'});"
                f" make one with: {MAKE}"
            )
        return cls(stored, seeds, tuple(names), tensors["statistics"], features)

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise `ParameterError` for latents of another shape than the library's."""
        own, given = self.stored.about["latents"], "x".join(map(str, shape))
        if own != given:
            raise ParameterError(
                f"{str(self.stored.path)!r} has noise of {own} (channels, height, width), and this "
                f"call draws latents of {given}; draw pictures of the library's size, or make one "
                f"for this size: {MAKE} --width W --height H"
            )

    def check_model(self, weights: str) -> None:
        """Raise `ParameterError` for another model than the library's, by its weights, or for one
        that cannot be told from others.
        """
        own = self.stored.about
        if not weights or own["weights"] != weights:
            raise ParameterError(
                f"{str(self.stored.path)!r} was made with the model {own['model']!r} (weights "
                f"{own['weights'] or 'unknown'}), and this one is another (weights "
                f"{weights or 'unknown'}); make a library with it ({MAKE}), or set any_model=true: "
                "what a noise becomes is much alike in models of one kind"
            )

    def statistic(self, target: str) -> Float[Tensor, " n"] | None:
        """The column of a statistic; None for a text.

        Raises:
            ParameterError: a word that is nearly one, as `brightnes`, or none at all.
        """
        if not target.strip():
            raise ParameterError(
                f"target {target!r} says nothing; give prompt, a statistic "
                f"({', '.join(self.names)}) or a text"
            )
        if target in self.names:
            return self.statistics[:, self.names.index(target)]
        near = difflib.get_close_matches(target.strip().lower(), self.names, n=1, cutoff=0.8)
        if near:
            raise ParameterError(
                f"target {target!r} is no statistic of the library; did you mean {near[0]!r}? It "
                f"has {', '.join(self.names)}; a text of several words is read as a text"
            )
        return None

    def noise(
        self, seeds: Sequence[int], shape: tuple[int, ...]
    ) -> Float[Tensor, "seeds channels h w"]:
        """The starting noise of some seeds; `ParameterError` for latents of another shape."""
        self.check_shape(shape)
        return torch.stack([noise_of(seed, shape) for seed in seeds])

    def picked(self, scores: Float[Tensor, " n"], top: int, chance: float) -> int:
        """One of the `top` best seeds, by a draw of a standard normal variable."""
        return int(self.seeds[chosen(best(scores, top), chance)])

    def space(self, target: str) -> Space:
        """Where the model's own texts can be compared with the library's pictures.

        Raises:
            ParameterError: nowhere: the CLIP's text encoder, if there was one, is not the model's.
        """
        tensors = self.stored.tensors
        if self.features is None or not {"projection", "probe"} <= tensors.keys():
            raise ParameterError(
                f"{str(self.stored.path)!r} cannot compare texts as this model embeds them, so "
                f"target={target!r} cannot be looked up; give a statistic "
                f"({', '.join(self.names)}), make the library with the CLIP whose text encoder the "
                "model has (--clip FOLDER), or ask for seeds: adhere noise pick LIBRARY TEXT"
            )
        words = tensors["projection"], tensors["probe"], self.stored.about.get("texts") == POOLED
        return Space(self.stored.path, self.features, *words)


@dataclass(frozen=True)
class Space:
    """The space of a CLIP whose text encoder is the model's.

    Attributes:
        features: of the pictures.
        projection: from the embedding of a text's end to the space.
        probe: the embedding of the end of `PROBE` by the library's model.
        pooled: whether it is the pooled embedding of a text, in place of its end's.
    """

    path: Path
    features: Float[Tensor, "n channels"]
    projection: Float[Tensor, "width channels"]
    probe: Float[Tensor, " width"]
    pooled: bool = False

    def check(self, probe: Float[Tensor, " width"] | None) -> None:
        """Raise `ParameterError` for another text encoder, by its embedding of `PROBE`, if any."""
        if probe is None or not same_encoder(self.probe, probe):
            raise ParameterError(
                f"{str(self.path)!r} was made with another text encoder than this model's; give a "
                f"statistic, or make a library with this model: {MAKE} --clip FOLDER"
            )

    def likeness(self, embed: Float[Tensor, " width"]) -> Float[Tensor, " n"]:
        """The cosines of the pictures with a text."""
        return likest(self.features, embed.float() @ self.projection)


def nearest_level(
    values: Float[Tensor, " n"], level: float
) -> tuple[Float[Tensor, " n"], Float[Tensor, ""]]:
    """How near values are to the one that a share `level` of them lies below; and that one."""
    wanted = values.double().sort().values[round(level * (len(values) - 1))]
    return -(values.double() - wanted).abs(), wanted


def likest(
    features: Float[Tensor, "n channels"], text: Float[Tensor, " channels"]
) -> Float[Tensor, " n"]:
    """Cosines of pictures' features with a text's."""
    return torch.cosine_similarity(features.double(), text.double().cpu()[None], dim=1)


def best(scores: Float[Tensor, " n"], top: int) -> list[int]:
    """The places of the highest scores, best first; of equal ones the earlier first."""
    return scores.sort(descending=True, stable=True).indices[:top].tolist()


def chosen(places: list[int], chance: float) -> int:
    """One of some places by a draw of a standard normal variable, each as likely."""
    share = (1 + math.erf(chance / math.sqrt(2))) / 2
    return places[min(int(share * len(places)), len(places) - 1)]

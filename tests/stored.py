"""Files that some plugins cannot do without, made for latents of any shape and any encoder."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from adhere.guides import stored
from adhere.guides.stored import PROBE
from adhere.pipelines.families import family_of
from adhere.pipelines.tools.autoencoder import Network, hidden_states
from adhere.plugins.mathematics.autoencoder import AUTOENCODER
from adhere.plugins.mathematics.noise_library import LIBRARY
from adhere.plugins.mathematics.noise_network import NETWORK, NoiseNetwork
from adhere.plugins.mathematics.prototypes import PROTOTYPES
from tests import tiny

SHAPE = (4, 16, 16)
"""Of the latents of `tiny.latents`, at its size."""


@functools.cache
def folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="stored-"))


@functools.cache
def noise_library(shape: tuple[int, ...]) -> str:
    """Forty seeds of no model in particular, with a brightness that follows no order."""
    path = folder() / f"library-{'-'.join(map(str, shape))}.safetensors"
    values = torch.rand(40, 1, generator=torch.Generator().manual_seed(0))
    about = {
        "model": "none",
        "weights": "",
        "clip": "",
        "latents": "x".join(map(str, shape)),
        "statistics": json.dumps(["brightness"]),
    }
    stored.write(path, LIBRARY, {"seeds": torch.arange(100, 140), "statistics": values}, about)
    return str(path)


def autoencoder(pipe: Any) -> str:
    """Random features of the first layer of the text encoder that a pipeline reads columns of."""
    name = "text_encoder_2" if family_of(pipe).name == "flux" else "text_encoder"
    probe = hidden_states(pipe, [PROBE], name, 0)
    network = Network(probe.shape[1], 4 * probe.shape[1], 2, seed=1)
    path = (
        folder() / f"concepts-{type(pipe).__name__}-{'x'.join(map(str, probe.shape))}.safetensors"
    )
    about = {"model": "none", "encoder": name, "layer": "0", "k": "2"}
    stored.write(path, AUTOENCODER, {**network.state_dict(), "probe": probe}, about)
    return str(path)


def noise_network(shape: tuple[int, ...], pipe: Any) -> str:
    """A random network that moves noise of a shape as a pipeline's texts say."""
    family = family_of(pipe)
    with torch.no_grad():
        probe = family.encode([PROBE]).values[family.text][0].float().mean(dim=0)
    channels, h, w = shape
    network = NoiseNetwork((channels, h, w), len(probe), width=4)
    draw = torch.Generator().manual_seed(1)
    for weight in network.parameters():
        weight.data = 0.1 * torch.randn(weight.shape, generator=draw)
    size = "x".join(map(str, shape))
    path = folder() / f"golden-{type(pipe).__name__}-{size}-{len(probe)}.safetensors"
    about = {"model": "none", "weights": "", "latents": size, "width": "4"}
    stored.write(path, NETWORK, {**network.state_dict(), "probe": probe}, about)
    return str(path)


def prototypes(pipe: Any) -> str:
    """Random prototypes, one of which some text is near to, for a pipeline's texts."""
    family = family_of(pipe)
    with torch.no_grad():
        embeds = family.encode([PROBE]).values[family.text][0].float()
    place = len(pipe.tokenizer(PROBE).input_ids) - 1 if hasattr(pipe, "unet") else 0
    draw = torch.Generator().manual_seed(1)
    vectors = torch.nn.functional.normalize(torch.randn(16, 3, generator=draw), dim=1)
    tensors = {
        "embeds": torch.randn(16, *embeds.shape, generator=draw),
        "vectors": vectors,
        "projection": torch.randn(embeds.shape[1], 3, generator=draw),
        "probe": embeds[place],
    }
    size = "x".join(map(str, embeds.shape))
    path = folder() / f"prototypes-{type(pipe).__name__}-{size}.safetensors"
    stored.write(path, PROTOTYPES, tensors, {"model": "none"})
    return str(path)


@functools.cache
def of_sd1(kind: Callable[..., str], *given: Any) -> str:
    """Made once, not by two threads that draw their weights from one generator."""
    return kind(*given, tiny.sd1())


def needed(names: set[str], shape: tuple[int, ...] = SHAPE, pipe: Any = None) -> dict[str, Any]:
    """Values for those of a plugin's parameters that name a file.

    Args:
        shape: of the latents.
        pipe: whose text encoders are meant; `tiny.sd1` if left out.
    """
    if "library" in names:
        path = noise_library(shape)
        return {"library": path, "target": "brightness", "any_model": True}
    if "autoencoder" in names:
        path = of_sd1(autoencoder) if pipe is None else autoencoder(pipe)
        return {"autoencoder": path, "concept": "a blue dog"}
    if "network" in names:
        path = of_sd1(noise_network, shape) if pipe is None else noise_network(shape, pipe)
        return {"network": path, "any_model": True}
    if "prototypes" in names:
        return {"prototypes": of_sd1(prototypes) if pipe is None else prototypes(pipe)}
    return {}

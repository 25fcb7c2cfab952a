"""How much attention the words get, and how localised it is, along real trajectories.

Guidance methods push attention maps about; where a noun's map is flat there is nothing to push.
Measured for the conditional half of every cross-attention layer, from the projections of the
module's own inputs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor, nn

from adhere.pipelines.toybox.folder import GUIDANCE_SCALE
from adhere.pipelines.toybox.judge import Judge
from adhere.pipelines.toybox.sprites import KINDS
from adhere.pipelines.toybox.world import SIDE


@dataclass
class Recorder:
    """Collects head-averaged maps of the conditional half: layer name to a list of `(n, h w,
    tokens)`.
    """

    maps: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))

    def hook(self, name: str) -> Any:
        """A pre-hook for one attention module that stores its probabilities."""

        def before(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            text = kwargs.get("encoder_hidden_states")
            if text is None:
                return
            half = len(hidden) // 2
            self.maps[name].append(probabilities(module, hidden[half:], text[half:]))

        return before


@torch.no_grad()
def probabilities(module: Any, hidden: Tensor, text: Tensor) -> Tensor:
    """softmax(q k / sqrt(d)) averaged over heads, `(n, h w, tokens)`."""
    n, heads = len(hidden), module.heads
    q = module.to_q(hidden).float().reshape(n, hidden.shape[1], heads, -1).transpose(1, 2)
    k = module.to_k(text).float().reshape(n, text.shape[1], heads, -1).transpose(1, 2)
    maps: Tensor = (q @ k.transpose(-1, -2) * module.scale).softmax(-1).mean(1)
    return maps


@contextmanager
def recording(unet: nn.Module) -> Iterator[Recorder]:
    """Records every cross-attention layer of a UNet while the block runs."""
    recorder = Recorder()
    handles = [
        module.register_forward_pre_hook(recorder.hook(name), with_kwargs=True)
        for name, module in unet.named_modules()
        if name.endswith("attn2")
    ]
    try:
        yield recorder
    finally:
        for handle in handles:
            handle.remove()


def noun_columns(tokenizer: Any, prompt: str) -> dict[str, int]:
    """The token column of every kind named in a prompt (the start token is column 0)."""
    pieces = tokenizer.tokenize(prompt)
    return {
        piece.removesuffix("</w>"): index + 1
        for index, piece in enumerate(pieces)
        if piece.removesuffix("</w>") in KINDS
    }


def measure(
    pipe: StableDiffusionPipeline, prompts: Sequence[str], seed: int, steps: int = 25
) -> dict[str, dict[str, float]]:
    """Per layer, averaged over steps, pictures and nouns.

    `share` is the noun's part of the attention mass, `spread` the spatial standard deviation over
    the mean, `inside` the noun's mean attention on its own object over that elsewhere (objects
    found by the judge), `other` the same on the other object.
    """
    judge = Judge.load()
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for index, prompt in enumerate(prompts):
        generator = torch.Generator().manual_seed(seed + index)
        with recording(pipe.unet) as recorder:
            image = pipe(
                prompt,
                num_inference_steps=steps,
                guidance_scale=GUIDANCE_SCALE,
                generator=generator,
            ).images[0]
        found = {thing.kind: thing.mask for thing in judge([image])[0].things}
        columns = noun_columns(pipe.tokenizer, prompt)
        for name, maps in recorder.maps.items():
            attention = torch.stack(maps)[:, 0]  # (steps, h w, tokens)
            for noun, column in columns.items():
                others = [found[n] for n in columns if n != noun and n in found]
                _tally(values[name], attention[:, :, column], found.get(noun), others)
    return {
        name: {
            "grid": int(each["grid"][0]),
            **{k: float(np.mean(v)) for k, v in each.items() if k != "grid"},
        }
        for name, each in values.items()
    }


def _tally(
    into: dict[str, list[float]], maps: Tensor, own: Any | None, others: Sequence[Any]
) -> None:
    grid = round(maps.shape[1] ** 0.5)
    into["grid"].append(grid)
    into["share"].append(float(maps.mean()))
    into["spread"].append(float((maps.std(1) / maps.mean(1)).mean()))
    for key, mask in (("inside", own), ("other", others[0] if others else None)):
        if mask is None:
            continue
        cells = torch.from_numpy(mask.astype(np.float32))[None, None]
        cover = nn.functional.avg_pool2d(cells, SIDE // grid).flatten()
        inside = (maps * cover).sum(1) / cover.sum()
        outside = (maps * (1 - cover)).sum(1) / (1 - cover).sum()
        into[key].append(float((inside / outside).mean()))

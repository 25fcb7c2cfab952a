"""Plain pictures together with the cross-attention of every layer at every step.

Guidance reads attention beside the model's own kernels; here, where nothing is guided, the
training's processors take their place, and one run shows all layers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from adhere.pipelines.toybox.model.folder import DEFAULTS
from adhere.pipelines.toybox.training.grounding import JointAttention, PlainAttention

Maps = dict[str, Tensor]
"""By layer, probabilities of the conditional pass, averaged over heads, `(n, steps, cells,
tokens)`.
"""


def draw(
    pipe: Any, prompts: Sequence[str], seeds: Sequence[int], steps: int | None = None
) -> tuple[list[Image.Image], Maps]:
    """One unguided picture a prompt, and what its words looked at."""
    defaults = DEFAULTS[type(pipe).__name__]
    denoiser = getattr(pipe, "unet", None) or pipe.transformer
    with watched(denoiser) as found:
        images: list[Image.Image] = pipe(
            list(prompts),
            num_inference_steps=steps or defaults.steps,
            guidance_scale=defaults.guidance_scale,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        ).images
    return images, {name: torch.stack(frames, 1) for name, frames in found.items()}


@contextmanager
def watched(denoiser: Any) -> Iterator[dict[str, list[Tensor]]]:
    """Inside, every call of a denoiser adds the conditional half's maps to a layer's list."""
    kept = dict(denoiser.attn_processors)
    found: dict[str, list[Tensor]] = defaultdict(list)
    denoiser.set_attn_processor(
        {name: _Watched(found[name.removesuffix(".processor")]) for name in kept}
    )
    try:
        yield found
    finally:
        denoiser.set_attn_processor(kept)
        for name in [name for name, frames in found.items() if not frames]:  # self-attention
            del found[name]


@dataclass
class _Watched:
    """The training's processor, which keeps what it saw."""

    frames: list[Tensor]

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: None = None,
    ) -> Any:
        maps: list[Tensor] = []
        if encoder_hidden_states is not None and getattr(attn, "add_k_proj", None) is not None:
            nothing = torch.zeros((), device=hidden_states.device)
            out: Any = JointAttention()(attn, hidden_states, encoder_hidden_states, nothing, maps)
        else:
            out = PlainAttention()(attn, hidden_states, encoder_hidden_states, maps=maps)
        self.frames += [each.detach()[len(each) // 2 :].float().cpu() for each in maps]
        return out

"""Qwen-Image: joint attention [text, image] with a mask, packed latents, two calls a step.

The conditional call comes first; the unconditional one is made when the pipeline is given a
negative prompt and a `true_cfg_scale` above 1. Their combination is put back to the conditional
prediction's length token by token, which is done again with the changed prediction. Words are found
in the prompt inside the pipeline's chat template. Maps come from the middle half of the blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from adhere.pipelines.families.family import Encoded
from adhere.pipelines.families.flux import PackedFamily
from adhere.pipelines.families.pixart import lengthened_mask, remasked, shown
from adhere.pipelines.families.transformer import check_lengths, inside, rows_of, shifted
from adhere.pipelines.hooks.attending import Pass
from adhere.pipelines.hooks.compat import unwrapped
from adhere.pipelines.hooks.denoiser_call import Call
from adhere.prompt.tokens import TokenisedPrompt, Track, tokenise

MASK = "encoder_hidden_states_mask"


class QwenImage(PackedFamily):
    name = "qwen-image"
    model = "QwenImageTransformer2DModel"
    modular: ClassVar[dict[str, str]] = {"qwenimage": "QwenImagePipeline"}
    layers = r"transformer_blocks\.(\d+)\.attn"
    shared: ClassVar[frozenset[str]] = frozenset({"img_shapes"})
    distilled = (
        "this call of Qwen-Image makes no unconditional prediction to steer from; pass "
        "negative_prompt=... (a space will do) and true_cfg_scale above 1, or use plugins that "
        "need none (negatives: nag, vsf, delayed-negative with negative=...)"
    )

    @cached_property
    def channels(self) -> int:
        return int(self.config.patch_size**2 * self.config.out_channels)

    def packed_grid(self, call: Call) -> tuple[int, int]:
        shape = call.values["img_shapes"][0]
        shape = shape[0] if isinstance(shape, list) else shape
        return int(shape[1]), int(shape[2])

    def recombined(self, given: Tensor, uncond: Tensor, cond: Tensor, changed: Tensor) -> Tensor:
        both = uncond + self.guidance_scale() * (changed - uncond)
        length: Tensor = changed.norm(dim=-1, keepdim=True) / both.norm(dim=-1, keepdim=True)
        return both * length

    def tracks(self, prompts: Sequence[str], call: Call) -> tuple[Track, ...]:
        width = int(call.values[self.text].shape[1])
        whole = [self._tokenised(prompt, width) for prompt in prompts]
        mask = call.values.get(MASK)
        seen = [width] * len(prompts) if mask is None else shown(mask)
        check_lengths(whole, seen, self.pipe)
        return self.tracked(prompts, call.values)

    def tracked(self, texts: Sequence[str], values: Mapping[str, Any]) -> tuple[Track, ...]:
        width = int(values[self.text].shape[1])
        lead = self.pipe.prompt_template_encode.index("{}")
        return (Track(tuple(inside(self._tokenised(one, width), one, lead) for one in texts)),)

    def _tokenised(self, prompt: str, width: int) -> TokenisedPrompt:
        """The chat around the prompt as the model is shown it: its first tokens are dropped."""
        self.need(("tokenizer",), "words are found in its attention by their tokens")
        dropped = self.pipe.prompt_template_encode_start_idx
        text = self.pipe.prompt_template_encode.format(prompt)
        found = tokenise(
            self.pipe.tokenizer,
            text,
            encoder="Qwen",
            length=dropped + width + 1,
            width=width,
            drop_padding=True,
        )
        moved = shifted(found, -dropped)
        return replace(moved, pieces=tuple(p for p in moved.pieces if p.column >= 0))

    def encode(self, texts: Sequence[str]) -> Encoded:
        self.need(("text_encoder", "tokenizer"), f"a plugin needs to encode {texts[0]!r}")
        embeds, mask = self.pipe.encode_prompt(
            list(texts),
            device=self.device,
            num_images_per_prompt=1,
            # Not the width of a call's own prompt_embeds: those have no filling.
            max_sequence_length=self.encoded_with("max_sequence_length", 1024),
        )
        return Encoded({self.text: embeds, MASK: _whole(embeds, mask)})

    def shown(self, encoded: Encoded, texts: Sequence[str]) -> Bool[Tensor, "texts columns"]:
        mask: Tensor = encoded.values[MASK]
        return mask > 0

    @contextmanager
    def placed(self, running: Pass) -> Iterator[None]:
        """Each extra text begins where the prompt does."""
        split = running.split
        if split is None:
            yield
            return
        width, places = split.columns.start, list(split.places)

        def moved(module: Any, args: Any, output: tuple[Tensor, Tensor]) -> Any:
            picture, text = output
            return (picture, torch.cat([text[:width], text[places]])) if running.mine() else None

        embedder: Any = unwrapped(self.denoiser).pos_embed
        hook = embedder.register_forward_hook(moved)
        try:
            yield
        finally:
            hook.remove()

    def lengthened(self, call: Call, extra: Tensor, places: Sequence[int]) -> Call:
        return lengthened_mask(super().lengthened(call, extra, places), MASK, extra.shape[1])

    def retexted(self, call: Call, embeds: Tensor) -> Call:
        before = rows_of(call, self.text, slice(None))
        mask = remasked(_whole(before, call.values.get(MASK)), before, embeds)
        return call.replace(**{self.text: embeds, MASK: mask})

    def fitted(self, call: Call, extra: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
        """Prompt and extra texts padded to one width, with masks that say so."""
        embeds = rows_of(call, self.text, slice(None))
        width = max(embeds.shape[1], extra[self.text].shape[1])
        mine = {self.text: embeds, MASK: _whole(embeds, call.values.get(MASK))}
        return call.replace(**_padded(mine, width)), _padded(extra, width)


def _whole(embeds: Tensor, mask: Tensor | None) -> Tensor:
    """The mask that stands for none at all."""
    if mask is not None:
        return mask
    return torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device)


def _padded(values: dict[str, Any], width: int) -> dict[str, Any]:
    return {
        name: F.pad(rows, (0, 0) * (rows.ndim - 2) + (0, width - rows.shape[1]))
        for name, rows in values.items()
    }


FAMILIES = (QwenImage,)

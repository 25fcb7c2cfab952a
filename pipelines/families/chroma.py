"""Chroma: FLUX's joint attention [text, image] without its distillation, T5 alone, masked.

Two calls a step, the conditional one first, where the guidance scale is above 1. The mask covers
text and picture, so a text of another origin gets the picture's part from the call it joins. In
diffusers 0.42 it is added to the logits: columns behind the prompt's end count e times less than
others, and maps say so. They come from the double blocks that FLUX's do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from adhere.pipelines.families.family import Encoded, Family
from adhere.pipelines.families.flux import Flux
from adhere.pipelines.families.transformer import rows_of, t5_track
from adhere.pipelines.hooks.denoiser_call import Call
from adhere.prompt.tokens import Track

MASK = "attention_mask"


class Chroma(Flux):
    name = "chroma"
    model = "ChromaTransformer2DModel"
    modular: ClassVar[dict[str, str]] = {}
    distilled = (
        "this call of Chroma makes no unconditional prediction to steer from; pass guidance_scale "
        "above 1, or use plugins that need none (negatives: nag, vsf, delayed-negative with "
        "negative=...)"
    )

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe)
        self.encoded: list[tuple[Tensor, Tensor]] = []
        """Each text that a plugin had encoded, and its mask."""

    def apart(self, call: Call) -> bool:
        return self.separate or bool(self.pipe.do_classifier_free_guidance)

    def guidance_scale(self) -> float:
        return Family.guidance_scale(self)

    def tracks(self, prompts: Sequence[str], call: Call) -> tuple[Track, ...]:
        return self.tracked(prompts, call.values)

    def tracked(self, texts: Sequence[str], values: Mapping[str, Any]) -> tuple[Track, ...]:
        self.need(("tokenizer",), "words are found in its attention by their tokens")
        return (t5_track(self.pipe.tokenizer, texts, int(values[self.text].shape[1])),)

    def encode(self, texts: Sequence[str]) -> Encoded:
        self.need(("text_encoder", "tokenizer"), f"a plugin needs to encode {texts[0]!r}")
        given: Any = self.encoded_with("prompt_embeds")
        length = self.encoded_with("max_sequence_length", 512) if given is None else given.shape[1]
        embeds, _, mask, *_ = self.pipe.encode_prompt(
            list(texts),
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
            **self.options(),
            max_sequence_length=length,
        )
        self.encoded += zip(embeds, mask, strict=True)
        return Encoded({self.text: embeds, MASK: mask})

    def shown(self, encoded: Encoded, texts: Sequence[str]) -> Bool[Tensor, "texts columns"]:
        mask: Tensor = encoded.values[MASK]
        return mask > 0

    def lengthened(self, call: Call, extra: Tensor, places: Sequence[int]) -> Call:
        """Its mask is over text and picture."""
        longer = super().lengthened(call, extra, places)
        mask: Tensor | None = call.values.get(MASK)
        if mask is None:
            return longer
        width = rows_of(call, self.text, slice(None)).shape[1]
        more = mask.new_ones(len(mask), extra.shape[1])
        return longer.replace(**{MASK: torch.cat([mask[:, :width], more, mask[:, width:]], 1)})

    def retexted(self, call: Call, embeds: Tensor) -> Call:
        mask = _whole(call, self.text).clone()
        for row, shown in zip(embeds, mask, strict=True):
            for known, own in self.encoded:
                if torch.equal(known, row):
                    shown[: len(own)] = own
        return call.replace(**{self.text: embeds, MASK: mask})

    def fitted(self, call: Call, extra: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
        """Masks over text and picture for both."""
        mask = _whole(call, self.text)
        other = extra[MASK].to(mask)
        picture = mask.new_ones(len(other), mask.shape[1] - other.shape[1])
        return call.replace(**{MASK: mask}), {**extra, MASK: torch.cat([other, picture], dim=1)}


def _whole(call: Call, text: str) -> Tensor:
    """The mask of text and picture; ones if the call has none."""
    mask: Tensor | None = call.values.get(MASK)
    if mask is not None:
        return mask
    embeds: Tensor = call.values[text]
    latents: Tensor = call.values["hidden_states"]
    return embeds.new_ones(len(embeds), embeds.shape[1] + latents.shape[1])


FAMILIES = (Chroma,)

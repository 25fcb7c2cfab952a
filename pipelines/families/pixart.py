"""PixArt-alpha and PixArt-Sigma: T5 cross attention with a mask, learned sigma.

One denoiser call a step with rows [uncond, cond]; the prediction has twice the latents' channels,
the second half being a variance that the pipeline drops. The pipeline has no callback: use
`guidance.attach(pipe)`. It keeps its guidance scale in a local variable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from adhere.pipelines.families.family import Encoded
from adhere.pipelines.families.transformer import (
    TransformerFamily,
    check_lengths,
    rows_of,
    t5_track,
)
from adhere.pipelines.hooks.attending import AttentionLayer
from adhere.pipelines.hooks.compat import unwrapped
from adhere.pipelines.hooks.denoiser_call import Call
from adhere.prompt.tokens import Piece, TokenisedPrompt, Track


class CrossFamily(TransformerFamily):
    """Text in a cross attention of its own, padded and masked."""

    mask: ClassVar[str] = "encoder_attention_mask"

    def encode(self, texts: Sequence[str]) -> Encoded:
        self.need(("text_encoder", "tokenizer"), f"a plugin needs to encode {texts[0]!r}")
        embeds, mask, _, _ = self.pipe.encode_prompt(
            list(texts),
            False,
            num_images_per_prompt=1,
            device=self.device,
            clean_caption=bool(self.encoded_with("clean_caption", False)),
            **self.encoding(texts),
            **self.options(),
        )
        # What is masked is zero, so that `remasked` knows it.
        return Encoded({self.text: embeds * (mask > 0.5)[..., None], self.mask: mask})

    def shown(self, encoded: Encoded, texts: Sequence[str]) -> Bool[Tensor, "texts columns"]:
        mask: Tensor = encoded.values[self.mask]
        return mask > 0.5

    def lengthened(self, call: Call, extra: Tensor, places: Sequence[int]) -> Call:
        return lengthened_mask(super().lengthened(call, extra, places), self.mask, extra.shape[1])

    def retexted(self, call: Call, embeds: Tensor) -> Call:
        mask = remasked(call.values[self.mask], call.values[self.text], embeds)
        return call.replace(**{self.text: embeds, self.mask: mask})

    def encoding(self, texts: Sequence[str]) -> dict[str, Any]:
        """What else some texts are encoded with, so that they are encoded like the prompt."""
        given = self.encoded_with("prompt_embeds")
        length = self.encoded_with("max_sequence_length") if given is None else given.shape[1]
        return {} if length is None else {"max_sequence_length": int(length)}


class PixArt(CrossFamily):
    name = "pixart"
    layer_texts = False  # the model projects its text before the layers see it
    model = "PixArtTransformer2DModel"
    layers = r"transformer_blocks\.(\d+)\.attn2"

    @cached_property
    def _found_layers(self) -> tuple[AttentionLayer, ...]:
        cross = super()._found_layers
        named = dict(unwrapped(self.denoiser).named_modules())
        twins = [layer.name.removesuffix("2") + "1" for layer in cross]
        return cross + tuple(
            AttentionLayer(name, "self", self.patch) for name in twins if name in named
        )

    def guidance_scale(self) -> float:
        return float(self.argument("guidance_scale", 1.0))

    def output(self, output: Any, call: Call) -> Tensor:
        return super().output(output, call)[:, : call.values[self.leading].shape[1]]

    def with_output(self, output: Any, prediction: Tensor) -> Any:
        variance = output[0][: len(prediction), prediction.shape[1] :]
        return super().with_output(output, torch.cat([prediction, variance], dim=1))

    def tracks(self, prompts: Sequence[str], call: Call) -> tuple[Track, ...]:
        found = self.tracked(prompts, call.values)
        seen = shown(rows_of(call, self.mask, slice(call.rows - len(prompts), call.rows)))
        check_lengths(found[0].images, seen, self.pipe, ends=1)
        return found

    def tracked(self, texts: Sequence[str], values: Mapping[str, Any]) -> tuple[Track, ...]:
        self.need(("tokenizer",), "words are found in its attention by their tokens")
        width = int(values[self.text].shape[1])
        found = t5_track(self.pipe.tokenizer, [lowered(text) for text in texts], width).images
        return (Track(tuple(map(restored, found, texts))),)


def lowered(prompt: str) -> str:
    """A prompt as PixArt and Sana encode it unless they clean captions."""
    return prompt.lower().strip()


def restored(found: TokenisedPrompt, prompt: str, lead: int = 0) -> TokenisedPrompt:
    """Offsets in the prompt as given, for tokens of its lowered form behind `lead` characters."""
    shift = len(prompt) - len(prompt.lstrip()) - lead
    pieces = tuple(
        Piece(piece.column, max(0, piece.start + shift), piece.end + shift)
        for piece in found.pieces
        if piece.end > lead
    )
    cut = None if found.cut is None else max(0, found.cut + shift)
    return replace(found, prompt=prompt, pieces=pieces, cut=cut)


def remasked(mask: Tensor, before: Tensor, embeds: Tensor) -> Tensor:
    """The mask for changed embeddings: columns that were changed are shown unless they are zero."""
    changed = (before != embeds).any(dim=-1)
    return torch.where(changed, (embeds != 0).any(dim=-1).to(mask.dtype), mask)


def lengthened_mask(call: Call, name: str, count: int) -> Call:
    """The call with as many more columns in its mask, if it has one.

    Which of them are visible is of no account: extra texts are attended to apart.
    """
    mask: Tensor | None = call.values.get(name)
    if mask is None:
        return call
    more = mask.new_ones(len(mask), count)
    return call.replace(**{name: torch.cat([mask, more], dim=1)})


def shown(mask: Tensor) -> list[int]:
    """How many tokens of each row the model is shown."""
    counts: list[int] = (mask.float() > 0.5).sum(dim=-1).flatten().tolist()
    return counts


FAMILIES = (PixArt,)

"""FLUX.1 dev and schnell: joint attention [text, image] in double and single blocks, after RoPE.

Latents are packed: 2x2 cells to a token; guides see them unpacked, without the tokens of reference
pictures (Kontext) that may follow them. Both models are distilled: a
step is one conditional call and there is no unconditional prediction, unless the pipeline is called
with a negative prompt and a `true_cfg_scale`, which adds a second call. Maps come from the double
blocks 10 to 18 of 19, where words are best localised (ConceptAttention, arXiv:2502.04320); the 38
single blocks can be chosen with `Memory(layers=...)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from adhere.errors import ModelError
from adhere.guides.maps import Read
from adhere.pipelines.families.family import Encoded
from adhere.pipelines.families.transformer import (
    JointFamily,
    first_columns,
    t5_track,
)
from adhere.pipelines.hooks.attending import AttentionLayer
from adhere.pipelines.hooks.compat import unwrapped
from adhere.pipelines.hooks.denoiser_call import Call
from adhere.prompt.tokens import Track


class PackedFamily(JointFamily):
    """Tokens of 2x2 latent cells, and true classifier-free guidance as a second call.

    Attributes:
        references: whether pictures to go by may follow the picture's own tokens.
    """

    text_first = True
    patch = 2
    references: ClassVar[bool] = False

    def bind(self, args: Any, kwargs: Any) -> Call:
        call = super().bind(args, kwargs)
        h, w = self.packed_grid(call)
        shown = int(call.values[self.leading].shape[1])
        self.beside = shown - h * w
        if self.beside < 0 or (self.beside and not self.references):
            raise ModelError(
                f"{type(self.pipe).__name__} shows the model {shown} picture tokens for {h}x{w} "
                "patches: with reference pictures it cannot be guided; use the text-to-image, "
                "image-to-image or inpainting pipeline"
            )
        return call

    def packed_grid(self, call: Call) -> tuple[int, int]:
        """`(h, w)` in tokens."""
        raise NotImplementedError

    @cached_property
    def channels(self) -> int:
        """Channels of a token that are latents; inpainting and control models carry more."""
        raise NotImplementedError

    def conditional_rows(self, call: Call, batch: int) -> slice | None:
        return slice(0, call.rows)

    def unconditional_rows(self, call: Call, batch: int) -> slice | None:
        return None

    def apart(self, call: Call) -> bool:
        # The pipeline encodes a negative prompt only for true classifier-free guidance.
        return self.separate or len(self.encodings) > 1

    def guidance_scale(self) -> float:
        if self.scale is not None:
            return self.scale
        return float(self.argument("true_cfg_scale", 1.0))

    def timestep(self, call: Call) -> float:
        return 1000 * super().timestep(call)

    def at_timestep(self, call: Call, timestep: float) -> Call:
        return super().at_timestep(call, timestep / 1000)

    def latents(self, call: Call, unscaled: Tensor | None, batch: int) -> Tensor:
        h, w = self.packed_grid(call)
        given: Tensor = call.values[self.leading]
        return unpacked(given[:, : h * w, : self.channels], (h, w))

    def with_latents(self, call: Call, scaled: Tensor) -> Call:
        given: Tensor = call.values[self.leading]
        tokens = packed(scaled.to(given.dtype))
        own, references = given[:, : tokens.shape[1]], given[:, tokens.shape[1] :]
        own = torch.cat([tokens, own[:, :, tokens.shape[2] :]], dim=2)
        return call.replace(**{self.leading: torch.cat([own, references], dim=1)})

    def as_sample(self, latents: Tensor, sample: Tensor) -> Tensor:
        return packed(latents).to(sample.dtype)

    def from_sample(self, sample: Tensor, like: Tensor) -> Tensor:
        return unpacked(sample, (like.shape[-2] // 2, like.shape[-1] // 2))

    def output(self, output: Any, call: Call) -> Tensor:
        h, w = self.packed_grid(call)
        return unpacked(super().output(output, call)[:, : h * w], (h, w))

    def with_output(self, output: Any, prediction: Tensor) -> Any:
        return super().with_output(output, packed(prediction))


class Flux(PackedFamily):
    name = "flux"
    model = "FluxTransformer2DModel"
    layers = r"(?:single_)?transformer_blocks\.(\d+)\.attn"
    depth = (10 / 19, 1.0)
    references = True
    modular: ClassVar[dict[str, str]] = {"flux": "FluxPipeline"}
    shared: ClassVar[frozenset[str]] = frozenset({"txt_ids", "img_ids"})
    distilled = (
        "FLUX.1 is guidance-distilled: this call makes no unconditional prediction to steer from; "
        "pass negative_prompt=... and true_cfg_scale above 1 (a second pass each step), or use "
        "plugins that need none (negatives: nag, vsf, delayed-negative with negative=...)"
    )

    @cached_property
    def channels(self) -> int:
        return int(unwrapped(self.denoiser).out_channels)

    def packed_grid(self, call: Call) -> tuple[int, int]:
        places: Tensor = call.values["img_ids"]
        places = places[0] if places.ndim == 3 else places
        own = places[places[:, 0] == 0]  # those of reference pictures are numbered otherwise
        return int(own[:, 1].max()) + 1, int(own[:, 2].max()) + 1

    def wanted(self, read: Read) -> tuple[AttentionLayer, ...]:
        # A share of the double blocks; models without any have single blocks only.
        layers = self.selectable(read)
        double = tuple(layer for layer in layers if not layer.name.startswith("single")) or layers
        return double[int(self.depth[0] * len(double)) :]

    def tracks(self, prompts: Sequence[str], call: Call) -> tuple[Track, ...]:
        self.refuse_other_prompts(prompts, "prompt_2")
        return self.tracked(prompts, call.values)

    def tracked(self, texts: Sequence[str], values: Mapping[str, Any]) -> tuple[Track, ...]:
        tokenizer = self.pipe.tokenizer_2
        if tokenizer is None:
            raise ModelError(
                f"this {type(self.pipe).__name__} was loaded without tokenizer_2, so words cannot "
                "be found in its attention; load it with tokenizer_2, which needs no text_encoder_2"
            )
        width = int(values[self.text].shape[1])
        return (t5_track(tokenizer, texts, width),)

    def encode(self, texts: Sequence[str]) -> Encoded:
        self.need(("text_encoder", "text_encoder_2"), f"a plugin needs to encode {texts[0]!r}")
        given: Any = self.encoded_with("prompt_embeds")
        length = self.encoded_with("max_sequence_length", 512) if given is None else given.shape[1]
        embeds, pooled, _ = self.pipe.encode_prompt(
            list(texts),
            None,
            device=self.device,
            num_images_per_prompt=1,
            max_sequence_length=length,
            **self.options(),
        )
        return Encoded({self.text: embeds, "pooled_projections": pooled})

    def shown(self, encoded: Encoded, texts: Sequence[str]) -> Bool[Tensor, "texts columns"]:
        width = encoded.values[self.text].shape[1]
        return first_columns(self.pipe.tokenizer_2, texts, width, width)

    def lengthened(self, call: Call, extra: Tensor, places: Sequence[int]) -> Call:
        """Extra texts stand where they would as a prompt: positions begin again with each."""
        longer = super().lengthened(call, extra, places)
        given: Tensor = call.values["txt_ids"]
        more = given[..., list(places), :]
        return longer.replace(txt_ids=torch.cat([given, more], dim=-2))


def unpacked(
    tokens: Float[Tensor, "batch tokens packed"], grid: tuple[int, int]
) -> Float[Tensor, "batch channels h w"]:
    """From 2x2 cells a token to latents (`FluxPipeline._unpack_latents`)."""
    h, w = grid
    cells = tokens.unflatten(1, (h, w)).unflatten(3, (-1, 2, 2))
    latents: Tensor = cells.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    return latents


def packed(latents: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch tokens packed"]:
    """The inverse of `unpacked`."""
    cells = latents.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
    tokens: Tensor = cells.permute(0, 2, 4, 1, 3, 5).flatten(3, 5).flatten(1, 2)
    return tokens


FAMILIES = (Flux,)

"""Stable Diffusion 1.x, 2.x, SDXL and every other pipeline around a `UNet2DConditionModel`.

One denoiser call a step with rows [uncond, cond]; text columns are CLIP's 77 positions, which
SDXL's two encoders share. Maps are read where a model of 512 px has 16x16 cells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from adhere.errors import ModelError
from adhere.guides.guide import Energy
from adhere.guides.maps import Read
from adhere.pipelines.families.family import Encoded, Family
from adhere.pipelines.hooks.attending import AttentionLayer
from adhere.pipelines.hooks.compat import unwrapped
from adhere.pipelines.hooks.denoiser_call import Call
from adhere.prompt.tokens import TokenisedPrompt, Track, tokenise

SEMANTIC_CELLS = 16
"""Rows of the maps that speak of whole objects, at the model's own size (A&E, sec. 3.1)."""

PUBLISHED_STEP = 20.0
"""The step size of the methods tuned on SD 1.x, which `restate` reads as one unit."""


_MASKS = "ip_adapter_masks"
"""Diffusers' name for them in `cross_attention_kwargs`: `Float[rows pictures h w]` by adapter."""


class UNetFamily(Family):
    """What all UNet pipelines share."""

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe)
        if self.config.time_cond_proj_dim is not None:
            self.distilled = (
                "this UNet is guidance-distilled (it takes the guidance scale as an input), so "
                "there is no unconditional prediction to steer from; use the undistilled model, or "
                "plugins that need none (negatives: nag, vsf, delayed-negative with negative=...)"
            )

    @classmethod
    def knows(cls, pipe: Any) -> bool:
        unet = unwrapped(getattr(pipe, "unet", None))
        usual = type(unet).__name__ == "UNet2DConditionModel" and hasattr(pipe, "encode_prompt")
        return usual and cls.fits(pipe, unet)

    @classmethod
    def fits(cls, pipe: Any, unet: Any) -> bool:
        raise NotImplementedError

    @property
    def denoiser(self) -> nn.Module:
        unet: nn.Module = self.pipe.unet
        return unet

    @cached_property
    def config(self) -> Any:
        return unwrapped(self.denoiser).config

    def widened(self, embeds: Tensor, width: int) -> Tensor:
        """Chunked encoders fill up with the empty prompt's chunk, as there is no mask."""
        parts = [embeds]
        if embeds.shape[1] < width:
            nothing = self.encode([""]).values[self.text].to(embeds)
            parts += [nothing.expand(len(embeds), -1, -1)] * -(-width // nothing.shape[1])
        return torch.cat(parts, dim=1)[:, :width]

    def fitted(self, call: Call, extra: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
        """Extra texts as wide as the prompt's embeddings, whatever encoder made those."""
        width = int(call.values[self.text].shape[1])
        return call, {**extra, self.text: self.widened(extra[self.text], width)}

    def attention_layers(self) -> tuple[AttentionLayer, ...]:
        return self._found_layers

    @cached_property
    def _found_layers(self) -> tuple[AttentionLayer, ...]:
        levels = len(self.config.block_out_channels)
        layers = []
        for name, module in unwrapped(self.denoiser).named_modules():
            kind = re.search(r"\.attn([12])$", name)
            if kind and hasattr(module, "to_q"):
                layers.append(
                    AttentionLayer(
                        name, "self" if kind[1] == "1" else "cross", _factor(name, levels)
                    )
                )
        return tuple(layers)

    def wanted(self, read: Read) -> tuple[AttentionLayer, ...]:
        semantic = self.semantic_factor
        factors = {semantic} if read.scale == "semantic" else {semantic, max(1, semantic // 2)}
        layers = [
            layer
            for layer in self.attention_layers()
            if layer.kind == read.kind and layer.factor in factors
        ]
        if not layers:
            raise ModelError(
                f"this UNet has no {read.kind} attention at 1/{semantic} of the latents; "
                f"it has: {', '.join(layer.name for layer in self.attention_layers()) or 'none'}"
            )
        return tuple(layers)

    @cached_property
    def semantic_factor(self) -> int:
        """Latent cells per map cell where maps are 16x16 at the model's size, or the coarsest."""
        size = self.config.sample_size or 64
        size = size if isinstance(size, int) else min(size)
        factors = sorted(
            {layer.factor for layer in self.attention_layers() if layer.kind == "cross"}
        )
        # SD 2.x at 768 px is SD 2.x: 24x24 cells come from the same layers (A&E issue 35).
        fitting = [factor for factor in factors if size / factor <= 1.5 * SEMANTIC_CELLS]
        return fitting[0] if fitting else factors[-1]

    def tracks(self, prompts: Sequence[str], call: Call) -> tuple[Track, ...]:
        self.refuse_other_prompts(prompts, "prompt_2")
        return self.tracked(prompts, call.values)

    def tracks_of(self, texts: Sequence[str], call: Call) -> tuple[Track, ...]:
        return self.tracked(texts, call.values)

    def tracked(self, texts: Sequence[str], values: Mapping[str, Any]) -> tuple[Track, ...]:
        width = int(values[self.text].shape[1])
        given = (getattr(self.pipe, name, None) for name in ("tokenizer", "tokenizer_2"))
        tokenizers = [tokenizer for tokenizer in given if tokenizer is not None]
        if not tokenizers:
            raise ModelError(
                f"{type(self.pipe).__name__} has no tokenizer, so words cannot be found in its "
                "attention; load the pipeline with its tokenizer (the text encoder may be left out)"
            )
        tracks = [
            Track(tuple(self._tokenised(tokenizer, text, width) for text in texts))
            for tokenizer in tokenizers
        ]
        self.refuse_other_columns(tracks[0], tracks[-1])
        return (tracks[0],)

    def pooled(self, values: Mapping[str, Any]) -> Tensor | None:
        return (values.get("added_cond_kwargs") or {}).get("text_embeds")

    def repooled(self, call: Call, pooled: Tensor) -> Call:
        given = {**call.values["added_cond_kwargs"], "text_embeds": pooled}
        return call.replace(added_cond_kwargs=given)

    def opening(self, width: int) -> Sequence[int]:
        # The SDXL refiner has the second tokenizer alone.
        tokenizer = self.pipe.tokenizer or getattr(self.pipe, "tokenizer_2", None)
        return range(0, width, int(min(width, tokenizer.model_max_length))) if tokenizer else ()

    def _tokenised(self, tokenizer: Any, prompt: str, width: int) -> TokenisedPrompt:
        """A prompt's columns. Embeddings of several chunks have each its start and end token."""
        chunk = int(min(width, tokenizer.model_max_length))
        chunks = width // chunk if width % chunk == 0 else 1
        found = tokenise(
            tokenizer,
            prompt,
            encoder="CLIP",
            length=chunk if chunks == 1 else chunks * (chunk - 2) + 2,
            width=width,
            drop_padding=self.drop_padding,
        )
        return found if chunks == 1 else chunked(found, chunk, self.drop_padding)

    def encode(self, texts: Sequence[str]) -> Encoded:
        self._require("text_encoder", texts)
        embeds = self.pipe.encode_prompt(
            list(texts),
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
            **self.options(),
        )[0]
        return Encoded({self.text: embeds})

    def _require(self, encoder: str, texts: Sequence[str]) -> None:
        if getattr(self.pipe, encoder) is None:
            raise ModelError(
                f"the text encoder of this {type(self.pipe).__name__} was left out, and a plugin "
                f"needs to encode {texts[0]!r}; load the pipeline with its text encoder"
            )

    def pictures(self, call: Call) -> tuple[int, ...]:
        if self.config.encoder_hid_dim_type != "ip_image_proj":
            return ()
        given = (call.values.get("added_cond_kwargs") or {}).get("image_embeds") or ()
        return tuple(int(embeds.shape[1]) for embeds in given)

    def unmaskable(self, call: Call, grid: tuple[int, int]) -> str | None:
        if _MASKS in (call.values.get("cross_attention_kwargs") or {}):
            return (
                f"the call has {_MASKS} of its own, and a plugin masks the same pictures; leave "
                "one of the two out"
            )
        factor = max(layer.factor for layer in self.attention_layers() if layer.kind == "cross")
        if any(side % factor for side in grid):
            # Diffusers guesses a layer's rows and columns from the mask's shape, and may be wrong.
            return (
                f"at {grid[0]}x{grid[1]} latents not every layer has the picture's shape, and "
                f"masks would lie askew; choose a size that makes both divisible by {factor}"
            )
        return None

    def masked(self, call: Call, masks: Tensor) -> Call:
        given = call.values.get("cross_attention_kwargs") or {}
        parts = list(masks.split(self.pictures(call), dim=1))
        return call.replace(cross_attention_kwargs={**given, _MASKS: parts})

    def samples_from_noise(self) -> bool:
        return super().samples_from_noise() or "Inpaint" in type(self.pipe).__name__


class StableDiffusion1(UNetFamily):
    name = "sd1"

    @classmethod
    def fits(cls, pipe: Any, unet: Any) -> bool:
        # Others condition their UNets on further embeddings, or work on pixels.
        return unet.config.addition_embed_type is None and hasattr(pipe, "vae")


class StableDiffusion2(UNetFamily):
    """OpenCLIP text: end token and padding soak up the attention and are left out."""

    name = "sd2"
    drop_padding = True

    @classmethod
    def fits(cls, pipe: Any, unet: Any) -> bool:
        return StableDiffusion1.fits(pipe, unet) and unet.config.cross_attention_dim == 1024


class StableDiffusionXL(UNetFamily):
    """Two encoders on the same columns; steps bounded by the latents' own size."""

    name = "sdxl"
    modular: ClassVar[dict[str, str]] = {"stable-diffusion-xl": "StableDiffusionXLPipeline"}

    @classmethod
    def fits(cls, pipe: Any, unet: Any) -> bool:
        # Its encoders may have been left out, but Kolors has none of them.
        return hasattr(pipe, "tokenizer_2") and bool(unet.config.addition_embed_type == "text_time")

    def encode(self, texts: Sequence[str]) -> Encoded:
        self._require("text_encoder_2", texts)
        embeds, _, pooled, _ = self.pipe.encode_prompt(
            list(texts),
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
            **self.options(),
        )
        return Encoded({self.text: embeds, "added_cond_kwargs": {"text_embeds": pooled}})

    def restate(self, energy: Energy) -> Energy:
        return restated(energy, unit=0.03)


class Toybox(UNetFamily):
    """The bundled miniature: latents of 16x16, so maps are read at 16x16.

    Words hold up to 0.7 of a cell there: nothing has to be made up for.
    """

    name = "toybox"
    gain = 1.0

    @classmethod
    def fits(cls, pipe: Any, unet: Any) -> bool:
        return unet.config.sample_size == 16 and len(unet.config.block_out_channels) == 2

    def restate(self, energy: Energy) -> Energy:
        """A quarter: its attention is sharper, its slopes steeper (`docs/design/0004`)."""
        if energy.rule != "plain":
            return energy
        return replace(energy, step_size=energy.step_size / 4)


def chunked(found: TokenisedPrompt, chunk: int, drop_padding: bool) -> TokenisedPrompt:
    """The columns of a prompt that was encoded in chunks of `chunk` columns, ends included."""

    def moved(column: int) -> int:
        number, place = divmod(column - 1, chunk - 2)
        return number * chunk + 1 + place

    pieces = tuple(replace(piece, column=moved(piece.column)) for piece in found.pieces)
    keep = tuple(c for c in range(found.width) if c % chunk not in (0, chunk - 1))
    if drop_padding:
        keep = tuple(piece.column for piece in pieces)
    return replace(found, pieces=pieces, keep=keep)


def restated(energy: Energy, unit: float) -> Energy:
    """A step tuned to SD 1.x gradients as a share of the latents' RMS: `unit` for the published 20.

    `docs/design/0004-step-rule.md` derives the units.
    """
    if energy.rule != "plain":
        return energy
    return replace(energy, rule="relative", step_size=unit * energy.step_size / PUBLISHED_STEP)


def _factor(name: str, levels: int) -> int:
    """Latent cells per map cell, from a layer's place in the UNet."""
    place = re.match(r"(down|up|mid)_blocks?(?:\.(\d+))?", name)
    if place is None:
        raise ModelError(f"attention layer {name!r} lies outside the blocks of a UNet")
    if place[1] == "mid":
        return 1 << (levels - 1)
    block = int(place[2])
    return 1 << (block if place[1] == "down" else levels - 1 - block)


FAMILIES = (Toybox, StableDiffusionXL, StableDiffusion2, StableDiffusion1)

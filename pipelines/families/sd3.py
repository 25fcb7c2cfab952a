"""Stable Diffusion 3 and 3.5: joint attention [image, text], CLIP columns and then T5 columns.

One denoiser call a step with rows [uncond, cond]. With skip-layer guidance a third call follows,
with the prompt's rows and some layers left out; it is shown the moved latents and nothing else.
Words are found in two tracks, CLIP (both CLIP encoders share their columns) and T5; energies are
averaged over them. Maps come from the blocks that published work on SD3 reads, 5 to 12 of 24
(Self-Cross, CVPR 2025).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from adhere.errors import ModelError
from adhere.pipelines.families.family import Encoded
from adhere.pipelines.families.transformer import (
    JointFamily,
    first_columns,
    t5_track,
    track_prompt,
)
from adhere.pipelines.hooks.compat import unwrapped
from adhere.pipelines.hooks.denoiser_call import Call
from adhere.prompt.tokens import Track


class StableDiffusion3(JointFamily):
    name = "sd3"
    model = "SD3Transformer2DModel"
    modular: ClassVar[dict[str, str]] = {"stable-diffusion-3": "StableDiffusion3Pipeline"}
    layers = r"transformer_blocks\.(\d+)\.attn"
    depth = (5 / 24, 13 / 24)
    text_first = False

    def conditional_rows(self, call: Call, batch: int) -> slice | None:
        if call.values.get("skip_layers") is not None:
            return None
        return super().conditional_rows(call, batch)

    def refuse(self, prediction: bool) -> str | None:
        for name, module in self.modules().items():
            processor = type(getattr(module, "processor", None)).__name__
            if name.endswith(".attn2") and processor == "FusedJointAttnProcessor2_0":
                return (
                    "fuse_qkv_projections() gave the transformer a processor that needs text in "
                    f"every layer, and {name} of this Stable Diffusion 3.5 sees the picture alone, "
                    "so that diffusers cannot run it; call unfuse_qkv_projections() on it"
                )
        return super().refuse(prediction)

    def tracks(self, prompts: Sequence[str], call: Call) -> tuple[Track, ...]:
        self.refuse_other_prompts(prompts, "prompt_2", "prompt_3")
        return self.tracked(prompts, call.values)

    def tracked(self, texts: Sequence[str], values: Mapping[str, Any]) -> tuple[Track, ...]:
        pipe, embeds = self.pipe, values[self.text][-len(texts) :]
        width = int(embeds.shape[1])
        clip = self._clip_columns(width)
        most = min(int(pipe.tokenizer_max_length), width)
        both = [
            Track(
                tuple(
                    track_prompt(tokenizer, text, encoder="CLIP", length=most, width=width)
                    for text in texts
                )
            )
            for tokenizer in (pipe.tokenizer, pipe.tokenizer_2)
            if tokenizer is not None
        ]
        tracks = both[:1]
        if both:
            self.refuse_other_columns(both[0], both[-1])
        # Without its encoder, T5's part is zeros, which stand for no word.
        spoken = width > clip and bool((embeds[:, clip:] != 0).any())
        if pipe.tokenizer_3 is not None and spoken:
            tracks.append(t5_track(pipe.tokenizer_3, texts, width, clip))
        if not tracks:
            raise ModelError(
                f"this {type(pipe).__name__} has no tokenizer whose encoder reads the prompt, so "
                "words cannot be found in its attention; load it with its tokenizers (the encoders "
                "may be left out)"
            )
        return tuple(tracks)

    def tracks_of(self, texts: Sequence[str], call: Call) -> tuple[Track, ...]:
        found = self.tracked(texts, call.values)
        if len(found) > 1:  # or T5's part of these texts would be zeros, and of the prompt not
            self.need(("text_encoder_3",), f"a plugin needs to encode {texts[0]!r} as the prompt")
        return found

    def _clip_columns(self, width: int) -> int:
        """Columns of the CLIP encoders: several where a long prompt was encoded in parts."""
        whole = int(self.pipe.tokenizer_max_length)
        rest = width - int(self.encoded_with("max_sequence_length", 256))
        in_parts = rest > whole and rest % whole == 0
        return rest if in_parts else min(whole, width)

    def encode(self, texts: Sequence[str]) -> Encoded:
        self.need(("text_encoder", "text_encoder_2"), f"a plugin needs to encode {texts[0]!r}")
        embeds, _, pooled, _ = self.pipe.encode_prompt(
            list(texts),
            None,
            None,
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
            **self.options(),
            max_sequence_length=self._length(),
        )
        return Encoded({self.text: embeds, "pooled_projections": pooled})

    def shown(self, encoded: Encoded, texts: Sequence[str]) -> Bool[Tensor, "texts columns"]:
        """All of CLIP's columns, whose filling speaks, and T5's own tokens."""
        width = int(encoded.values[self.text].shape[1])
        clip = self._clip_columns(width)
        found = torch.ones(len(texts), width, dtype=torch.bool)
        found[:, clip:] = False
        if self.pipe.tokenizer_3 is not None and self.pipe.text_encoder_3 is not None:
            most = width - clip
            found[:, clip:] = first_columns(self.pipe.tokenizer_3, texts, most, most)
        return found

    def _length(self) -> int:
        """T5 tokens in this call."""
        given: Any = self.encoded_with("prompt_embeds")
        beside = 0 if given is None else int(given.shape[1]) - int(self.pipe.tokenizer_max_length)
        # Embeddings may be those of CLIP alone.
        return beside if beside > 0 else int(self.encoded_with("max_sequence_length", 256))


class ToyboxSD3(StableDiffusion3):
    """The bundled miniature: words are localised from its third block on, and hold enough of
    their cells for a gain of 1 (`docs/design/0007-transformer-toybox.md`).
    """

    name = "toybox-sd3"
    gain = 1.0
    modular: ClassVar[dict[str, str]] = {}
    depth = (1 / 3, 2 / 3)

    @classmethod
    def knows(cls, pipe: Any) -> bool:
        if not super().knows(pipe):
            return False
        config: Any = unwrapped(pipe.transformer).config
        return bool(config.sample_size == 16 and config.in_channels == 8)


FAMILIES = (ToyboxSD3, StableDiffusion3)

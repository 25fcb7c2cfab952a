"""FLUX.2: joint attention [text, image] in double and single blocks, a language model's words.

The words stand in a chat, unmasked and padded to the length of the call: Qwen3's for [klein],
Mistral's with a system message for [dev]. The [klein] base models are called twice a step, the
conditional call first, where the guidance scale is above 1; the distilled models once. Latents are
packed as FLUX.1's are. Nothing is published on where their words are best localised: maps come from
the later half of the double blocks, as FLUX.1's do, and any others can be chosen with
`Memory(layers=...)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from adhere.errors import ModelError, PromptError
from adhere.pipelines.families.family import Encoded, Family, same_text
from adhere.pipelines.families.flux import Flux
from adhere.pipelines.families.transformer import in_chat, inside
from adhere.pipelines.hooks.denoiser_call import Call
from adhere.prompt.tokens import Piece, TokenisedPrompt, Track


class Flux2(Flux):
    name = "flux2"
    model = "Flux2Transformer2DModel"
    depth = (0.5, 1.0)
    modular: ClassVar[dict[str, str]] = {
        "flux2": "Flux2KleinPipeline",
        "flux2-klein": "Flux2KleinPipeline",
    }
    distilled = (
        "this call of FLUX.2 makes no unconditional prediction to steer from; use an undistilled "
        "model (FLUX.2 [klein] base) with guidance_scale above 1, or plugins that need none "
        "(negatives: nag, vsf, delayed-negative with negative=...)"
    )

    def bind(self, args: Any, kwargs: Any) -> Call:
        call = super().bind(args, kwargs)
        if call.values.get("kv_cache_mode") is not None:
            raise ModelError(
                f"{type(self.pipe).__name__} keeps what reference pictures gave for later steps, "
                "which an extra pass would spoil; use Flux2KleinPipeline"
            )
        return call

    def guidance_scale(self) -> float:
        return Family.guidance_scale(self)

    def tracks(self, prompts: Sequence[str], call: Call) -> tuple[Track, ...]:
        self.need(("tokenizer",), "words are found in its attention by their tokens")
        if not same_text(prompts, self.encoded_with("prompt")):
            raise PromptError(
                f"{type(self.pipe).__name__} encoded {self.encoded_with('prompt')!r}, which is not "
                f"the prompt {prompts[0]!r}; give the guidance the text that was encoded "
                "(prompt=...)"
            )
        return self.tracked(prompts, call.values)

    def tracked(self, texts: Sequence[str], values: Mapping[str, Any]) -> tuple[Track, ...]:
        width = int(values[self.text].shape[1])
        return (Track(tuple(self._tokenised(text, width) for text in texts)),)

    def _tokenised(self, prompt: str, width: int) -> TokenisedPrompt:
        """The prompt's own tokens in the chat around it, where the model is shown them."""
        text, lead = in_chat(self._rendered, prompt)
        tokenizer = getattr(self.pipe.tokenizer, "tokenizer", self.pipe.tokenizer)
        own = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        start = _aligned(self._shown(prompt, text, width), own["input_ids"])
        if start is None:
            raise ModelError(
                f"the tokens that {type(self.pipe).__name__} shows its encoder are not those of "
                f"the chat around {prompt!r}, so words cannot be found; load the pipeline with the "
                "tokenizer it was published with"
            )
        offsets = list(own["offset_mapping"])
        fits = offsets[: width - start]
        pieces = tuple(Piece(start + k, *each) for k, each in enumerate(fits) if each[1] > each[0])
        cut = offsets[len(fits)][0] if len(fits) < len(offsets) else None
        columns = tuple(piece.column for piece in pieces)
        return inside(TokenisedPrompt(text, pieces, width, columns, cut, "FLUX.2"), prompt, lead)

    @property
    def _processed(self) -> bool:
        """Whether a processor with a tokenizer in it reads the prompt, as [dev]'s does."""
        return hasattr(self.pipe.tokenizer, "tokenizer")

    def _conversation(self, prompt: str) -> list[Any]:
        if not self._processed:
            return [{"role": "user", "content": prompt}]
        # Here, since it brings the encoder's code along, and every family is asked for every model.
        from diffusers.pipelines.flux2.pipeline_flux2 import format_input
        from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE

        message = getattr(self.pipe, "system_message", SYSTEM_MESSAGE)
        talk: list[Any] = format_input([prompt], message)[0]
        return talk

    def _rendered(self, prompt: str) -> str:
        asked = {} if self._processed else {"enable_thinking": False}
        text: str = self.pipe.tokenizer.apply_chat_template(
            self._conversation(prompt),
            tokenize=False,
            add_generation_prompt=not self._processed,
            **asked,
        )
        return text

    def _shown(self, prompt: str, text: str, width: int) -> list[int]:
        """The token ids that the pipeline makes of a prompt."""
        reader = self.pipe.tokenizer
        fill = {"padding": "max_length", "truncation": True, "max_length": width}
        if self._processed:
            talk = [self._conversation(prompt)]
            coded = reader.apply_chat_template(
                talk, add_generation_prompt=False, tokenize=True, return_dict=True, **fill
            )
        else:
            coded = reader([text], **fill)
        return [int(token) for token in coded["input_ids"][0]]

    def encode(self, texts: Sequence[str]) -> Encoded:
        self.need(("text_encoder", "tokenizer"), f"a plugin needs to encode {texts[0]!r}")
        if self._processed and not hasattr(self.pipe, "system_message"):
            raise ModelError(
                f"a plugin needs to encode {texts[0]!r}, which a modular FLUX.2 [dev] is not asked "
                "to do here; use Flux2Pipeline"
            )
        given: Any = self.encoded_with("prompt_embeds")
        length = self.encoded_with("max_sequence_length", 512) if given is None else given.shape[1]
        layers = self.encoded_with("text_encoder_out_layers")
        embeds, _ = self.pipe.encode_prompt(
            list(texts),
            device=self.device,
            num_images_per_prompt=1,
            max_sequence_length=length,
            **({} if layers is None else {"text_encoder_out_layers": layers}),
        )
        return Encoded({self.text: embeds})

    def shown(self, encoded: Encoded, texts: Sequence[str]) -> Bool[Tensor, "texts columns"]:
        width = int(encoded.values[self.text].shape[1])
        found = torch.zeros(len(texts), width, dtype=torch.bool)
        tokenizer = getattr(self.pipe.tokenizer, "tokenizer", self.pipe.tokenizer)
        for row, text in zip(found, texts, strict=True):
            chat = self._rendered(text)
            own = tokenizer(chat, add_special_tokens=False)["input_ids"]
            start = _aligned(self._shown(text, chat, width), own)
            row[slice(start, None if start is None else start + len(own))] = True
        return found


def _aligned(shown: Sequence[int], own: Sequence[int]) -> int | None:
    """Where a chat's tokens begin among those shown, which are padded on either side or cut."""
    for start in range(len(shown)):
        found = shown[start : start + len(own)]
        if list(found) == list(own[: len(found)]):
            return start
    return None


FAMILIES = (Flux2,)

"""FLUX.2 [klein]: joint attention [text, image] in double and single blocks, Qwen3's words.

The words stand in a chat template, unmasked, padded to the length of the call. The base models are
called twice a step, the conditional call first, where the guidance scale is above 1; the distilled
ones once. Latents are packed as FLUX.1's are. Nothing is published on where their words are best
localised: maps come from the later half of the double blocks, as FLUX.1's do, and any others can be
chosen with `Memory(layers=...)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from adhere.errors import ModelError, PromptError
from adhere.pipelines.call import Call
from adhere.pipelines.families.family import Encoded, Family
from adhere.pipelines.families.flux import Flux
from adhere.pipelines.families.transformer import inside, rows_of, same_text, shifted
from adhere.tokens import TokenisedPrompt, Track, tokenise


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
        "model (FLUX.2 [klein] base) with guidance_scale above 1, or plugins that work on "
        "attention, which need none"
    )

    def packed_grid(self, call: Call) -> tuple[int, int]:
        places: Tensor = call.values["img_ids"]
        places = places[0] if places.ndim == 3 else places
        own = places[places[:, 0] == 0]  # those of reference pictures lie at other times
        return int(own[:, 1].max()) + 1, int(own[:, 2].max()) + 1

    def guidance_scale(self) -> float:
        return Family.guidance_scale(self)

    def tracks(self, prompts: Sequence[str], call: Call) -> tuple[Track, ...]:
        self.need(("tokenizer",), "words are found in its attention by their tokens")
        if not same_text(prompts, self.told("prompt")):
            raise PromptError(
                f"{type(self.pipe).__name__} encoded {self.told('prompt')!r}, which is not the "
                f"prompt {prompts[0]!r}; give the guidance the text that was encoded (prompt=...)"
            )
        width = int(rows_of(call, self.text, slice(None)).shape[1])
        return (Track(tuple(self._tokenised(prompt, width) for prompt in prompts)),)

    def _tokenised(self, prompt: str, width: int) -> TokenisedPrompt:
        """The prompt in its chat, which is padded on either side."""
        tokenizer = self.pipe.tokenizer
        if not hasattr(tokenizer, "padding_side"):
            raise ModelError(
                f"{type(self.pipe).__name__} reads its prompt with a {type(tokenizer).__name__}, "
                "in which words cannot be found; of FLUX.2, the [klein] models can be guided"
            )
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        whole = tokenise(
            tokenizer, text, encoder="Qwen", length=width + 1, width=width, drop_padding=True
        )
        start = width - len(whole.pieces) if tokenizer.padding_side == "left" else 0
        return inside(shifted(whole, start), prompt, text.index(prompt))

    def encode(self, texts: Sequence[str]) -> Encoded:
        self.need(("text_encoder", "tokenizer"), f"a plugin needs to encode {texts[0]!r}")
        given: Any = self.told("prompt_embeds")
        length = self.told("max_sequence_length", 512) if given is None else given.shape[1]
        layers = self.told("text_encoder_out_layers")
        embeds, _ = self.pipe.encode_prompt(
            list(texts),
            device=self.pipe._execution_device,
            num_images_per_prompt=1,
            max_sequence_length=length,
            **({} if layers is None else {"text_encoder_out_layers": layers}),
        )
        return Encoded({self.text: embeds})


FAMILIES = (Flux2,)

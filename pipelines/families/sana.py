"""Sana: linear self attention, which has no maps, and cross attention to Gemma's tokens.

One denoiser call a step with rows [uncond, cond]. The pipeline puts a long instruction before the
prompt and shows the model the start token and the last tokens of the whole; words are found behind
the instruction. A plugin's own texts stand behind it too; the empty one does not, as the negative
prompt. Latents are 32 times smaller than the picture (DC-AE) and each cell is a token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from adhere.pipelines.families.pixart import CrossFamily, lowered, restored, shown
from adhere.pipelines.families.transformer import check_lengths, rows_of, shifted
from adhere.pipelines.hooks.denoiser_call import Call
from adhere.prompt.tokens import TokenisedPrompt, Track, tokenise


class Sana(CrossFamily):
    name = "sana"
    layer_texts = False  # the model projects its text before the layers see it
    model = "SanaTransformer2DModel"
    layers = r"transformer_blocks\.(\d+)\.attn2"
    rounds = True

    def timestep(self, call: Call) -> float:
        return super().timestep(call) / float(self.config.timestep_scale)

    def at_timestep(self, call: Call, timestep: float) -> Call:
        return super().at_timestep(call, timestep * float(self.config.timestep_scale))

    def latents(self, call: Call, unscaled: Tensor | None, batch: int) -> Tensor:
        return super().latents(call, unscaled, batch).float()

    def tracks(self, prompts: Sequence[str], call: Call) -> tuple[Track, ...]:
        rows = slice(call.rows - len(prompts), call.rows)
        width = int(call.values[self.text].shape[1])
        whole = [self._tokenised(prompt, width) for prompt in prompts]
        check_lengths(whole, shown(rows_of(call, self.mask, rows)), self.pipe, ends=1)
        return self.tracked(prompts, call.values)

    def tracked(self, texts: Sequence[str], values: Mapping[str, Any]) -> tuple[Track, ...]:
        width, lead = int(values[self.text].shape[1]), len(self._instruction())
        return (Track(tuple(restored(self._tokenised(one, width), one, lead) for one in texts)),)

    def _instruction(self) -> str:
        return "\n".join(self.encoded_with("complex_human_instruction") or ())

    def _tokenised(self, prompt: str, width: int) -> TokenisedPrompt:
        """Tokens of instruction and prompt; all but the last `width - 1` columns are dropped."""
        self.need(("tokenizer",), "words are found in its attention by their tokens")
        lead = self._instruction()
        text = lead + lowered(prompt)
        tokenizer = self.pipe.tokenizer
        total = len(tokenizer.encode(lead)) + width - 2 if lead else width
        # Gemma ends without a token of its own, so content may fill the last column.
        found = tokenise(
            tokenizer, text, encoder="Gemma", length=total + 1, width=width, drop_padding=True
        )
        moved = shifted(found, width - total)
        return replace(
            moved,
            pieces=tuple(piece for piece in moved.pieces if piece.column >= 1),
            keep=tuple(column for column in moved.keep if column >= 1),
        )

    def encoding(self, texts: Sequence[str]) -> dict[str, Any]:
        lines = self.encoded_with("complex_human_instruction") if any(texts) else None
        return super().encoding(texts) | {"complex_human_instruction": lines}

    def refuse(self, prediction: bool) -> str | None:
        if self.config.guidance_embeds:
            return (
                "Sana-Sprint makes a picture in one to four steps of a kind of its own, which "
                "cannot be guided; use Sana itself"
            )
        return super().refuse(prediction)


FAMILIES = (Sana,)

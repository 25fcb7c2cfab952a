"""Z-Image: one stream [image, caption], lists instead of batches, rows [cond, uncond].

The transformer takes a list of pictures and a list of captions of different lengths, and pads both
to a multiple of 32 tokens; here they are stacked, with the captions' lengths beside them. Its
output is the negated velocity. The pipeline's guidance scale s means 1 + s elsewhere. Maps come
from the middle half of the layers; the refiner layers see only one of the two parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from adhere.guides.maps import Site
from adhere.pipelines.families.family import Encoded
from adhere.pipelines.families.pixart import remasked
from adhere.pipelines.families.transformer import (
    JointFamily,
    check_lengths,
    in_chat,
    inside,
    rows_of,
)
from adhere.pipelines.hooks.attending import Attending, Pass
from adhere.pipelines.hooks.compat import positions_moved, unwrapped
from adhere.pipelines.hooks.denoiser_call import Call
from adhere.prompt.tokens import TokenisedPrompt, Track, tokenise

MULTIPLE = 32
"""Both parts of the stream are padded to multiples of this (`SEQ_MULTI_OF`)."""

LENGTHS = "caption_lengths"


class ZImage(JointFamily):
    name = "z-image"
    model = "ZImageTransformer2DModel"
    modular: ClassVar[dict[str, str]] = {"z-image": "ZImagePipeline"}
    layers = r"layers\.(\d+)\.attention"
    leading = "x"
    text = "cap_feats"
    text_first = False
    rounds = True
    extras_first = True
    distilled = (
        "this call of Z-Image makes no unconditional prediction to steer from; pass guidance_scale "
        "above 0 (with Z-Image itself: Z-Image-Turbo is distilled and made for 0), or use plugins "
        "that need none (negatives: nag, vsf, delayed-negative with negative=...)"
    )

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe)
        self.width: int | None = None

    @property
    def patch(self) -> int:
        return int(self.config.all_patch_size[0])

    def bind(self, args: Any, kwargs: Any) -> Call:
        call = super().bind(args, kwargs)
        captions: list[Tensor] = call.values[self.text]
        lengths = torch.tensor([len(caption) for caption in captions])
        stacked = torch.stack(list(call.values[self.leading])).squeeze(2)
        return call.replace(
            x=stacked, cap_feats=pad_sequence(captions, batch_first=True), caption_lengths=lengths
        )

    def arguments(self, call: Call) -> dict[str, Any]:
        values = super().arguments(call)
        lengths = values.pop(LENGTHS).tolist()
        values[self.leading] = list(values[self.leading].unsqueeze(2).unbind(0))
        values[self.text] = [
            caption[:length] for caption, length in zip(values[self.text], lengths, strict=True)
        ]
        return values

    def text_width(self, call: Call) -> int | None:
        return None

    def images_per_prompt(self, count: int) -> int:
        return int(self.argument("num_images_per_prompt", count))

    def conditional_rows(self, call: Call, batch: int) -> slice | None:
        return slice(0, batch)

    def unconditional_rows(self, call: Call, batch: int) -> slice | None:
        return slice(batch, 2 * batch) if call.rows == 2 * batch else None

    def guidance_scale(self) -> float:
        return super().guidance_scale() + (self.scale is None)

    def timestep(self, call: Call) -> float:
        return 1000 * (1 - float(call.values["t"].flatten()[0]))

    def at_timestep(self, call: Call, timestep: float) -> Call:
        return self.with_time(call, "t", 1 - timestep / 1000)

    def latents(self, call: Call, unscaled: Tensor | None, batch: int) -> Tensor:
        return super().latents(call, None, batch).float()

    def output(self, output: Any, call: Call) -> Tensor:
        return -torch.stack(list(output[0])).squeeze(2)

    def with_output(self, output: Any, prediction: Tensor) -> Any:
        listed: Any = list((-prediction).unsqueeze(2).unbind(0))
        return super().with_output(output, listed)

    # Text

    def tracks(self, prompts: Sequence[str], call: Call) -> tuple[Track, ...]:
        lengths = rows_of(call, LENGTHS, slice(0, len(prompts))).tolist()
        self.width = max(map(_rounded, lengths))
        each = zip(prompts, lengths, strict=True)
        whole = [self._tokenised(prompt, length, self.width)[0] for prompt, length in each]
        check_lengths(whole, lengths, self.pipe)
        return self.tracked(prompts, call.values)

    def tracked(self, texts: Sequence[str], values: Mapping[str, Any]) -> tuple[Track, ...]:
        lengths = values[LENGTHS][: len(texts)].tolist()
        width = max(map(_rounded, lengths))
        found = []
        for text, length in zip(texts, lengths, strict=True):
            whole, lead = self._tokenised(text, length, width)
            found.append(inside(whole, text, lead))
        return (Track(tuple(found)),)

    def _tokenised(self, prompt: str, length: int, width: int) -> tuple[TokenisedPrompt, int]:
        """The chat around a prompt, of which so many tokens are shown, and where it begins."""
        self.need(("tokenizer",), "words are found in its attention by their tokens")
        text, lead = in_chat(self._chat, prompt)
        tokenizer = self.pipe.tokenizer
        found = tokenise(
            tokenizer, text, encoder="Qwen", length=length + 1, width=width, drop_padding=True
        )
        return found, lead

    def _chat(self, prompt: str) -> str:
        text: str = self.pipe.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=True,
        )
        return text

    def encode(self, texts: Sequence[str]) -> Encoded:
        self.need(("text_encoder", "tokenizer"), f"a plugin needs to encode {texts[0]!r}")
        captions, _ = self.pipe.encode_prompt(
            list(texts),
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=int(self.encoded_with("max_sequence_length", 512)),
        )
        lengths = torch.tensor([len(caption) for caption in captions])
        return Encoded({self.text: pad_sequence(captions, batch_first=True), LENGTHS: lengths})

    def shown(self, encoded: Encoded, texts: Sequence[str]) -> Bool[Tensor, "texts columns"]:
        lengths: Tensor = encoded.values[LENGTHS]
        return torch.arange(encoded.values[self.text].shape[1]) < lengths[:, None]

    def room(self, columns: int) -> int:
        """Whole multiples, so that the prompt has the filling that it would have alone."""
        return _rounded(columns)

    def refining(self) -> tuple[str, ...]:
        named = unwrapped(self.denoiser).named_modules()
        return tuple(n for n, _ in named if re.fullmatch(r"context_refiner\.\d+\.attention", n))

    @contextmanager
    def placed(self, running: Pass) -> Iterator[None]:
        """Positions count from each text's own beginning, and the picture's from the prompt's."""
        if running.split is None:
            yield
            return
        room = running.split.columns.stop
        own = torch.arange(room + 1)
        own[1 : len(running.split.places) + 1] = torch.tensor(running.split.places) + 1

        def moved(places: Tensor) -> Tensor:
            if not running.mine():
                return places
            first = places[:, 0]
            inside = own.to(first)[first.clamp(max=room)]
            return torch.cat(
                [torch.where(first > room, first - room, inside)[:, None], places[:, 1:]], 1
            )

        with positions_moved(unwrapped(self.denoiser), moved):
            yield

    def lengthened(self, call: Call, extra: Tensor, places: Sequence[int]) -> Call:
        """Before the prompt, in all rows: prompt and picture then lie as far apart as alone."""
        given = rows_of(call, self.text, slice(None))
        lengths = rows_of(call, LENGTHS, slice(None)) + extra.shape[1]
        return call.replace(
            cap_feats=torch.cat([extra.to(given), given], dim=1), caption_lengths=lengths
        )

    def retexted(self, call: Call, embeds: Tensor) -> Call:
        before = rows_of(call, self.text, slice(None))
        kept = torch.arange(embeds.shape[1]) < rows_of(call, LENGTHS, slice(None))[:, None]
        mask = remasked(kept.to(embeds.device), before, embeds)
        return call.replace(cap_feats=embeds, caption_lengths=mask.sum(dim=1).cpu())

    def fitted(self, call: Call, extra: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
        mine = rows_of(call, self.text, slice(None))
        width = max(mine.shape[1], extra[self.text].shape[1])
        other = {**extra, self.text: _widened(extra[self.text], width)}
        return call.replace(cap_feats=_widened(mine, width)), other

    # Attention

    def places(self, site: Site, attending: Attending) -> tuple[slice, slice]:
        cells = site.grid[0] * site.grid[1]
        image = slice(0, cells)
        first = _rounded(cells)
        return image, image if site.kind == "self" else slice(first, attending.key.shape[2])

    def probabilities(
        self, site: Site, attending: Attending, rows: slice, bias: Tensor | None
    ) -> Float[Tensor, "rows one cells columns"]:
        """As wide as the run's longest prompt, whoever else is in the batch."""
        mapped = super().probabilities(site, attending, rows, bias)
        if site.kind == "self" or self.width is None:
            return mapped
        return F.pad(mapped, (0, self.width - mapped.shape[-1]))


def _rounded(length: int) -> int:
    return -(-length // MULTIPLE) * MULTIPLE


def _widened(rows: Float[Tensor, "rows width channels"], width: int) -> Tensor:
    return F.pad(rows, (0, 0, 0, width - rows.shape[1]))


FAMILIES = (ZImage,)

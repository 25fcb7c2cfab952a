"""BLIP-VQA as T2I-CompBench has it (arXiv:2307.06350): the product over a prompt's noun phrases.

The published figures come from BLIP's capfilt-large VQA checkpoint at 480 pixels with spaCy's noun
chunks. Here the phrases are those of the suite's things, or of this project's parser, with the
words that a chunk begins with ("a red car?", "two dogs?"), and the pictures are of the size that
the checkpoint's own processor gives them (384 on the hub).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from PIL import Image

from adhere.errors import ModelError
from adhere.eval.evaluators import backends
from adhere.eval.evaluators.asking.vision_language import yes_share
from adhere.eval.evaluators.evaluator import Measure, Recipe, Row, Shown
from adhere.eval.evaluators.rules import protocols
from adhere.eval.suites.items import Item
from adhere.guides.parameters import param
from adhere.guides.run import Prompt
from adhere.prompt.lexicon import DETERMINERS, NUMBERS
from adhere.prompt.phrases import Span, find

# BLIP's vocabulary is BERT's and two more: [DEC], which begins an answer, and [ENC], a question.
_VOCABULARY = 30524
_LAST_WORD = re.compile(r"(\w+)\s+$")


@dataclass(frozen=True)
class BlipVqa(Recipe):
    """Does the picture show each phrase of the prompt, says BLIP: T2I-CompBench's score."""

    name: ClassVar[str] = "blip-vqa"
    revision: ClassVar[int] = 2  # 2: phrases with their determiners, each as often as it is there
    models: ClassVar[tuple[str, ...]] = ("model",)
    columns: ClassVar[tuple[Measure, ...]] = (
        Measure("blip_vqa", "product over noun phrases of P(yes), T2I-CompBench's", kind="share"),
    )
    model: str = param("Salesforce/blip-vqa-capfilt-large", "BLIP for VQA: hub id or folder")

    def load(self, device: str) -> _Scorer:
        """Load BLIP with its question encoder."""
        return _Scorer(self.model, device)


def phrases(item: Item) -> tuple[str, ...]:
    """The noun phrases of a prompt, of its things or as the parser finds them.

    Each with its determiners and numbers, and as often as it is there: as published.
    """
    prompt = Prompt(item.prompt)
    spans = [entity.phrase for entity in prompt.parsed.entities]
    if item.things:
        spans = [find(prompt.plain, thing.phrase) for thing in item.things]
    return tuple(_begun(prompt.plain, span) for span in spans)


def _begun(prompt: str, span: Span) -> str:
    """A noun phrase with the words before it that belong to it."""
    start, before = span.start, prompt[: span.start]
    while (word := _LAST_WORD.search(before)) and _begins_a_phrase(word[1]):
        start, before = word.start(1), before[: word.start(1)]
    return prompt[start : span.end]


def _begins_a_phrase(word: str) -> bool:
    return word.isdigit() or word.lower() in DETERMINERS | NUMBERS


class _Scorer:
    def __init__(self, model: str, device: str) -> None:
        from transformers import BlipForQuestionAnswering

        self.device = device
        self.model: Any
        self.processor, self.model = backends.reader(BlipForQuestionAnswering, model, device)
        tokenizer = self.processor.tokenizer
        self.yes, self.no = (tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
        if tokenizer.unk_token_id in (self.yes, self.no):
            raise ModelError(f"{model!r}: its tokenizer does not know yes and no")

    def __call__(self, shown: Sequence[Shown]) -> list[Row]:
        return [self._row(one) for one in shown]

    def _row(self, shown: Shown) -> Row:
        asked = phrases(shown.entry.item)[: protocols.MOST_PHRASES]
        if not asked:
            return Row({})
        shares = [self.ask(shown.image, phrase) for phrase in asked]
        return Row({"blip_vqa": protocols.blip_vqa(shares)}, notes={"phrases": " | ".join(asked)})

    @torch.inference_mode()
    def ask(self, image: Image.Image, phrase: str) -> float:
        """P(yes) against P(no) of the first word of the answer to "PHRASE?"."""
        inputs = self.processor(images=image.convert("RGB"), text=f"{phrase}?", return_tensors="pt")
        inputs = inputs.to(self.device)
        model, tokens, mask = self.model, inputs["input_ids"], inputs["attention_mask"]
        if model.config.text_config.vocab_size == _VOCABULARY:
            tokens[:, 0] = _VOCABULARY - 1
        seen = model.vision_model(pixel_values=inputs["pixel_values"]).last_hidden_state
        question = backends.read_with_picture(model.text_encoder, tokens, mask, seen)
        start = torch.full((1, 1), model.config.text_config.bos_token_id, device=self.device)
        logits = model.text_decoder(
            input_ids=start, encoder_hidden_states=question, encoder_attention_mask=mask
        ).logits[0, 0]
        return yes_share(logits.cpu(), [self.yes], [self.no])

"""Vision-language models of transformers that are asked about a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from adhere.errors import ModelError
from adhere.eval.evaluators import backends

YES = ("yes", "Yes", "YES", " yes", " Yes")
NO = ("no", "No", "NO", " no", " No")
_LONGEST = 20


def yes_share(logits: Float[Tensor, " tokens"], yes: Sequence[int], no: Sequence[int]) -> float:
    """p(yes) / (p(yes) + p(no)) from next-token logits."""
    chosen = logits.double()
    # In logarithms: both may be far too small for a float.
    return float(torch.sigmoid(chosen[list(yes)].logsumexp(0) - chosen[list(no)].logsumexp(0)))


class VisionLanguage:
    """A model that answers questions about a picture, through its own chat template."""

    def __init__(self, model: str, device: str) -> None:
        from transformers import AutoModelForImageTextToText

        self.device = device
        self.processor, self.model = backends.reader(AutoModelForImageTextToText, model, device)
        self.yes, self.no = self.first_tokens(YES), self.first_tokens(NO)
        if not self.yes or not self.no or self.yes & self.no:
            raise ModelError(
                f"{model!r}: its tokenizer does not tell yes from no by the first token"
            )

    def first_tokens(self, words: Sequence[str]) -> set[int]:
        """Tokens that are one of the words as a whole."""
        tokenizer = self.processor.tokenizer
        found = (tokenizer.encode(word, add_special_tokens=False) for word in words)
        known = {tokens[0] for tokens in found if len(tokens) == 1}
        return known - {tokenizer.unk_token_id}

    @torch.inference_mode()
    def logits(self, image: Image.Image, question: str) -> Float[Tensor, " tokens"]:
        """Of the answer's first token."""
        found: Tensor = self.model(**self._inputs(image, question)).logits[0, -1]
        return found.float().cpu()

    @torch.inference_mode()
    def answer(self, image: Image.Image, question: str) -> str:
        """The likeliest answer in words."""
        inputs = self._inputs(image, question)
        written = self.model.generate(**inputs, max_new_tokens=_LONGEST, do_sample=False)
        start = inputs["input_ids"].shape[1]
        text: str = self.processor.batch_decode(written[:, start:], skip_special_tokens=True)[0]
        return text.strip()

    def probability(self, image: Image.Image, question: str, words: Sequence[str]) -> float | None:
        """How likely the answer begins with one of the words, of all that it may begin with.

        None where the model has no single token for any of them.
        """
        tokens = sorted(self.first_tokens(words))
        if not tokens:
            return None
        return float(self.logits(image, question).double().softmax(0)[tokens].sum())

    def _inputs(self, image: Image.Image, question: str) -> Any:
        return self.processor(
            text=self._prompt(question), images=image.convert("RGB"), return_tensors="pt"
        ).to(self.device)

    def _prompt(self, question: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        if getattr(self.processor, "chat_template", None):
            made: str = self.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True
            )
            return made
        # Models without a chat template (LLaVA 1.5's base form) take the image token and the text.
        token = getattr(self.processor, "image_token", "")
        return f"{token}\n{question}" if token else question

"""VQA yes-probability by any vision-language model of transformers (VQAScore, arXiv:2404.01291).

    P(yes) = sum of p(token) over the spellings of "yes", next to the same for "no"

The question is put through the model's own chat template; the probability is of the first token of
the answer. `vqa` is p(yes) / (p(yes) + p(no)), which does not punish a model for saying "Sure".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from adhere.errors import ModelError, ParameterError
from adhere.eval.evaluators import backends
from adhere.eval.evaluators.evaluator import Column, Row, Shown
from adhere.guides import parameters
from adhere.guides.parameters import param

_YES = ("yes", "Yes", "YES", " yes", " Yes")
_NO = ("no", "No", "NO", " no", " No")


@dataclass(frozen=True)
class Questions:
    """How sure is a vision-language model that the picture shows the prompt, thing by thing?"""

    name: ClassVar[str] = "vqa"
    columns: ClassVar[tuple[Column, ...]] = (
        Column("vqa", "P(yes) that the picture shows the prompt", kind="share"),
        Column("vqa_minimum", "lowest P(yes) over the things of the prompt", kind="share"),
    )
    models: ClassVar[tuple[str, ...]] = ("model",)
    model: str = param("HuggingFaceTB/SmolVLM-256M-Instruct", "hub id or folder")
    question: str = param(
        'Does this figure show "{}"? Please answer yes or no.',
        "question; {} is the text",
        source="arXiv:2404.01291",
    )

    def __post_init__(self) -> None:
        parameters.check(self)
        if self.question.count("{}") != 1:
            raise ParameterError(
                f"{self.name}: question {self.question!r} needs one {{}} for the text"
            )

    def load(self, device: str) -> _Scorer:
        """Load the model."""
        return _Scorer(self, device)


def yes_share(logits: Float[Tensor, " tokens"], yes: Sequence[int], no: Sequence[int]) -> float:
    """p(yes) / (p(yes) + p(no)) from next-token logits."""
    chosen = logits.double()
    # In logarithms: both may be far too small for a float.
    return float(torch.sigmoid(chosen[list(yes)].logsumexp(0) - chosen[list(no)].logsumexp(0)))


class _Scorer:
    def __init__(self, recipe: Questions, device: str) -> None:
        from transformers import AutoModelForImageTextToText

        self.recipe, self.device = recipe, device
        self.processor = backends.processor(recipe.model)
        self.model = backends.network(AutoModelForImageTextToText, recipe.model, device)
        self.yes, self.no = self._first_tokens(_YES), self._first_tokens(_NO)
        if not self.yes or not self.no or self.yes & self.no:
            raise ModelError(
                f"{recipe.model!r}: its tokenizer does not tell yes from no by the first token"
            )

    def _first_tokens(self, words: Sequence[str]) -> set[int]:
        tokenizer = self.processor.tokenizer
        found = (tokenizer.encode(word, add_special_tokens=False) for word in words)
        known = {tokens[0] for tokens in found if len(tokens) == 1}
        return known - {tokenizer.unk_token_id}

    def __call__(self, shown: Sequence[Shown]) -> list[Row]:
        rows = []
        for one in shown:
            item = one.entry.item
            values = {"vqa": self.ask(one.image, item.prompt)}
            phrases = list(dict.fromkeys(thing.phrase for thing in item.things))
            if phrases:
                values["vqa_minimum"] = min(self.ask(one.image, phrase) for phrase in phrases)
            rows.append(Row(values))
        return rows

    @torch.inference_mode()
    def ask(self, image: Image.Image, text: str) -> float:
        """P(yes) for one picture and text."""
        question = self.recipe.question.replace("{}", text)
        inputs: Any = self.processor(
            text=self._prompt(question), images=image.convert("RGB"), return_tensors="pt"
        ).to(self.device)
        logits = self.model(**inputs).logits[0, -1]
        return yes_share(logits.cpu(), sorted(self.yes), sorted(self.no))

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

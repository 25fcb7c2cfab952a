"""VQA yes-probability by any vision-language model of transformers (VQAScore, arXiv:2404.01291).

    vqascore   sum of p(token) over the spellings of "yes": the published score
    vqa        p(yes) / (p(yes) + p(no)), which does not punish a model for saying "Sure"

The question is put through the model's own chat template; the probability is of the first token of
the answer. The published figures are CLIP-FlanT5's, which transformers does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from PIL import Image

from adhere.errors import ParameterError
from adhere.eval.evaluators.asking.vision_language import VisionLanguage, yes_share
from adhere.eval.evaluators.evaluator import Measure, Recipe, Row, Shown
from adhere.guides.parameters import param


@dataclass(frozen=True)
class Questions(Recipe):
    """How sure is a vision-language model that the picture shows the prompt, thing by thing?"""

    name: ClassVar[str] = "vqa"
    columns: ClassVar[tuple[Measure, ...]] = (
        Measure("vqa", "P(yes) that the picture shows the prompt", kind="share"),
        Measure("vqascore", "P(yes) of all answers that there are: VQAScore", kind="share"),
        Measure("vqa_minimum", "lowest P(yes) over the things of the prompt", kind="share"),
    )
    models: ClassVar[tuple[str, ...]] = ("model",)
    model: str = param("HuggingFaceTB/SmolVLM-256M-Instruct", "hub id or folder")
    question: str = param(
        'Does this figure show "{}"? Please answer yes or no.',
        "question; {} is the text",
        source="arXiv:2404.01291",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.question.count("{}") != 1:
            raise ParameterError(
                f"{self.name}: question {self.question!r} needs one {{}} for the text"
            )

    def load(self, device: str) -> _Scorer:
        """Load the model."""
        return _Scorer(self, device)


class _Scorer:
    def __init__(self, recipe: Questions, device: str) -> None:
        self.recipe = recipe
        self.vlm = VisionLanguage(recipe.model, device)

    def __call__(self, shown: Sequence[Shown]) -> list[Row]:
        rows = []
        for one in shown:
            item = one.entry.item
            share, alone = self.ask(one.image, item.prompt)
            values = {"vqa": share, "vqascore": alone}
            phrases = list(dict.fromkeys(thing.phrase for thing in item.things))
            if phrases:
                values["vqa_minimum"] = min(self.ask(one.image, phrase)[0] for phrase in phrases)
            rows.append(Row(values))
        return rows

    def ask(self, image: Image.Image, text: str) -> tuple[float, float]:
        """P(yes) against P(no), and P(yes) of all answers, for one picture and text."""
        logits = self.vlm.logits(image, self.recipe.question.replace("{}", text))
        yes, no = sorted(self.vlm.yes), sorted(self.vlm.no)
        return yes_share(logits, yes, no), float(logits.double().softmax(0)[yes].sum())

"""The questions of a suite, asked of a vision-language model: DSG, TIFA, Soft-TIFA, DPG-Bench."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from PIL import Image

from adhere.eval.evaluators.asking.vision_language import NO, YES, VisionLanguage, yes_share
from adhere.eval.evaluators.evaluator import Measure, Recipe, Row, Shown
from adhere.eval.evaluators.rules import protocols
from adhere.eval.suites.answers import NUMBERS, alike
from adhere.eval.suites.items import Question
from adhere.guides.parameters import param

_BINARY = (("yes", "no"), ("no", "yes"))


@dataclass(frozen=True)
class QuestionSets(Recipe):
    """Are the suite's own questions answered rightly, says a vision-language model."""

    name: ClassVar[str] = "questions"
    revision: ClassVar[int] = 2  # 2: numbers in words and digits are the same answer
    models: ClassVar[tuple[str, ...]] = ("model",)
    columns: ClassVar[tuple[Measure, ...]] = (
        Measure("dsg", "questions answered rightly, with their parents (DSG, DPG-Bench)",
               kind="share"),
        Measure("tifa", "questions answered rightly (TIFA)", kind="share"),
        Measure("soft_tifa_am", "mean probability of the right answers (Soft-TIFA AM)",
               kind="share"),
        Measure("soft_tifa_gm", "their geometric mean (Soft-TIFA GM)", kind="share"),
    )  # fmt: skip
    model: str = param("Qwen/Qwen2.5-VL-3B-Instruct", "vision-language model: hub id or folder")

    def load(self, device: str) -> _Scorer:
        """Load the model."""
        return _Scorer(VisionLanguage(self.model, device))


@dataclass
class _Scorer:
    model: VisionLanguage

    def __call__(self, shown: Sequence[Shown]) -> list[Row]:
        return [self._row(one) for one in shown]

    def _row(self, shown: Shown) -> Row:
        questions = shown.entry.item.questions
        if not questions:
            return Row({})
        asked = {one.id: self.ask(shown.image, one) for one in questions}
        right = {key: answer for key, (answer, _) in asked.items()}
        values = {"dsg": protocols.dsg(questions, right), "tifa": protocols.tifa(questions, right)}
        likely = [probability for _, probability in asked.values() if probability is not None]
        if len(likely) == len(asked):
            values["soft_tifa_am"], values["soft_tifa_gm"] = protocols.soft_tifa(likely)
        return Row(values)

    def ask(self, image: Image.Image, question: Question) -> tuple[bool, float | None]:
        """Whether the answer is right, and how likely the model finds the right one.

        None for the second where the right answer is of several tokens.
        """
        words = (question.answer, *question.choices)
        if {word.lower() for word in words} <= {"yes", "no"}:
            yes, no = (sorted(self.model.first_tokens(some)) for some in (YES, NO))
            share = yes_share(self.model.logits(image, _binary(question.text)), yes, no)
            likely = share if question.answer.lower() == "yes" else 1 - share
            # At one half a model says yes as it says no: neither is an answer.
            return likely > 0.5, likely
        answer = self.model.answer(image, _worded(question))
        said = protocols.chosen(answer, question.choices or (question.answer,))
        words = spellings(question.answer)
        return (
            alike(said, question.answer),
            self.model.probability(image, _worded(question), words),
        )


def _binary(text: str) -> str:
    return f"{text} Please answer yes or no."


def _worded(question: Question) -> str:
    if question.choices:
        return f"Question: {question.text} Choices: {', '.join(question.choices)}. Answer:"
    return f"{question.text} Answer in one word."


def spellings(answer: str) -> tuple[str, ...]:
    """Forms of an answer that mean the same: capital, with a blank, a number in digits."""
    forms = [answer, answer.capitalize()]
    if answer.lower() in NUMBERS:
        forms.append(str(NUMBERS.index(answer.lower())))
    if answer.isdecimal() and int(answer) < len(NUMBERS):
        forms += [NUMBERS[int(answer)], NUMBERS[int(answer)].capitalize()]
    return tuple(dict.fromkeys([*forms, *(f" {form}" for form in forms)]))

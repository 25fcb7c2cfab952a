"""The read-out in a run: texts with and without words, asked of the finished picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from adhere.errors import ParameterError, PromptError
from adhere.guides.guide import Finished, Guide
from adhere.guides.run import Prompt, Run
from adhere.pipelines.explaining.explanation import Pair
from adhere.pipelines.explaining.information import information, levels
from adhere.prompt.phrases import Span, find, numbered


@dataclass(frozen=True)
class Reading:
    """What was read of a picture: its words, what each says, and every two of them."""

    prompt: str
    words: tuple[str, ...]
    information: Float[Tensor, "words h w"]
    pairs: tuple[Pair, ...]


def _untold(amount: float) -> None:
    """Nobody asks how far it is."""


@dataclass(eq=False)
class Reader:
    """A plugin that changes nothing, and keeps what it has read of the last run's picture.

    Attributes:
        phrases: the words to ask about; the parser's nouns if None.
        context: whether a word is heard beside the rest of the prompt, and not alone.
        levels: of noise, at which the model is asked.
        draws: noises at each level.
        tick: is told how many noises more the model was asked about.
        reading: what was read; None before the last step of a run.
    """

    name: ClassVar[str] = "diffusion-pid"

    phrases: tuple[str, ...] | None = None
    context: bool = False
    levels: int = 20
    draws: int = 1
    tick: Callable[[float], None] = _untold
    reading: Reading | None = None

    def __post_init__(self) -> None:
        for name in ("levels", "draws"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ParameterError(f"{name}={value!r}: give a whole number from 1 on")

    def guide(self, run: Run) -> Guide:
        if run.batch != 1:
            raise ParameterError(
                f"one picture is explained at a time, and the call makes {run.batch}; give one "
                "prompt and num_images_per_prompt=1"
            )
        return _Guide(self, run)


class _Guide(Guide):
    def __init__(self, reader: Reader, run: Run) -> None:
        self.reader, self.prompt = reader, run.prompts[0].plain
        self.spans = chosen(run.prompts[0], reader.phrases)

    def finished(self, pictures: Finished) -> None:
        count = len(self.spans)
        words = numbered([span.text for span in self.spans])
        compared = [(self._heard((), (k,)), self._heard((k,), ())) for k in range(count)]
        pairs = list(combinations(range(count), 2))
        for a, b in pairs:
            none = self._heard((), (a, b))
            for with_some in (((a,), (b,)), ((b,), (a,)), ((a, b), ())):
                compared.append((none, self._heard(*with_some)))
        said = self._information(pictures, compared).cpu()
        found = [
            Pair((words[a], words[b]), (said[k], said[k + 1]), said[k + 2])
            for k, (a, b) in zip(range(count, len(said), 3), pairs, strict=True)
        ]
        self.reader.reading = Reading(self.prompt, words, said[:count], tuple(found))

    def _heard(self, spoken: Sequence[int], hushed: Sequence[int]) -> str:
        """The text with some of the words and without others."""
        if self.reader.context:
            return without(self.prompt, [self.spans[k] for k in hushed])
        return " ".join(self.spans[k].text for k in sorted(spoken))

    def _information(
        self, pictures: Finished, compared: Sequence[tuple[str, str]]
    ) -> Float[Tensor, "compared h w"]:
        """What the second text of each two says that the first does not."""
        texts = sorted({text for two in compared for text in two})
        first, second = ([texts.index(two[k]) for two in compared] for k in (0, 1))
        ratios, width = levels(self.reader.levels)
        total: Tensor | None = None
        for ratio in ratios:
            for draw in range(self.reader.draws):
                noise = pictures.predicted(texts, ratio, draw)[:, 0]
                part = information(noise[first], noise[second], width / self.reader.draws)
                total = part if total is None else total + part
                self.reader.tick(1)
        assert total is not None  # there is a level
        return total


def chosen(prompt: Prompt, phrases: Sequence[str] | None) -> tuple[Span, ...]:
    """The words to ask about, in the order of the prompt.

    Raises:
        PromptError: they are fewer than two, are not in the prompt, or share words.
    """
    nouns = [entity.noun for entity in prompt.parsed.entities]
    found = nouns if phrases is None else [find(prompt.plain, phrase) for phrase in phrases]
    spans = sorted(set(found), key=lambda span: span.start)
    if len(spans) < 2:
        said = ", ".join(repr(span.text) for span in spans) or "none"
        raise PromptError(
            f"words are compared two by two, and of {prompt.plain!r} there are: {said}; name two "
            'or more of its words (words=("queen", "crown"), --words "queen|crown")'
        )
    for one, other in pairwise(spans):
        if one.end > other.start:
            raise PromptError(
                f"{one.text!r} and {other.text!r} share words of {prompt.plain!r}; name phrases "
                "that do not overlap"
            )
    return tuple(spans)


def without(prompt: str, spans: Sequence[Span]) -> str:
    """A prompt with some stretches left out."""
    for span in sorted(spans, key=lambda span: -span.start):
        prompt = prompt[: span.start] + prompt[span.end :]
    return " ".join(prompt.split())

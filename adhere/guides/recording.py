"""The recorded attention of a picture, read by the words of its prompt."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.errors import ModelError, PromptError
from adhere.prompt.phrases import Span, find, numbered, split_words
from adhere.prompt.tokens import TokenisedPrompt, columns_of


@dataclass(frozen=True)
class RecordedAttention:
    """Cross attention of one image, averaged over layers and heads, at every step.

    Attributes:
        prompt: the prompt without markup.
        attention: probabilities over the text columns, on the CPU.
        encoders: the prompt as each text encoder sees it: where its words are in the columns.
        unread: why words cannot be found, where `encoders` is empty.
    """

    prompt: str
    attention: Float[Tensor, "steps h w tokens"]
    encoders: tuple[TokenisedPrompt, ...]
    unread: str = ""

    @property
    def spans(self) -> tuple[Span, ...]:
        """The words of the prompt that some encoder reads."""
        if not self.encoders:
            return ()
        cuts = {c for piece in self.encoders[0].pieces for c in (piece.start, piece.end)}
        return tuple(span for span in split_words(self.prompt, cuts) if self._columns(span))

    @property
    def words(self) -> tuple[str, ...]:
        """Those words; the second `cat` is `cat#2`."""
        return numbered([span.text for span in self.spans])

    def of(self, phrase: str | Span) -> Float[Tensor, "steps h w"]:
        """The share of each cell's attention that a phrase gets, step by step.

        It is the sum over the phrase's tokens, averaged over the text encoders that read it.

        Args:
            phrase: words of the prompt (`cat#2` is the second cat), or where they stand in it.

        Raises:
            PromptError: the phrase is not in the prompt, or no encoder reads it.
            ModelError: words cannot be found in this model's columns at all.
        """
        if not self.encoders:
            raise ModelError(f"attention cannot be read by words: {self.unread}")
        span = find(self.prompt, phrase) if isinstance(phrase, str) else phrase
        found = self._columns(span)
        if not found:
            columns_of(span, self.encoders)  # says why
        parts = [self.attention[..., list(columns)].sum(dim=-1) for columns in found]
        return torch.stack(parts).mean(dim=0)

    def heatmap(self, phrase: str | Span) -> Float[Tensor, "h w"]:
        """`of`, averaged over the steps."""
        return self.of(phrase).mean(dim=0)

    def _columns(self, span: Span) -> list[tuple[int, ...]]:
        """A stretch's columns in each encoder that reads it."""
        found = []
        for encoder in self.encoders:
            try:
                found.append(columns_of(span, [encoder]).columns[0])
            except PromptError:  # cut off, or without a token of its own, there
                continue
        return found

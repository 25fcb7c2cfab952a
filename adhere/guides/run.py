"""A run: one call of a pipeline, for a batch of images, in the words that guides use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from adhere.errors import LayoutError, PromptError
from adhere.layout.layout import Layout
from adhere.prompt.tokens import Track, Words, columns_of
from adhere.prompt.words import Entity, Parse, Span, find, parse

UNTOLD = ""
"""The prompt of a call that was given embeddings only. Methods that need no words still work."""


@dataclass(frozen=True)
class Brief:
    """What is asked of one image: its prompt and, where given, subjects and layout.

    `prompt` may carry markup (`[red|cat]`); the text encoder sees it without.
    """

    prompt: str
    subjects: tuple[str, ...] | None = None
    layout: Layout | None = None
    parser: Literal["auto", "chunker", "spacy"] = "auto"

    @cached_property
    def parsed(self) -> Parse:
        return parse(self.prompt, self.parser)


@dataclass(frozen=True)
class Pair:
    """A noun and the modifiers that belong to it, as token columns."""

    noun: Words
    modifiers: tuple[Words, ...]


@dataclass
class Run:
    """One call of a pipeline. Guides read it; nothing of it outlives the call.

    Attributes:
        briefs: one for each image of the batch (`num_images_per_prompt` already repeated).
        tracks: the text encoders' columns, image by image.
        grid: `(h, w)` of the latents.
        steps: number of steps that was asked for.
        family: name of the model family, for reports.
        sampling: True when the run starts from pure noise (text-to-image).
        notes: sentences for the report.
    """

    briefs: tuple[Brief, ...]
    tracks: tuple[Track, ...]
    grid: tuple[int, int]
    steps: int
    family: str
    sampling: bool = True
    notes: list[str] = field(default_factory=list)

    @property
    def batch(self) -> int:
        return len(self.briefs)

    def note(self, sentence: str) -> None:
        """Add a sentence to the report, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def words(self, image: int, phrase: str) -> Words:
        """The token columns of a phrase in an image's prompt. `cat#2` is the second cat.

        Raises:
            PromptError: the phrase is absent, or lies beyond the last token of an encoder.
        """
        return self._columns(image, find(self._prompt(image), phrase))

    def subjects(self, given: Sequence[str] | None = None) -> tuple[tuple[Words, ...], ...]:
        """For each image the subjects: those given, else its brief's, else the parser's nouns."""
        return tuple(self._subjects(image, given) for image in range(self.batch))

    def pairs(self, given: Sequence[str] | None = None) -> tuple[tuple[Pair, ...], ...]:
        """For each image its nouns with their modifiers, as parsed; nouns without are included.

        `given` restricts them to the entities whose noun or phrase is named.
        """
        found = []
        for image, brief in enumerate(self.briefs):
            entities = self._entities(image)
            if given is not None:
                spans = [find(brief.parsed.prompt, phrase) for phrase in given]
                entities = [
                    entity
                    for entity in entities
                    if any(
                        span.start < entity.noun.end and entity.phrase.start < span.end
                        for span in spans
                    )
                ]
            found.append(
                tuple(
                    Pair(
                        self._columns(image, entity.noun),
                        tuple(self._columns(image, span) for span in entity.modifiers),
                    )
                    for entity in entities
                )
            )
        return tuple(found)

    def layouts(self, given: Layout | None = None) -> tuple[Layout, ...]:
        """For each image its layout: the one given, else its brief's.

        Raises:
            LayoutError: an image has none.
        """
        layouts = []
        for brief in self.briefs:
            layout = given or brief.layout
            if layout is None:
                raise LayoutError(
                    f"no layout for {brief.parsed.prompt!r}: give one to the plugin (layout=...) "
                    "or to the call (attach(pipe, layout=...), --layout scene.json)"
                )
            layout.check(brief.parsed.prompt)
            layouts.append(layout)
        return tuple(layouts)

    def _prompt(self, image: int) -> str:
        prompt = self.briefs[image].parsed.prompt
        if not prompt.strip():
            raise PromptError(
                "the prompt is empty, or the call was given prompt_embeds; guidance finds subjects "
                "by their words: write a prompt, or pass the embeddings' text as "
                "attach(pipe, prompt=...) or callback(pipe, prompt=...)"
            )
        return prompt

    def _entities(self, image: int) -> list[Entity]:
        self._prompt(image)
        parsed = self.briefs[image].parsed
        for doubt in parsed.uncertain:
            self.note(f"{parsed.prompt!r}: {doubt}")
        return list(parsed.entities)

    def _subjects(self, image: int, given: Sequence[str] | None) -> tuple[Words, ...]:
        brief = self.briefs[image]
        phrases = given if given is not None else brief.subjects
        if phrases is not None:
            if not phrases:
                raise PromptError("subjects is empty: name at least one phrase, or leave it out")
            return tuple(self.words(image, phrase) for phrase in phrases)
        entities = self._entities(image)
        if not entities:
            raise PromptError(
                f"no noun found in {brief.parsed.prompt!r}: name the subjects "
                '(subjects=("cat", "frog"), --subjects "cat|frog")'
            )
        return tuple(self._columns(image, entity.noun) for entity in entities)

    def _columns(self, image: int, span: Span) -> Words:
        return columns_of(span, [track.images[image] for track in self.tracks])

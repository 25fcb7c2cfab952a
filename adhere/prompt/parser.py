"""Nouns of a prompt with their modifiers: explicit markup, the built-in parser or spaCy."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from adhere.errors import PromptError
from adhere.prompt import chunker, spacy_parser
from adhere.prompt.chunker import NounPhrase
from adhere.prompt.markup import read_markup
from adhere.prompt.phrases import Entity, Span, span_of

Backend = Literal["auto", "chunker", "spacy"]


@dataclass(frozen=True)
class Parse:
    """A prompt with its entities, in the order of the prompt.

    Attributes:
        text: the prompt without markup, as the text encoder sees it.
        entities: its nouns with their modifiers.
        uncertain: a sentence for every choice that the parser was unsure of.
        backend: "markup", "chunker" or "spacy".
    """

    text: str
    entities: tuple[Entity, ...]
    uncertain: tuple[str, ...]
    backend: str

    @property
    def nouns(self) -> tuple[Span, ...]:
        """The noun of every entity."""
        return tuple(entity.noun for entity in self.entities)

    @property
    def bound(self) -> tuple[Entity, ...]:
        """The entities that have modifiers."""
        return tuple(entity for entity in self.entities if entity.modifiers)

    @property
    def pairs(self) -> tuple[tuple[Span, Span], ...]:
        """Every (noun, modifier) pair."""
        return tuple(
            (entity.noun, modifier) for entity in self.entities for modifier in entity.modifiers
        )

    def require_nouns(self) -> tuple[Span, ...]:
        """The nouns.

        Raises:
            PromptError: the prompt has none.
        """
        if not self.entities:
            raise PromptError(
                f"no noun was found in the prompt {self.text!r}; "
                + (
                    ENGLISH_ONLY
                    if ENGLISH_ONLY in self.uncertain
                    else "name a thing, or mark one: [cat]"
                )
            )
        return self.nouns

    def require_pairs(self) -> tuple[Entity, ...]:
        """The entities that have modifiers.

        Raises:
            PromptError: the prompt has no noun, or none with a modifier.
        """
        self.require_nouns()
        if not self.bound:
            names = ", ".join(repr(noun.text) for noun in self.nouns)
            raise PromptError(
                f"no noun of the prompt {self.text!r} has a modifier (nouns: {names}); "
                f"describe one (a red {self.nouns[0].text}), "
                f"or mark a pair: [red|{self.nouns[0].text}]"
            )
        return self.bound


# ---- Parsing -----------------------------------------------------------------


def parse(prompt: str, backend: Backend = "auto") -> Parse:
    """Reads the nouns of a prompt and what modifies each.

    Markup wins over every backend: where a prompt holds any, its entities are those marked and no
    others.

    Args:
        prompt: the prompt, with or without markup such as "[red|cat] and [blue|suitcase]".
        backend: "auto" and "chunker" read with the built-in chunker; "spacy" with an installed
            English model.

    Raises:
        PromptError: the markup does not parse, or the backend is unknown.
        ExtraMissing: spaCy or its model was asked for and is not installed.
    """
    if backend not in ("auto", "chunker", "spacy"):
        raise PromptError(f"unknown parser {backend!r}; use 'auto', 'chunker' or 'spacy'")
    clean, marked = read_markup(prompt)
    if marked:
        return Parse(clean, marked, (), "markup")
    if backend == "spacy":
        entities = spacy_parser.read(clean)
        return Parse(clean, entities, _no_noun(entities), "spacy")
    return _parse_chunks(clean)


ENGLISH_ONLY = (
    "the parser reads English: mark the nouns, as in [red|cat], or name them (subjects=...)"
)


def _is_foreign(prompt: str) -> bool:
    """Whether most letters are of another script than the Latin one."""
    letters = [c for c in prompt if c.isalpha()]
    foreign = sum(
        not unicodedata.name(c, "").startswith(("LATIN", "FULLWIDTH LATIN")) for c in letters
    )
    return 2 * foreign > len(letters)


@lru_cache(maxsize=256)
def _parse_chunks(prompt: str) -> Parse:
    if _is_foreign(prompt):
        return Parse(prompt, (), (ENGLISH_ONLY,), "chunker")
    reading = chunker.read(prompt)

    def span(words: tuple[int, int]) -> Span:
        return span_of(prompt, reading.words[words[0]].start, reading.words[words[1] - 1].end)

    def entity(found: NounPhrase) -> Entity:
        modifiers = tuple(span(modifier) for modifier in sorted(found.modifiers))
        return Entity(span(found.noun), modifiers, span((found.start, found.noun[1])))

    entities = tuple(entity(found) for found in reading.phrases)
    doubts = (*reading.uncertain, *_no_noun(entities))
    return Parse(prompt, entities, doubts, "chunker")


def _no_noun(entities: tuple[Entity, ...]) -> tuple[str, ...]:
    return () if entities else ("no noun was found",)

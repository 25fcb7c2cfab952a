"""The parser that uses spaCy, where the user has it and one of its English models."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from adhere.errors import ExtraMissing
from adhere.prompt.phrases import Entity, Span

SPACY_MODELS = ("en_core_web_trf", "en_core_web_lg", "en_core_web_md", "en_core_web_sm")
"""English models of spaCy, the best first; the first that is installed is used."""


def read(prompt: str) -> tuple[Entity, ...]:
    """The nouns of an English prompt with their modifiers.

    Raises:
        ExtraMissing: spaCy or its model is not installed.
    """
    return tuple(entities_of(model()(prompt)))


@lru_cache(maxsize=1)
def model() -> Any:
    try:
        import spacy
    except ImportError as missing:
        raise ExtraMissing("the spaCy parser", "spacy") from missing
    for name in SPACY_MODELS:
        if spacy.util.is_package(name):
            return spacy.load(name)
    raise ExtraMissing(
        "the spaCy parser, with an English model beside it "
        f"(python -m spacy download {SPACY_MODELS[-1]}),",
        "spacy",
    )


def entities_of(doc: Any) -> list[Entity]:
    """The nouns of a parsed spaCy document with their modifiers, as SynGen reads them.

    Differs from the authors' code: every noun is kept, also one without modifiers; "the car is
    red" counts in every clause and not only in the first; a list of modifiers never swallows
    another noun's.
    """
    found = []
    for token in doc:
        if token.pos_ not in {"NOUN", "PROPN"} or token.dep_ in {
            "compound",
            "amod",
            "nmod",
            "npadvmod",
        }:
            continue
        compound = [
            child for child in token.children if child.dep_ == "compound" and child.i == token.i - 1
        ]
        first = compound[0] if compound else token
        modifiers = sorted(
            {m.i: m for m in _modifiers(token) if m not in compound}.values(), key=lambda m: m.i
        )
        start = min([first.i, *(m.i for m in modifiers if m.i < token.i)])
        noun, phrase = doc[first.i : token.i + 1], doc[start : token.i + 1]
        found.append(
            Entity(
                _doc_span(noun),
                tuple(_doc_span(doc[m.i : m.i + 1]) for m in modifiers),
                _doc_span(phrase),
            )
        )
    return found


def _modifiers(noun: Any) -> list[Any]:
    direct = [
        c
        for c in noun.children
        if c.dep_ in {"amod", "nmod", "compound", "npadvmod", "advmod", "acomp"}
    ]
    clauses = [c for c in noun.children if c.dep_ == "relcl"]
    if noun.dep_ == "nsubj":
        clauses.append(noun.head)
    direct += [c for clause in clauses for c in clause.children if c.dep_ == "acomp"]
    for word in direct:  # the list grows while it is walked: "red, round and shiny" is a chain
        direct += [
            c for c in word.children if c.dep_ == "conj" and c.pos_ in {"ADJ", "VERB", "NOUN"}
        ]
    return direct


def _doc_span(piece: Any) -> Span:
    return Span(piece.start_char, piece.end_char, piece.text)

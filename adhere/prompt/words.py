"""Words of a prompt: phrases as character spans, nouns with their modifiers, and explicit markup.

Everything here is text. Offsets are characters of the prompt *as the text encoder sees it*, that
is with the markup removed; `adhere.prompt.tokens` turns them into token columns.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from adhere.errors import ExtraMissing, PromptError
from adhere.prompt.chunker import NounPhrase, read

__all__ = ["Backend", "Entity", "Parse", "Span", "find", "occurrences", "parse", "strip_markup"]

Backend = Literal["auto", "chunker", "spacy"]

SPACY_MODELS = ("en_core_web_trf", "en_core_web_lg", "en_core_web_md", "en_core_web_sm")
"""English models of spaCy, the best first; the first that is installed is used."""

_WORD = re.compile(r"\w+(?:[-'’]\w+)*")
_NTH = re.compile(r"^(.*\S)\s*#\s*(\d+)$", re.DOTALL)
_DETERMINER = re.compile(r"^(?:an?|the|this|that|these|those)\s+", re.IGNORECASE)
_EXAMPLE = "write [red|cat] and [big, blue|suitcase]; a literal bracket or bar is \\[, \\] or \\|"


@dataclass(frozen=True)
class Span:
    """A stretch of the prompt: characters `start` to `end` (not included), and their text."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Entity:
    """A noun with its modifiers.

    `noun` is the head, with its compound parts where they name one thing ("teddy bear"); `phrase`
    is the whole phrase without its determiner. Modifiers may stand outside the phrase ("the car
    is red").
    """

    noun: Span
    modifiers: tuple[Span, ...]
    phrase: Span


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
                f"no noun was found in the prompt {self.text!r}; name a thing, or mark one: [cat]"
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
    clean, marked = _read_markup(prompt)
    if marked:
        return Parse(clean, marked, (), "markup")
    return _parse_spacy(clean) if backend == "spacy" else _parse_chunks(clean)


@lru_cache(maxsize=256)
def _parse_chunks(prompt: str) -> Parse:
    reading = read(prompt)

    def span(words: tuple[int, int]) -> Span:
        return _span(prompt, reading.words[words[0]].start, reading.words[words[1] - 1].end)

    def entity(found: NounPhrase) -> Entity:
        modifiers = tuple(span(modifier) for modifier in sorted(found.modifiers))
        return Entity(span(found.noun), modifiers, span((found.start, found.noun[1])))

    entities = tuple(entity(found) for found in reading.phrases)
    doubts = (*reading.uncertain, *_no_noun(entities))
    return Parse(prompt, entities, doubts, "chunker")


def _no_noun(entities: tuple[Entity, ...]) -> tuple[str, ...]:
    return () if entities else ("no noun was found",)


def _span(prompt: str, start: int, end: int) -> Span:
    return Span(start, end, prompt[start:end])


# ---- Markup ------------------------------------------------------------------


def strip_markup(prompt: str) -> str:
    """The prompt as the text encoder is to see it: "[red|cat]" reads "red cat".

    Raises:
        PromptError: the markup does not parse.
    """
    return _read_markup(prompt)[0]


def _read_markup(prompt: str) -> tuple[str, tuple[Entity, ...]]:
    """The prompt without markup, and the marked entities at their places in it."""
    text, entities = "", []
    i = 0
    while i < len(prompt):
        if prompt[i] == "\\" and prompt[i + 1 : i + 2] in {"[", "]", "|"} and i + 1 < len(prompt):
            text += prompt[i + 1]
            i += 2
        elif prompt[i] == "[":
            inner, i = _bracket(prompt, i)
            plain, entity = _marked(prompt, inner, len(text))
            text += plain
            entities.append(entity)
        elif prompt[i] == "]":
            raise _markup_error(prompt, i, "']' closes nothing")
        else:
            text += prompt[i]
            i += 1
    return text, tuple(_cut(text, entity) for entity in entities)


def _bracket(prompt: str, start: int) -> tuple[str, int]:
    """What stands between the bracket at `start` and its partner, and the index after that."""
    for i in range(start + 1, len(prompt)):
        if prompt[i] == "[":
            raise _markup_error(prompt, i, "'[' inside '[...]': marks do not nest")
        if prompt[i] == "]":
            return prompt[start + 1 : i], i + 1
    raise _markup_error(prompt, start, "'[' is never closed")


def _marked(prompt: str, inner: str, offset: int) -> tuple[str, Entity]:
    """One mark as plain text and as an entity that begins at `offset`; texts come later."""
    at = prompt.index("[" + inner + "]")
    left, bar, noun = inner.partition("|")
    left, noun = (left, noun) if bar else ("", left)
    if "|" in noun:
        raise _markup_error(prompt, at, f"'[{inner}]' has more than one bar")
    left, noun = " ".join(left.split()), " ".join(noun.split())
    if not _WORD.search(noun):
        raise _markup_error(prompt, at, f"'[{inner}]' has no noun")
    if bar and not _WORD.search(left):
        raise _markup_error(
            prompt, at, f"'[{inner}]' has a bar but no modifier; write '[{noun}]' for a bare noun"
        )
    plain = f"{left} {noun}" if left else noun
    start = offset + len(plain) - len(noun)
    # A comma lets a modifier have several words: "[polka dot, red|dress]".
    parts = re.finditer(r"[^,\s][^,]*[^,\s]|[^,\s]" if "," in left else r"\S+", left)
    modifiers = tuple(Span(offset + part.start(), offset + part.end(), "") for part in parts)
    return plain, Entity(
        Span(start, start + len(noun), ""), modifiers, Span(offset, offset + len(plain), "")
    )


def _cut(text: str, entity: Entity) -> Entity:
    def fill(span: Span) -> Span:
        return _span(text, span.start, span.end)

    return Entity(
        fill(entity.noun),
        tuple(fill(modifier) for modifier in entity.modifiers),
        fill(entity.phrase),
    )


def _markup_error(prompt: str, at: int, problem: str) -> PromptError:
    return PromptError(
        f"markup in the prompt does not parse: {problem} (at {prompt[at : at + 20]!r}); {_EXAMPLE}"
    )


# ---- Phrases -----------------------------------------------------------------


def find(prompt: str, phrase: str) -> Span:
    """Where a phrase stands in a prompt.

    Case and spacing do not matter, whole words do: "cat" is not in "cats". "cat#2" is the second
    "cat". A leading article that the prompt does not have is passed over ("the red car" in "a red
    car").

    Args:
        prompt: the prompt without markup (`Parse.text`, or `strip_markup(prompt)`).
        phrase: words of the prompt, next to each other, with an optional "#n" counting from 1.

    Raises:
        PromptError: the phrase is empty or absent, or occurs fewer times than asked for.
    """
    # A prompt may itself hold "pencil #2", so the literal reading comes first.
    literal = occurrences(prompt, phrase)
    if literal:
        return literal[0]
    numbered = _NTH.match(phrase.strip())
    words, count = (numbered.group(1), int(numbered.group(2))) if numbered else (phrase.strip(), 1)
    if not _WORD.search(words):
        raise PromptError(
            f"the phrase {phrase!r} names no word; give words of the prompt: {_numbered(prompt)}"
        )
    if count < 1:
        raise PromptError(
            f"{phrase!r}: occurrences are counted from 1; write {words}#1 for the first"
        )
    found = occurrences(prompt, words) or occurrences(prompt, _DETERMINER.sub("", words))
    if not found:
        raise PromptError(_absent(prompt, words))
    if count > len(found):
        times = "once" if len(found) == 1 else f"{len(found)} times"
        raise PromptError(
            f"{phrase!r} asks for occurrence {count}, but {words!r} is only {times} "
            f"in the prompt {_numbered(prompt)}"
        )
    return found[count - 1]


def occurrences(prompt: str, phrase: str) -> tuple[Span, ...]:
    """Every place of a phrase in a prompt, by whole words and regardless of case and spacing."""
    words = phrase.split()
    if not words:
        return ()
    pattern = r"\s+".join(re.escape(word) for word in words)
    hits = re.finditer(rf"(?<!\w){pattern}(?!\w)", prompt, re.IGNORECASE)
    return tuple(_span(prompt, hit.start(), hit.end()) for hit in hits)


def _numbered(prompt: str) -> str:
    return (
        " ".join(f"{i}:{match.group()}" for i, match in enumerate(_WORD.finditer(prompt), 1))
        or "(no words)"
    )


def _absent(prompt: str, phrase: str) -> str:
    close = difflib.get_close_matches(
        phrase.lower(), _stretches(prompt, len(phrase.split())), n=3, cutoff=0.6
    )
    hint = (
        f"; did you mean {' or '.join(repr(c) for c in close)}?"
        if close
        else "; use words of the prompt as they stand"
    )
    return f"the phrase {phrase!r} is not in the prompt {_numbered(prompt)}{hint}"


def _stretches(prompt: str, length: int) -> list[str]:
    """Every run of about as many words as the phrase has, lower case."""
    words = [match.group().lower() for match in _WORD.finditer(prompt)]
    sizes: Iterable[int] = range(max(1, length - 1), length + 2)
    return list(
        dict.fromkeys(" ".join(words[i : i + n]) for n in sizes for i in range(len(words) - n + 1))
    )


# ---- spaCy -------------------------------------------------------------------


def _parse_spacy(prompt: str) -> Parse:
    entities = tuple(entities_of(_spacy_model()(prompt)))
    return Parse(prompt, entities, _no_noun(entities), "spacy")


@lru_cache(maxsize=1)
def _spacy_model() -> Any:
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

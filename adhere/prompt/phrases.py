"""Phrases of a prompt: stretches of characters, and where they stand.

Offsets are characters of the prompt *as the text encoder sees it*, that is with the markup removed;
`adhere.prompt.tokens` turns them into token columns.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from adhere.errors import PromptError

UNSPACED = re.compile(
    "[\u0e00-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u31ff\u3400-\u9fff"
    "\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc\U0001b000-\U0001b16f\U00020000-\U0003ffff]"
)
"""Characters of scripts in which words are not set apart by spaces (Thai, Lao, Tibetan, Burmese,
Khmer, Chinese, Japanese), or have particles joined to them (Korean)."""

_NTH = re.compile(r"^(.*\S)\s*#\s*(\d+)$", re.DOTALL)
_DETERMINER = re.compile(r"^(?:an?|the|this|that|these|those)\s+", re.IGNORECASE)


_HALF = re.compile("[\ud800-\udfff]")


TORN = "has halves of characters in it; write it in UTF-8"
"""What is said of a torn text."""


def torn(text: str) -> bool:
    """Whether a text has halves of characters in it, which no encoder reads.

    They are bytes that Python could not read on a command line, or "\\ud800" in JSON.
    """
    return _HALF.search(text) is not None


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


def span_of(prompt: str, start: int, end: int) -> Span:
    """A stretch of a prompt with its text."""
    return Span(start, end, prompt[start:end])


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
    if not names_a_word(words):
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


def unnumbered(phrase: str, prompt: str = "") -> str:
    """What a phrase says by itself: "cat#2" says "cat", unless the prompt has it literally."""
    numbered = _NTH.match(phrase.strip())
    if numbered is None or occurrences(prompt, phrase):
        return phrase.strip()
    return numbered.group(1)


def occurrences(prompt: str, phrase: str) -> tuple[Span, ...]:
    """Every place of a phrase in a prompt, by whole words and regardless of case and spacing.

    In scripts of `UNSPACED` a phrase may begin and end anywhere.
    """
    words = phrase.split()
    if not words:
        return ()
    pattern = r"\s+".join(re.escape(word) for word in words)
    return tuple(
        span_of(prompt, hit.start(), hit.end())
        for hit in re.finditer(pattern, prompt, re.IGNORECASE)
        if not _joined(prompt, hit.start()) and not _joined(prompt, hit.end())
    )


def split_words(prompt: str, cuts: Container[int] = ()) -> tuple[Span, ...]:
    """The words of a prompt, without punctuation.

    Args:
        prompt: the prompt without markup.
        cuts: characters at which text without spaces may be cut: the borders of tokens.
    """
    found, start = [], 0
    for place in range(1, len(prompt) + 1):
        inner = _within(prompt, place - 1) and _within(prompt, place)
        if inner and (place not in cuts or _joined(prompt, place) or _bridges(prompt, place)):
            continue
        if _within(prompt, place - 1):
            found.append(span_of(prompt, start, place))
        start = place
    return tuple(found)


def numbered(words: Sequence[str]) -> tuple[str, ...]:
    """Words made unique as phrases are written: the second `cat` is `cat#2`."""
    before: Counter[str] = Counter()
    unique = []
    for word in words:
        before[word] += 1
        unique.append(word if before[word] == 1 else f"{word}#{before[word]}")
    return tuple(unique)


def names_a_word(text: str) -> bool:
    """Whether a text has a letter or a digit."""
    return any(map(_of_words, text))


def _of_words(character: str) -> bool:
    return character.isalnum() or character == "_" or unicodedata.category(character)[0] == "M"


def _within(prompt: str, place: int) -> bool:
    """Whether a character belongs to a word; an inner hyphen or apostrophe does."""
    if not 0 <= place < len(prompt):
        return False
    around = prompt[max(0, place - 1)], prompt[min(place + 1, len(prompt) - 1)]
    return _of_words(prompt[place]) or (prompt[place] in "-'\u2019" and all(map(_of_words, around)))


def _bridges(prompt: str, place: int) -> bool:
    """Whether a hyphen or apostrophe stands beside a border."""
    return not (_of_words(prompt[place - 1]) and _of_words(prompt[place]))


def _joined(prompt: str, place: int) -> bool:
    """Whether a word goes on over the border in front of a character."""
    around = prompt[max(0, place - 1) : place + 1]
    if not 0 < place < len(prompt) or not all(map(_of_words, around)):
        return False
    return not any(map(UNSPACED.match, around)) or unicodedata.category(around[1])[0] == "M"


def _numbered(prompt: str) -> str:
    words = enumerate(split_words(prompt), 1)
    return " ".join(f"{i}:{word.text}" for i, word in words) or "(no words)"


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
    words = [word.text.lower() for word in split_words(prompt)]
    sizes: Iterable[int] = range(max(1, length - 1), length + 2)
    return list(
        dict.fromkeys(" ".join(words[i : i + n]) for n in sizes for i in range(len(words) - n + 1))
    )

"""The words of a prompt that name what an annotation speaks of."""

from __future__ import annotations

import re

from adhere.eval.suites.items import COLOURS, Target
from adhere.eval.suites.reading import names

_COLOURS = frozenset({*COLOURS, "grey"})
_IRREGULAR = {
    "person": "people", "mouse": "mice", "sheep": "sheep", "man": "men", "woman": "women",
    "child": "children", "goose": "geese", "tooth": "teeth", "foot": "feet", "fish": "fish",
    "deer": "deer", "knife": "knives", "leaf": "leaves", "shelf": "shelves", "wolf": "wolves",
}  # fmt: skip


def plurals(noun: str) -> tuple[str, ...]:
    """Forms that prompts give to several of a thing, benchmarks' own misspellings included."""
    *before, last = noun.split()
    forms = [f"{last}s", f"{last}es"]
    if last in _IRREGULAR:
        forms.insert(0, _IRREGULAR[last])
    if last.endswith("y"):
        forms.insert(0, f"{last[:-1]}ies")
    return tuple(" ".join([*before, form]) for form in forms)


def occurring(prompt: str, noun: str, several: bool) -> str | None:
    """The form of a noun that a prompt has, as the prompt spells it; None where it has none."""
    forms = (*plurals(noun), noun) if several else (noun, *plurals(noun))
    for form in forms:
        if names(prompt, form):
            words = r"\s+".join(map(re.escape, form.split()))
            match = re.search(rf"(?<!\w){words}(?!\w)", prompt, re.IGNORECASE)
            assert match is not None  # `names` found it
            return match.group()
    return None


def thing_of(prompt: str, noun: str, colour: str | None = None, count: int = 1) -> Target | None:
    """What a prompt calls a detector's class: the noun in its form, with its colour if it says so.

    None where the prompt does not name it.
    """
    word = occurring(prompt, noun, count > 1)
    if word is None:
        return None
    phrase = f"{colour} {word}" if colour and names(prompt, f"{colour} {word}") else word
    return Target(word, phrase, colour, count, None if word == noun else noun)


def without_article(text: str) -> str:
    """ "an apple" as "apple"."""
    return re.sub(r"^(a|an|the)\s+", "", text.strip(), flags=re.IGNORECASE)


def coloured(text: str) -> Target:
    """A thing from a short phrase such as "a red car": its last word is the noun."""
    phrase = without_article(text).rstrip(".")
    words = phrase.split()
    colour = next((word.lower() for word in words[:-1] if word.lower() in _COLOURS), None)
    noun = phrase[len(words[0]) :].strip() if colour == words[0].lower() else phrase
    return Target(noun, phrase, colour)

"""Explicit markup of subjects: `[red|cat]` marks a noun and its modifiers, in any script."""

from __future__ import annotations

import re

from adhere.errors import PromptError
from adhere.prompt.phrases import UNSPACED, Entity, Span, names_a_word, span_of
from adhere.prompt.syntax import without_syntax

_EXAMPLE = "write [red|cat] and [big, blue|suitcase]; a literal bracket or bar is \\[, \\] or \\|"


HANGUL = re.compile("[\\u1100-\\u11ff\\u3130-\\u318f\\ua960-\\ua97f\\uac00-\\ud7ff\\uffa0-\\uffdc]")
"""Korean, which sets words apart by spaces but joins particles to them."""


def unread_markup(prompt: str) -> str | None:
    """A sentence on markup in a prompt that a pipeline has given to its encoder as it is.

    A modular pipeline gives it all markup, others what does not parse.
    """
    try:
        _, marked = read_markup(prompt)
    except PromptError as error:
        read = bool(_BRACKET.search(without_syntax(prompt)))
        return f"the brackets of the prompt are read as plain text: {error}" if read else None
    return (
        f"the markup {marked[0].phrase.text!r} in the call's prompt is read as plain text, "
        "brackets included; give the call the prompt without it, and the marked one to the "
        "guidance: attach(pipe, prompt=...)"
        if marked
        else None
    )


def unread_brackets(text: str, where: str = "the negative prompt") -> str | None:
    """A sentence on markup in a text where no guide looks for words, such as a negative prompt."""
    try:
        _, marked = read_markup(text)
        around = repr(marked[0].phrase.text) if marked else None
    except PromptError:
        left = _BRACKET.search(without_syntax(text))
        around = repr(left[0]) if left else None
    return around and (
        f"the brackets around {around} in {where} are read as plain text; leave them out, markup "
        "is for the prompt"
    )


_BRACKET = re.compile(r"(?:(?<![:;=-])\[(?=\s*\w)|(?<=\w)\]).{0,19}", re.DOTALL)
"""A bracket at a word, and what follows it; a face, :[ or :], is none."""


def strip_markup(prompt: str) -> str:
    """The prompt as the text encoder is to see it: "[red|cat]" reads "red cat".

    Raises:
        PromptError: the markup does not parse.
    """
    return read_markup(prompt)[0]


def read_markup(prompt: str) -> tuple[str, tuple[Entity, ...]]:
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
    if not names_a_word(noun):
        raise _markup_error(prompt, at, f"'[{inner}]' has no noun")
    if bar and not names_a_word(left):
        raise _markup_error(
            prompt, at, f"'[{inner}]' has a bar but no modifier; write '[{noun}]' for a bare noun"
        )
    plain = left + _between(left, noun) + noun
    start = offset + len(plain) - len(noun)
    # A comma lets a modifier have several words: "[polka dot, red|dress]".
    parts = re.finditer(r"[^,\s][^,]*[^,\s]|[^,\s]" if "," in left else r"\S+", left)
    modifiers = tuple(Span(offset + part.start(), offset + part.end(), "") for part in parts)
    return plain, Entity(
        Span(start, start + len(noun), ""), modifiers, Span(offset, offset + len(plain), "")
    )


def _between(left: str, noun: str) -> str:
    """What stands between a modifier and its noun: nothing where the script has no spaces."""
    edges = left[-1:] + noun[:1]
    solid = len(edges) == 2 and all(map(UNSPACED.match, edges))
    return "" if not left or (solid and not any(map(HANGUL.match, edges))) else " "


def _cut(text: str, entity: Entity) -> Entity:
    def fill(span: Span) -> Span:
        return span_of(text, span.start, span.end)

    return Entity(
        fill(entity.noun),
        tuple(fill(modifier) for modifier in entity.modifiers),
        fill(entity.phrase),
    )


def _markup_error(prompt: str, at: int, problem: str) -> PromptError:
    return PromptError(
        f"markup in the prompt does not parse: {problem} (at {prompt[at : at + 20]!r}); {_EXAMPLE}"
    )

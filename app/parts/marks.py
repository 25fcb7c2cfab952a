"""The words of a prompt with their roles, as a person sees and corrects them by clicking.

A prompt becomes pieces `(text, role)`: one for every word and one for what stands between. A role
is `subject 1` or `describes 1`: subjects are numbered, and what describes a subject has its number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from adhere.prompt.parser import Parse, parse
from adhere.prompt.phrases import Span

Piece = tuple[str, str | None]

SUBJECT, DESCRIBES = "subject", "describes"
_PIECES = re.compile(r"\w+(?:[-'’]\w+)*|\s+|[^\w\s]+")
_CYCLE: dict[str | None, str | None] = {None: SUBJECT, SUBJECT: DESCRIBES, DESCRIBES: None}
_HUES = ("#0f766e", "#b45309", "#6d28d9", "#be123c", "#1d4ed8", "#4d7c0f")
_PALE = ("#5eada6", "#dba05b", "#a58be0", "#e07d93", "#7f9fe8", "#9dbb6b")


def colours() -> dict[str, str]:
    """A colour for each role: one hue for a subject, its paler kin for what describes it."""
    shades = {f"{SUBJECT} {k + 1}": hue for k, hue in enumerate(_HUES)}
    return shades | {f"{DESCRIBES} {k + 1}": hue for k, hue in enumerate(_PALE)}


def read(prompt: str) -> list[Piece]:
    """The prompt's words with the roles the parser (or the prompt's own markup) gives them."""
    return label(parse(prompt))


def label(parsed: Parse) -> list[Piece]:
    """A parse as pieces."""
    roles: list[tuple[Span, str]] = []
    for number, entity in enumerate(parsed.entities, 1):
        roles.append((entity.noun, f"{SUBJECT} {number}"))
        roles.extend((span, f"{DESCRIBES} {number}") for span in entity.modifiers)
    pieces: list[Piece] = []
    for match in _PIECES.finditer(parsed.text):
        inside = (
            role
            for span, role in roles
            if span.start <= match.start() and match.end() <= span.end and match.group().strip()
        )
        pieces.append((match.group(), next(inside, None)))
    return pieces


def click(pieces: Sequence[Piece], index: int) -> list[Piece]:
    """The pieces after a click on one: nothing, subject, describes, nothing again."""
    if not 0 <= index < len(pieces) or not re.match(r"\w", pieces[index][0]):
        return list(pieces)
    kinds = [_kind(role) for _, role in pieces]
    kinds[index] = _CYCLE[kinds[index]]
    return _number([text for text, _ in pieces], kinds)


def markup(prompt: str, pieces: Sequence[Piece] | None) -> str:
    """The prompt for the model: as typed when the parser agrees, with markup when it was corrected.

    Pieces that do not belong to this prompt (typed on since) are left aside.
    """
    if not pieces:
        return prompt
    parsed = parse(prompt)
    if "".join(text for text, _ in pieces) != parsed.text or list(pieces) == label(parsed):
        return prompt
    return _write(pieces)


def loose(pieces: Sequence[Piece]) -> list[str]:
    """Words marked as describing that stand before no subject, so that nothing can use them."""
    groups = _groups(pieces)
    used = {index for group in groups for index in group[0]}
    return [
        text
        for index, (text, role) in enumerate(pieces)
        if _kind(role) == DESCRIBES and index not in used
    ]


def _kind(role: str | None) -> str | None:
    return role.split()[0] if role else None


def _groups(pieces: Sequence[Piece]) -> list[tuple[list[int], list[int]]]:
    """Each subject as (indices of what describes it right before it, indices of its own words)."""
    groups: list[tuple[list[int], list[int]]] = []
    before: list[int] = []
    noun: list[int] = []
    for index, (text, role) in enumerate([*pieces, (".", None)]):
        kind = _kind(role)
        if not text.strip() or (text == "," and before and not noun):
            continue
        if kind == SUBJECT:
            noun.append(index)
            continue
        if noun:
            groups.append((before, noun))
            before, noun = [], []
        before = [*before, index] if kind == DESCRIBES else []
    return groups


def _number(texts: Sequence[str], kinds: Sequence[str | None]) -> list[Piece]:
    plain: list[Piece] = [(text, kind) for text, kind in zip(texts, kinds, strict=True)]
    numbered: list[Piece] = list(plain)
    for number, (before, noun) in enumerate(_groups(plain), 1):
        for index in before:
            numbered[index] = (texts[index], f"{DESCRIBES} {number}")
        for index in noun:
            numbered[index] = (texts[index], f"{SUBJECT} {number}")
    return numbered


def _write(pieces: Sequence[Piece]) -> str:
    opened = {group[0][0] if group[0] else group[1][0]: group for group in _groups(pieces)}
    written, index = "", 0
    while index < len(pieces):
        if index in opened:
            before, noun = opened[index]
            words = " ".join(_escape(pieces[k][0]) for k in before)
            name = " ".join(_escape(pieces[k][0]) for k in noun)
            written += f"[{words}|{name}]" if words else f"[{name}]"
            index = noun[-1] + 1
        else:
            written += _escape(pieces[index][0])
            index += 1
    return written


def _escape(text: str) -> str:
    return re.sub(r"([\[\]|])", r"\\\1", text)

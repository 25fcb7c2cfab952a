"""Words of places that change no layout, so that they can be said and are not passed over."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NEVER = re.compile(
    r"\b(?:(?:just |right |directly )?behind|(?:right |directly )?in front of"
    r"|in the (?:far |distant )?(?:back(?:ground)?|front|foreground|distance)"
    r"|opposite|facing|against|alongside of|across(?: from)?|(?:all )?around|outside|past|through"
    r"|diagonal(?:ly)?|in an? (?:circle|ring|triangle|semicircle|pyramid|diagonal)"
    r"|(?:north|south|east|west)(?:-?(?:east|west))? of|(?:higher|lower|further|closer) than"
    r"|(?:one|the other) side of"
    r"|(?:at|on|in|by|near) the (?:foot|edge|edges|end|rear|base) of|(?:at|in) the back of)\b",
    re.IGNORECASE,
)
"""Places that no box in a flat picture has, or that no rule reads."""
_SIDE = r"(?:left|right|top|bottom|upper|lower|middle|cent(?:re|er))"
_UNREAD = re.compile(
    r"(?:\b(?:on|at|in|to|from|near) (?:the |its |his |her |their )?)?"
    rf"\b(?:{_SIDE}|corners?|above|below|beneath|under|underneath|over|between"
    r"|(?:either|each|both) sides?|(?:sides?|back)(?= of\b))\b"
    rf"(?:[\s-]+(?:{_SIDE}|hand|side|half|corners?|edge))*(?: of\b)?",
    re.IGNORECASE,
)
"""Words of places, where nothing was read from what they stand in."""
_ONE_EACH = re.compile(
    r"\bone (?:is )?on the left(?: side)?(?:,| and|, and) (?:one|another|the other) (?:is )?on the "
    r"right\b",
    re.IGNORECASE,
)
"""What two of a kind, and two in a row of words, stand like anyway."""
_QUOTED = re.compile('"[^"]*"|\u201c[^\u201d]*\u201d')
_WRITING = re.compile(
    r"\b(?:say(?:s|ing)?|read(?:s|ing)?|words?|text|letters|letter(?:ing)?|written|writ(?:es|ing)|"
    r"titled?|caption(?:ed)?|labell?ed|label|called|named|spell(?:s|ing)|sign|signs|logo|slogan|"
    r"phrase|inscription|inscribed|message|with|that)[\s:,]*$",
    re.IGNORECASE,
)
"""Before writing in the picture. Elsewhere, what is in quotation marks may be meant as things."""
_LONGEST = 40
"""Characters that words before writing have at the most."""


def unread(text: str, gaps: Sequence[str]) -> tuple[str, ...]:
    """The words of places in a prompt that change nothing, as they stand, each once.

    Args:
        text: the prompt without markup.
        gaps: what stands between its things where nothing was read from it.
    """
    quoted = [found for found in _QUOTED.finditer(text) if not _writing(text, found)]
    bare = _QUOTED.sub(" ", text)
    found = [one[0] for one in _NEVER.finditer(bare)]
    for gap in gaps:
        rest = _NEVER.sub(" ", _ONE_EACH.sub(" ", _QUOTED.sub(" ", gap)))
        found += [one[0] for one in _UNREAD.finditer(rest)]
    words = [" ".join(one.split()) for one in (*found, *(one[0] for one in quoted))]
    return tuple(dict.fromkeys(words))


def of_a_place(between: str) -> bool:
    """Whether what stands before a thing ends with words of a place that it is the holder of, and
    which no rule reads: "north of a", "at the foot of the".
    """
    bare = re.sub(r"\s(?:an?|the|its|his|her|their) $", "", between)
    words = (one for pattern in (_NEVER, _UNREAD) for one in pattern.finditer(bare))
    return bare.endswith(" of") and any(one.end() == len(bare) for one in words)


def _writing(text: str, found: re.Match[str]) -> bool:
    """Whether quotation marks hold what is written in the picture."""
    before = text[max(0, found.start() - _LONGEST) : found.start()]
    return bool(_WRITING.search(before)) or not re.search(r"\w", found[0])

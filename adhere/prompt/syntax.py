"""What other programs read as syntax in a prompt, and a pipeline's text encoder as plain text.

Words and symbols are ambiguous ("cat+" is a weight, "LGBTQ+" a name): what English writes is let
through, and the sentence on the rest says what is read, so that no weight is lost in silence.
"""

from __future__ import annotations

import re

from adhere.prompt.phrases import UNSPACED

_NUMBER = r"[+-]?(?:\d\d?(?:[.,]\d*)?|[.,]\d+)(?![\w.,]*\w)"
"""The number of a weight. Three digits and more are a year or a film's speed; letters a unit."""

_WORD = rf"(?:\b[^\W\d]\w+|{UNSPACED.pattern})"
"""The last word that a weight without brackets is joined to."""

_MEASURED = (
    r"(?<!\w)(?!(?i:aspect|ratio|size|height|width|length|depth|distance|lens|focal|aperture|zoom"
    r"|scale|speed|temperature|version|ph|ev|gamma|exposure|score|rating|rate|price|cost):)"
)
"""Not before a number that is the thing's own ("aspect:1.85")."""

_NAMED = r"(?<!\w)(?!(?i:2?s?lgbt\w*|disney|paramount|discovery|google|espn|notepad)\+)"
"""Not before a plus that belongs to a name."""

_WEIGHTED = (  # of web UIs and ComfyUI
    rf"[(（][^()（）\[\]:：]*[^\W\d][^()（）\[\]:：\d]*[:：]\s*{_NUMBER}\s*[)）]",
    rf"[)\]]\s*:\s*{_NUMBER}\s*\)",
    # A share of everything ("cotton:100%") is no weight; "((c) 2020)" closes all that it opens.
    r"\([^():]*[^\W\d][^():\d]*:(?!100%)\d{2,3}%\)",
    r"\(\(+[^()]*[^\W\d][^()]*\)(?=[^()]*$)",
    r"\(\(+[^()]+\)\)+|\[\[+[^\[\]]+\]\]+|\{+[^{}\":]+\}+",
    r"<(?:lora|lyco|hypernet):[^<>]+>|\bembedding:\w+|(?<!\w)__[a-z][\w/*-]*__(?!\w)",
    # What is left of [cat:dog:0.5] and [cat:0.5] without their brackets, and "cat:1.3", "cat::2"
    rf"\b[^\W\d][\w ]*:[^\W\d][\w ]*:{_NUMBER}",
    rf"{_MEASURED}{_WORD}:(?=\d*\.\d){_NUMBER}|{_WORD}::{_NUMBER}",
    # In capitals among others, they are lettering: "a sign TAKE A BREAK".
    r"(?<=[a-z.,)]\s)AND(?=\s)|(?<![A-Z] )(?<![\w\"'“-])BREAK(?![\w\"'”-])(?! [A-Z]{2})",
)
_COMPEL = (  # cat++, cat-, (red cat)-, (red cat)1.3, ("a cat", "a dog").blend(1, 2), cat.swap(dog)
    rf"{_NAMED}[a-z]{{2,}}\+(?![\w+])|{_NAMED}(?:\w{{2,}}|{UNSPACED.pattern})\+\++(?!\w)",
    rf"(?:[^\W\d]{{2,}}|{UNSPACED.pattern})--+(?=[\s,.]|$)",
    # One alone may leave out what a later word has: "pre- and post-war houses".
    r"\b[^\W\d]{2,}-(?=[.;]?$|,(?!.*\w-)| (?!(?:and|or|to|nor|through|versus|vs)\b)"
    r"| (?:and|or) (?:an?|the|two|some)\b)",
    r"(?<!\w)\([^()]*[^\W\d][^()]*\)(?:\++|-+|\^?\d*\.\d+|\d(?![\w.,-]))(?![\w(])",
    r"(?<=\))\.(?:blend|and)\(|\.swap\(",
)
_MIDJOURNEY = (
    r"(?<=\s)--(?:ar|aspect|chaos|cref|hd|iw|no|niji|quality|q|raw|repeat|seed|sref|stop|style"
    r"|stylize|s|test|tile|version|video|v|weird|w)(?=\s|$)",
)
_SYNTAX = re.compile("|".join((*_WEIGHTED, *_COMPEL, *_MIDJOURNEY)))


def unread_weight(text: str) -> str | None:
    """A sentence on a weight, or other programs' syntax, in a text that a pipeline encodes."""
    found = dict.fromkeys(repr(match.group()) for match in _SYNTAX.finditer(text))
    if not found:
        return None
    named = f"{', '.join([*found][:5])} {'has' if len(found) == 1 else 'have'} no effect"
    return (
        f"{named} as a weight or other syntax, read as plain text; take it out, or give "
        "prompt_embeds made with compel, and their text without it as prompt=..."
    )


def without_syntax(text: str) -> str:
    """A text without what `unread_weight` names."""
    return _SYNTAX.sub(" ", text)

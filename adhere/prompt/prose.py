"""A prompt as words with their kinds, and which of them are about the picture and not in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from adhere.prompt import lexicon

__all__ = ["Word", "about_the_picture", "words_of"]

_TOKEN = re.compile(r"\w+(?:[-'’./]\w+)*|[^\w\s]")
_POSSESSIVE = re.compile(r"^(.+?)(['’]s)$")
_SPEAKS = {"it", "he", "she", "that", "there", "here", "what", "who"}  # "that's" is "that is"


@dataclass(frozen=True)
class Word:
    """One word of the prompt (or a phrase read as one) with its kind; offsets are characters."""

    text: str
    start: int
    end: int
    kind: str

    @property
    def low(self) -> str:
        return self.text.lower()


def words_of(prompt: str) -> list[Word]:
    """The words of a prompt with their kinds; listed phrases count as one word."""
    raw: list[tuple[str, int, int, str]] = []
    for match in _TOKEN.finditer(prompt):
        text, start = match.group(), match.start()
        possessive = _POSSESSIVE.match(text)
        if possessive:
            owner, mark = possessive.groups()
            kind = "cop" if owner.lower() in _SPEAKS else "poss"
            raw.append((owner, start, start + len(owner), ""))
            raw.append((mark, start + len(owner), match.end(), kind))
        elif text in "'’" and raw and raw[-1][0].endswith("s") and raw[-1][2] == start:
            raw.append((text, start, match.end(), "poss"))
        else:
            raw.append((text, start, match.end(), ""))
    return _compared(_named(_merge(prompt, raw)))


def _named(words: list[Word]) -> list[Word]:
    """Reads capitalised words side by side as a name, unless most of the prompt is capitalised."""
    capital = [word.text[:1].isupper() for word in words]
    if sum(capital) * 2 > len(words):
        return words
    pairs = {i for i in range(1, len(words)) if capital[i - 1] and capital[i]}
    names = {
        i
        for i in pairs | {i - 1 for i in pairs}
        if words[i].kind in {"adj", "either"}
        and words[i].low not in lexicon.COLOURS
        # The first word of a sentence is capitalised in any case.
        and (i or words[i].low not in lexicon.WORDS)
    }
    return [replace(word, kind="noun") if i in names else word for i, word in enumerate(words)]


def _compared(words: list[Word]) -> list[Word]:
    """Makes adjectives of comparatives: "faster than"."""
    return [
        replace(word, kind="adj") if word.low.endswith("er") and following.low == "than" else word
        for word, following in zip(words, [*words[1:], *words[:1]], strict=True)
    ]


def _unquote(words: list[Word]) -> set[int]:
    """Indices of words between double quotes: lettering in the picture, not things."""
    marks = [i for i, word in enumerate(words) if word.text in {'"', "“", "”"}]
    return {
        i
        for first, last in zip(marks[::2], marks[1::2], strict=False)
        for i in range(first, last + 1)
    }


def _merge(prompt: str, raw: list[tuple[str, int, int, str]]) -> list[Word]:
    """Joins listed phrases into one word each, the longest first."""
    low = [text.lower() for text, *_ in raw]
    words: list[Word] = []
    i = 0
    while i < len(raw):
        for length in range(min(6, len(raw) - i), 1, -1):
            kind = lexicon.MULTIWORD.get(tuple(low[i : i + length]))
            if kind:
                start, end = raw[i][1], raw[i + length - 1][2]
                words.append(Word(prompt[start:end], start, end, kind))
                i += length
                break
        else:
            text, start, end, kind = raw[i]
            words.append(Word(text, start, end, kind or lexicon.kind_of(low[i])))
            i += 1
    return words


# ---- What is about the picture and not in it ---------------------------------


def about_the_picture(words: list[Word]) -> set[int]:
    """Indices of words that say how the picture is made: lead-ins, style tails, "by X"."""
    skip = set(range(_lead_in(words)))
    skip |= _named_styles(words) | _unquote(words)
    for first, last in _segments(words):
        segment = [i for i in range(first, last) if i not in skip]
        if segment and _is_style([words[i] for i in segment], opens=first == 0):
            skip |= set(segment)
    return skip


def _lead_in(words: list[Word]) -> int:
    """How many words at the start frame the picture: "a black and white photo of"."""
    taken = 0
    for i, word in enumerate(words[:-1]):
        if i - taken > 9 or (
            word.kind in {"prep", "cop", "stop", "comma", "rel"} and word.low != "is"
        ):
            break
        link = words[i + 1].low
        if word.low in lexicon.LEAD_INS and link in lexicon.LEAD_LINKS:
            if link in {"with", "containing"} and word.low not in lexicon.LEAD_WITH:
                break
            taken = i + 2
            return taken + _lead_in(words[taken:])  # "a photo of a painting of a cat"
    return taken


def _named_styles(words: list[Word]) -> set[int]:
    skip: set[int] = set()
    for i, word in enumerate(words):
        following = words[i + 1] if i + 1 < len(words) else None
        opens = i == 0 or words[i - 1].kind in {"comma", "stop"}
        by_name = (
            word.low == "by"
            and following is not None
            and following.kind not in {"det", "num", "ing"}
            and (opens or following.text[:1].isupper())
        )
        in_style = word.low == "in" and any(
            w.low in {"style", "aesthetic"} for w in _rest(words, i)
        )
        if by_name or in_style or word.low in {"in the style of", "in style of"}:
            skip |= set(range(i, i + 1 + len(_rest(words, i))))
    return skip


def _rest(words: list[Word], i: int) -> list[Word]:
    """The words after `i` up to the next comma or stop."""
    end = next(
        (j for j in range(i + 1, len(words)) if words[j].kind in {"comma", "stop"}), len(words)
    )
    return words[i + 1 : end]


def _segments(words: list[Word]) -> list[tuple[int, int]]:
    cuts = [i for i, word in enumerate(words) if word.kind in {"comma", "stop"}]
    return list(zip([0, *(cut + 1 for cut in cuts)], [*cuts, len(words)], strict=True))


def _is_style(segment: list[Word], opens: bool) -> bool:
    parts = [part for word in segment for part in word.low.split()]
    if all(part in lexicon.STYLE_WORDS for part in parts):
        # A lone "light" in a list may well be the subject; a keyword settles it.
        return bool(lexicon.STYLE_KEYS & set(parts)) or (
            not opens and segment[-1].kind in {"adj", "either"}
        )
    plain = not any(word.kind in {"det", "num", "cop", "rel", "prep"} for word in segment)
    return not opens and plain and bool(lexicon.STYLE_KEYS & set(parts))

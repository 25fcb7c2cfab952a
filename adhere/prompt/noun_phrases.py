"""Where a noun phrase ends and which of its words is what: "three small spotted dogs"."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from adhere.prompt import lexicon
from adhere.prompt.prose import Word

MODIFIER_KINDS = {"adj", "either", "ed", "ing"}
_SPEAKS_OF_MANY = {
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "both",
    "several",
}


@dataclass
class NounPhrase:
    """A noun and what modifies it; `noun` and each modifier are word indices (first, last + 1)."""

    noun: tuple[int, int]
    modifiers: list[tuple[int, int]]
    start: int
    many: bool


class Kinds(list[str]):
    """What each word may be, by the lexicon and by endings; stops follow the last word.

    Where runs of some kinds end is found once for all words: a phrase asks for it at every word of
    a run, and a prompt may be one long run.
    """

    def __init__(self, kinds: Iterable[str]) -> None:
        super().__init__([*kinds, *["stop"] * 3])
        self._modifying = self._ends({"adj", "ed", "ing", "degree"})
        self._joining = self._ends({"conj", "degree", "adv"})
        self._listing = self._ends(MODIFIER_KINDS | {"conj", "comma", "degree", "adv"})

    def _ends(self, within: Set[str]) -> list[int]:
        """For each word the first from it on that is of none of some kinds."""
        ends = list(range(len(self)))
        for i in reversed(range(len(self) - 1)):
            if self[i] in within:
                ends[i] = ends[i + 1]
        return ends

    def leads_to_noun(self, i: int) -> bool:
        """Whether modifiers from here run straight into a noun."""
        return self[self._modifying[i + 1]] in {"noun", "either", "bare"}

    def joins_modifiers(self, i: int) -> bool:
        """Whether "and" or a comma stands before modifiers that run into a noun."""
        first = self._joining[i + 1]
        if self[first] not in MODIFIER_KINDS:
            return False
        after = self._listing[first]
        return self[after] in {"noun", "bare"} or (
            self[after - 1] == "either" and after - 1 > i + 1
        )


def noun_phrase(
    words: Sequence[Word], kinds: Kinds, start: int, several: bool
) -> tuple[NounPhrase, int] | None:
    """The noun phrase at a word, and the index after it; None where there is none.

    Args:
        words: the prompt's.
        kinds: theirs.
        start: where it would begin.
        several: whether nouns stand before that the same deed may belong to.
    """
    return _Attempt(words, kinds, start, several).read()


class _Attempt:
    """One try at a noun phrase: the words so far, each with what it does there.

    A word is "mod", "noun", "skip" (of no weight), or "": the phrase has ended before it.
    """

    def __init__(self, words: Sequence[Word], kinds: Kinds, start: int, several: bool) -> None:
        self.words, self.kinds, self.start, self.several = words, kinds, start, several
        self.items: list[tuple[int, str]] = []
        self._has_noun = False
        self.many = False
        self.first = start
        while kinds[self.first] in {"det", "num"}:
            self.many = self.many or words[self.first].low in _SPEAKS_OF_MANY
            self.first += 1
        self.determined = self.first > start

    def read(self) -> tuple[NounPhrase, int] | None:
        for i in range(self.first, len(self.words)):
            role = self._role(i)
            if not role:
                break
            if role != "skip":
                self.items.append((i, role))
                self._has_noun |= role == "noun"
        return self._built()

    @property
    def _begun(self) -> bool:
        return self.determined or bool(self.items)

    def _role(self, i: int) -> str:
        kind = self.kinds[i]
        if kind == "noun":
            return self._role_of_noun(i)
        if kind in {"degree", "adv"}:
            return self._role_of_adverb(i)
        if kind in {"conj", "comma"}:
            joins = not self._has_noun and self.items and self._joins_modifiers(i)
            return "skip" if joins else ""
        if kind in {"adj", "either"}:
            return self._role_of_adjective(i)
        if kind in {"ed", "ing"}:
            return self._role_of_participle(i)
        if kind == "verb" or self.words[i].low == "can":
            return "noun" if self._begun and not self._has_noun else ""
        if kind == "bare":
            return "" if (self._has_noun and self._acts(i)) or not self._begun else "noun"
        return ""

    def _role_of_noun(self, i: int) -> str:
        # "a train crossing a bridge", against "a railway crossing"
        deed = self.words[i].low in lexicon.OBJECT_TAKERS and self.kinds[i + 1] == "det"
        return (
            "" if deed and (self._has_noun or self.kinds[i - 1] in {"noun", "either"}) else "noun"
        )

    def _role_of_adverb(self, i: int) -> str:
        if self._has_noun:
            return ""
        if self.kinds[i + 1] in MODIFIER_KINDS | {"degree"}:
            return "skip"
        # "a prickly pear": an ending in -ly does not make an adverb of what stands at a noun.
        guessed = self.words[i].low not in lexicon.WORDS
        return "mod" if self._begun and guessed and self.kinds[i + 1] == "noun" else ""

    def _role_of_adjective(self, i: int) -> str:
        if not self._has_noun:
            return "mod"
        word = self.words[i].low
        if self.kinds[i] == "either" and word not in lexicon.EITHER_COLOURS:
            return "noun"
        # "a cyberpunkish blue cat": an unknown word in front of an adjective is a modifier too.
        unknown = len(self.items) == 1 and self.words[self.items[0][0]].low not in lexicon.WORDS
        if unknown and self.kinds.leads_to_noun(i) and word not in lexicon.POSTPOSED:
            self.items[0] = (self.items[0][0], "mod")
            self._has_noun = False
            return "mod"
        return ""

    def _role_of_participle(self, i: int) -> str:
        word, follows = self.words[i].low, self.kinds.leads_to_noun(i)
        if self._has_noun:
            # "a snow covered mountain", against "a dog chased by"
            return "mod" if word in {"covered", "shaped", "filled", "lined"} and follows else ""
        if self._begun:
            # "a pirate holding a sword": what may be a noun is one when a deed follows.
            ended = self.items and self.kinds[self.items[-1][0]] == "either" and not follows
            return "" if ended else "mod"
        previous = self.kinds[self.start - 1] if self.start else "stop"
        opens = previous not in {"noun", "cop", "either", "adv"}
        return "mod" if follows and opens and word not in lexicon.OBJECT_TAKERS else ""

    def _joins_modifiers(self, i: int) -> bool:
        """Whether "and" or a comma stands between two modifiers of a noun that is still to come."""
        behind = self.kinds[self.start - 1] == "prep" if self.start else False
        if self.kinds[i] == "comma" and not self.determined and behind:
            return False  # "a girl in white, red background"
        return self.kinds.joins_modifiers(i)

    def _acts(self, i: int) -> bool:
        """Whether a plain verb is a deed ("two dogs play in"), not in a compound ("park bench")."""
        several = _is_plural(self.words[self.items[-1][0]].low) or self.several
        return several and self.kinds[i + 1] not in {"noun", "verb", "bare", "cop", "poss"}

    def _built(self) -> tuple[NounPhrase, int] | None:
        items = self.items
        if not items:
            return None
        if not self._has_noun:
            last, kind = items[-1][0], self.kinds[items[-1][0]]
            if kind != "either" and not (kind in {"ed", "ing"} and self.determined):
                return None
            items[-1] = (last, "noun")
        while items[-1][1] != "noun":
            items.pop()
        end = items[-1][0] + 1
        first = len(items) - 1
        while first and items[first - 1] == (items[first][0] - 1, "noun"):
            first -= 1
        modifiers = [(i, i + 1) for i, _ in items[:first]]
        many = self.many or _is_plural(self.words[end - 1].low)
        return NounPhrase((items[first][0], end), modifiers, min(items[0][0], end - 1), many), end


def _is_plural(word: str) -> bool:
    return word in lexicon.PLURALS or (word.endswith("s") and not word.endswith(("ss", "us", "is")))

"""The built-in prompt parser: word lists, endings and one left-to-right scan, no model.

Prompts are coordinated noun phrases with modifiers in front ("a red cat and a striped blue
bowl"), tied by prepositions and participles, and now and then a clause ("the car is red", "a dog
that is brown"). The scan reads noun phrases where it can, and keeps for every clause the noun
that a following "is" would speak of. Where English leaves a choice open it takes the commoner
reading and says so in `Reading.uncertain`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from adhere.prompt import lexicon
from adhere.prompt.noun_phrases import Kinds, NounPhrase, noun_phrase
from adhere.prompt.prose import Word, about_the_picture, words_of

__all__ = ["NounPhrase", "Reading", "read"]


@dataclass
class Reading:
    """What the scan found: the words, the noun phrases in order, and what it was unsure of."""

    words: list[Word]
    phrases: list[NounPhrase] = field(default_factory=list)
    uncertain: list[str] = field(default_factory=list)


def read(prompt: str) -> Reading:
    """Reads a prompt that holds no markup."""
    words = words_of(prompt)
    scan = _Scan(words, about_the_picture(words))
    scan.run()
    return scan.reading


class _Scan:
    """One pass over the words. `heads` are the nouns that a coming "is" or "are" may speak of."""

    def __init__(self, words: list[Word], skip: set[int]) -> None:
        self.reading = Reading(words)
        self.words = words
        # A style word ends whatever stands before it.
        self.kinds = Kinds("stop" if i in skip else word.kind for i, word in enumerate(words))
        self.heads: list[int] = []
        self.earlier: list[int] = []
        self.open = True  # the next noun phrase may head a clause
        self.fresh = True  # ... and then starts a new group of heads
        self.spoken_of: int | None = None  # the noun a relative pronoun stands for
        self.carried: list[tuple[int, int]] = []

    def run(self) -> None:
        i = 0
        while i < len(self.words):
            found = self._noun_phrase(i)
            i = self._accept(*found) if found else self._other(i)

    def _noun_phrase(self, start: int) -> tuple[NounPhrase, int] | None:
        return noun_phrase(self.words, self.kinds, start, several=bool(self.heads))

    # -- what a noun phrase does to the clause

    def _accept(self, found: NounPhrase, end: int) -> int:
        if self._is_time(found):
            return end
        if self._is_measure(found, end):
            sized = [m for m in found.modifiers if self.words[m[0]].low in lexicon.SIZES]
            self.carried += [m for m in found.modifiers if m not in sized]
            return end + 1
        found.modifiers = self.carried + found.modifiers
        self.carried = []
        number = len(self.reading.phrases)
        self.reading.phrases.append(found)
        if found.noun[1] - found.noun[0] > 2:
            phrase = self._text(found.noun)
            self._doubt(f"'{phrase}' was read as the name of one thing")
        if self.kinds[end] == "poss":
            return end + 1  # "the cat's eyes are": the owned thing may head the clause
        if self.open:
            self.earlier = self.heads if self.fresh else self.earlier
            self.heads = [number] if self.fresh else [*self.heads, number]
            self.open = self.fresh = False
        return self._after_noun(number, end)

    def _is_time(self, found: NounPhrase) -> bool:
        """Whether the phrase says when: "on a sunny day"."""
        first = found.start
        while first and self.kinds[first - 1] in {"det", "num"}:
            first -= 1
        noun = self.words[found.noun[1] - 1].low
        return noun in lexicon.TIMES and self._low(first - 1) in {
            "on",
            "in",
            "at",
            "during",
            "after",
        }

    def _is_measure(self, found: NounPhrase, end: int) -> bool:
        if self.words[found.noun[1] - 1].low not in lexicon.MEASURES or self.kinds[end] != "prep":
            return False
        return self.words[end].low == "of" and self._noun_phrase(end + 1) is not None

    def _after_noun(self, number: int, end: int) -> int:
        """Modifiers behind the noun: "a bird, small and yellow", "a wall painted blue"."""
        kind = self.kinds[end]
        low = self.words[end].low if end < len(self.words) else ""
        if kind == "adj" and low in lexicon.POSTPOSED:
            self._attach(number, [end])
            return end + 1
        if low in lexicon.COLOURED or kind == "comma":
            run, after = self._adjectives(end + 1)
            closes = self.kinds[after] in {"comma", "stop", "prep", "verb", "ing", "ed", "cop"}
            if run and closes and (kind != "comma" or self.kinds[run[0]] == "adj"):
                self._attach(number, run)
                if kind == "comma" and self.kinds[after] == "comma":
                    after += 1  # the second comma of a pair separates nothing
                return after
        return end

    def _adjectives(self, i: int) -> tuple[list[int], int]:
        """Coordinated adjectives from a word on that run into no noun, and the index after them."""
        found: list[int] = []
        end = j = i
        while True:
            while self.kinds[j] in {"degree", "adv"} and self.words[j].low not in {"not", "never"}:
                j += 1
            first = j
            while self.kinds[j] in {"adj", "either"}:
                j += 1
            if j == first or (
                self.kinds[j] in {"noun", "bare", "ed", "ing", "cop", "poss"}
                and not (
                    self.kinds[j] in {"ed", "ing"} and self.kinds[j + 1] not in {"noun", "either"}
                )
            ):
                return found, end
            found += range(first, j)
            end = j
            if self.kinds[j] not in {"conj", "comma"}:
                return found, end
            j += 1
            while self.kinds[j] == "conj":
                j += 1

    # -- the rest of the sentence

    def _other(self, i: int) -> int:
        kind = self.kinds[i]
        if kind == "cop":
            return self._predicate(i)
        if kind == "rel":
            return self._relative(i)
        if kind in {"conj", "comma"}:
            self.open = self.kinds[i + 1] not in {"cop", "verb", "aux", "ing", "bare"} or self.open
        elif kind in {"prep", "verb", "ing", "ed", "aux"}:
            self.open, self.fresh = False, True
        elif kind in {"stop", "whose"} or self._low(i) in lexicon.CLAUSE_OPENERS:
            self.open = self.fresh = True
            self.spoken_of = None
        elif kind == "pron":
            self._pronoun(i)
        elif kind == "adj":
            self._loose(i)
        return i + 1

    def _relative(self, i: int) -> int:
        if not self.reading.phrases:
            return i + 1
        following = next((k for k in self.kinds[i + 1 :] if k != "adv"), "stop")
        if following == "cop":
            self.spoken_of = len(self.reading.phrases) - 1
        else:
            self.open = False
        return i + 1

    def _pronoun(self, i: int) -> None:
        word = self.words[i].low
        if (
            word in {"it", "they", "he", "she", "it's"}
            and self.heads
            and self.kinds[i + 1] == "cop"
        ):
            self._doubt(
                f"'{self.words[i].text}' was taken to stand for '{self._name(self.heads[0])}'"
            )
        elif self.kinds[i + 1] == "cop":
            self.heads, self.earlier = [], []

    def _loose(self, i: int) -> None:
        """An adjective that no noun took."""
        twins = self.kinds[i + 1] == "conj" and self.kinds[i + 2] in {"det", "num"}
        if twins and self._noun_phrase(i + 2):
            self.carried.append((i, i + 1))
            self._doubt(
                f"'{self.words[i].text}' was given to the noun that follows; "
                "write it out if there are two things"
            )
        elif not (i and self.kinds[i - 1] == "noun" and self._is_state(i)):
            self._doubt(f"'{self.words[i].text}' was not tied to any noun")

    def _is_state(self, i: int) -> bool:
        """Whether an adjective says how the thing before it stands: "parked beside", "full of"."""
        word = self._low(i)
        return word.endswith(("ed", "ing")) or word in {"full", "close", "far", "high"}

    def _predicate(self, i: int) -> int:
        """A copula and what it says: "is red and shiny", "are painted blue"."""
        targets = self._targets(i)
        j = i + 1
        while self.kinds[j] in {"cop", "adv", "degree"} and self._low(j) not in {"not", "never"}:
            j += 1
        if self._low(j) in {"not", "never"} or self._low(i).endswith("n't"):
            self._doubt("a negation was passed over: guidance can bind words but not deny them")
            j = self._adjectives(j + 1)[1]
        elif self._low(j) in lexicon.COLOURED and self._adjectives(j + 1)[0]:
            j = self._say(targets, *self._adjectives(j + 1))
        elif (
            self.kinds[j] == "ed"
            and self.kinds[j + 1] != "prep"
            and not self.kinds.leads_to_noun(j)
        ):
            j = self._say(targets, [j], j + 1)
        else:
            run, end = self._adjectives(j)
            j = self._say(targets, run, end) if run else j
        self.spoken_of = None
        # "there is a cat": what follows heads the clause
        self.open, self.fresh = i > 0 and self.kinds[i - 1] == "pron", True
        return max(j, i + 1)

    def _say(self, targets: list[int], run: list[int], end: int) -> int:
        for target in targets:
            self._attach(target, run)
        if run and not targets:
            self._doubt(f"'{self.words[run[0]].text}' was not tied to any noun")
        return end

    def _targets(self, i: int) -> list[int]:
        """The noun phrases a copula speaks of."""
        phrases, word = self.reading.phrases, self._low(i)
        many = word in lexicon.COPULAS_PLURAL
        single = word in lexicon.COPULAS_SINGULAR
        if self.spoken_of is not None:
            return [self._antecedent(self.spoken_of, many, single)]
        if not self.heads or self.kinds[i - 1] == "num":  # "two cats; one is black"
            return []
        if many and not any(phrases[h].many for h in self.heads):
            if len(self.heads) == 1 and self.earlier:
                self._doubt(f"'{word}' was taken to speak of '{self._name(self.earlier[-1])}' too")
                return [*self.earlier, *self.heads]
            return list(self.heads)
        if many and len(self.heads) > 1:
            return list(self.heads)
        return [self.heads[-1]]

    def _antecedent(self, nearest: int, many: bool, single: bool) -> int:
        """What "that is" speaks of: the nearest noun, unless the number says it is the head."""
        phrases = self.reading.phrases
        others = [h for h in self.heads if h != nearest]
        if not others or nearest in self.heads:
            return nearest
        disagrees = (many and not phrases[nearest].many) or (single and phrases[nearest].many)
        if disagrees and phrases[others[-1]].many == many:
            return others[-1]
        self._doubt(
            f"'that' was taken to stand for '{self._name(nearest)}', not '{self._name(others[-1])}'"
        )
        return nearest

    def _attach(self, number: int, run: list[int]) -> None:
        self.reading.phrases[number].modifiers += [(i, i + 1) for i in run]

    def _low(self, i: int) -> str:
        return self.words[i].low if i < len(self.words) else ""

    def _text(self, span: tuple[int, int]) -> str:
        return " ".join(word.text for word in self.words[span[0] : span[1]])

    def _name(self, number: int) -> str:
        return self._text(self.reading.phrases[number].noun)

    def _doubt(self, sentence: str) -> None:
        if sentence not in self.reading.uncertain:
            self.reading.uncertain.append(sentence)

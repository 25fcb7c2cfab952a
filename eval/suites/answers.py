"""When two answers to a question are the same."""

from __future__ import annotations

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def alike(one: str, other: str) -> bool:
    """Whether two answers are the same words; a number in words is the same as in digits."""
    return plain(one) == plain(other)


def plain(text: str) -> str:
    """The words of an answer in lower case, without articles and marks, numbers in digits."""
    kept = "".join(letter if letter.isalnum() else " " for letter in text.lower())
    words = (word for word in kept.split() if word not in ("a", "an", "the"))
    return " ".join(str(NUMBERS.index(word)) if word in NUMBERS else word for word in words)

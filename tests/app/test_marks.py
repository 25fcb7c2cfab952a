"""Words with their roles: what a click does, and what the model is given afterwards."""

from __future__ import annotations

import pytest

from adhere.app.parts import marks
from adhere.prompt.parser import parse


def roles(pieces: list[marks.Piece]) -> dict[str, str]:
    return {text: role for text, role in pieces if role}


def index(pieces: list[marks.Piece], word: str) -> int:
    return [text for text, _ in pieces].index(word)


def test_parser_roles() -> None:
    pieces = marks.read("a red cat and a blue car")
    assert "".join(text for text, _ in pieces) == "a red cat and a blue car"
    assert roles(pieces) == {
        "red": "describes 1",
        "cat": "subject 1",
        "blue": "describes 2",
        "car": "subject 2",
    }


def test_untouched_prompt_stays_as_typed() -> None:
    prompt = "a red cat and a blue car"
    assert marks.markup(prompt, marks.read(prompt)) == prompt


def test_click_cycles_through_the_roles() -> None:
    pieces = marks.read("a red cat")
    place = index(pieces, "red")
    seen = []
    for _ in range(3):
        pieces = marks.click(pieces, place)
        seen.append(pieces[place][1])
    assert seen == [None, "subject 1", "describes 1"]


def test_click_on_space_or_outside_changes_nothing() -> None:
    pieces = marks.read("a red cat")
    assert marks.click(pieces, 1) == pieces
    assert marks.click(pieces, 99) == pieces
    assert marks.click(pieces, -1) == pieces


def test_correction_becomes_markup_the_parser_reads_the_same() -> None:
    prompt = "a red cat and a blue car"
    pieces = marks.click(marks.read(prompt), index(marks.read(prompt), "red"))
    written = marks.markup(prompt, pieces)
    assert written == "a red [cat] and a [blue|car]"
    parsed = parse(written)
    assert parsed.text == prompt
    assert [noun.text for noun in parsed.nouns] == ["cat", "car"]
    assert marks.label(parsed) == pieces


def test_neighbouring_subject_words_are_one_noun() -> None:
    prompt = "a frog and a bird"
    pieces = marks.read(prompt)
    pieces = marks.click(pieces, index(pieces, "and"))
    pieces = [(text, None if text == "a" else role) for text, role in pieces]
    assert marks.markup(prompt, pieces) == "a [frog and] a [bird]"


def test_pieces_of_another_prompt_are_left_aside() -> None:
    assert marks.markup("a dog", marks.read("a cat")) == "a dog"
    assert marks.markup("a dog", None) == "a dog"


def test_describing_word_without_a_subject_is_named() -> None:
    pieces = marks.read("a cat sleeps softly")
    pieces = [(text, "describes" if text == "softly" else role) for text, role in pieces]
    assert marks.loose(pieces) == ["softly"]


@pytest.mark.parametrize("prompt", ["", "and of the", "a [red|cat] on a mat", "50% [x] cat | dog"])
def test_odd_prompts_keep_their_text(prompt: str) -> None:
    try:
        plain = parse(prompt).text
    except ValueError:
        return
    assert "".join(text for text, _ in marks.read(prompt)) == plain


def test_brackets_are_escaped_in_corrections() -> None:
    prompt = r"a cat \[left\] and a dog"
    pieces = marks.read(prompt)
    clicked = marks.click(pieces, index(pieces, "dog"))
    assert parse(marks.markup(prompt, clicked)).text == parse(prompt).text

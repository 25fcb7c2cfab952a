"""From words to token columns, with a tokenizer that knows some words and spells out the others."""

from __future__ import annotations

from typing import Any

import pytest

from adhere.errors import ModelError, PromptError
from adhere.prompt.phrases import find
from adhere.prompt.tokens import TokenisedPrompt, columns_of, moved, tokenise
from tests import tiny


def read(prompt: str, *, length: int = 77, drop_padding: bool = False) -> TokenisedPrompt:
    return tokenise(
        tiny.tokenizer(),
        prompt,
        encoder="CLIP",
        length=length,
        width=length,
        drop_padding=drop_padding,
    )


def columns(prompt: str, phrase: str, **options: Any) -> tuple[int, ...]:
    return columns_of(find(prompt, phrase), [read(prompt, **options)]).columns[0]


def spelled(prompt: str, places: tuple[int, ...]) -> list[str]:
    """What the tokenizer itself has at these places."""
    ids = tiny.tokenizer()(prompt).input_ids
    return [tiny.tokenizer().decode([ids[place]]).strip() for place in places]


def test_single_words() -> None:
    prompt = "a red cat and a blue car"
    assert columns(prompt, "cat") == (3,)
    assert columns(prompt, "car") == (7,)
    assert columns(prompt, "red cat") == (2, 3)
    assert read(prompt).content == (1, 2, 3, 4, 5, 6, 7)


def test_the_first_word_that_another_tokenizer_moves_is_named() -> None:
    other = tiny.tokenizer()
    other.add_tokens(["<toy>", "<toy>_1"])

    def moves(prompt: str) -> str | None:
        second = tokenise(other, prompt, encoder="CLIP", length=77, width=77, drop_padding=False)
        return moved(read(prompt), second)

    assert moves("a cat and a zebra!!") is None
    assert moves("a cat and <toy>") == "<toy>"
    other.add_tokens(["!!"])  # encoders that pad with "!" cut it otherwise than the others
    assert moves("a cat!!") is None
    assert moves("a cat !! and a dog") == "and"


def test_what_has_no_token_is_named_once() -> None:
    assert read("a cat and a zebra").unknown == ()
    assert read("a \u732b and a \u732b, a \u72d7").unknown == ("\u732b", "\u72d7")
    assert read("a cat <|endoftext|> a dog").unknown == ()  # which says the same, and is meant


def test_repeated_words_are_told_apart() -> None:
    prompt = "a cat and a red cat with a cat"
    assert columns(prompt, "cat") == (2,)
    assert columns(prompt, "cat#2") == (6,)
    assert columns(prompt, "cat#3") == (9,)
    assert columns(prompt, "red cat") == (5, 6)
    with pytest.raises(PromptError, match="cat"):
        find(prompt, "cat#4")


def test_words_in_several_pieces() -> None:
    prompt = "a zebra and a cat"
    assert spelled(prompt, columns(prompt, "zebra")) == ["z", "e", "br", "a"]
    assert spelled(prompt, columns(prompt, "cat")) == ["cat"]
    words = columns_of(find(prompt, "a zebra"), [read(prompt)])
    assert words.columns[0] == (1, 2, 3, 4, 5)
    # The head is the phrase's last word, with all its pieces.
    assert words.head[0] == (2, 3, 4, 5)


def test_a_word_is_not_found_inside_another() -> None:
    prompt = "a birdcage and a bird"
    assert spelled(prompt, columns(prompt, "bird")) == ["bird"]


def test_capitals_commas_and_spaces() -> None:
    prompt = "A  Red   cat, a BLUE car."
    assert spelled(prompt, columns(prompt, "red cat")) == ["red", "cat"]
    assert spelled(prompt, columns(prompt, "Car")) == ["car"]
    assert spelled("café, cat", columns("café, cat", "cat")) == ["cat"]


def test_which_columns_take_part_in_a_softmax_over_tokens() -> None:
    assert read("a red cat").keep == tuple(range(1, 76))
    assert read("a red cat", drop_padding=True).keep == (1, 2, 3)
    assert read("", drop_padding=True).keep == ()


def test_a_prompt_that_is_too_long_is_cut_and_says_where() -> None:
    prompt = "big " * 80 + "cat"
    seen = read(prompt)
    assert seen.content == tuple(range(1, 76))
    assert seen.cut == 4 * 75
    assert read("big " * 74 + "cat").cut is None
    assert columns("big " * 74 + "cat", "cat") == (75,)
    with pytest.raises(PromptError, match="'cat' lies beyond token 77 of the CLIP encoder"):
        columns(prompt, "cat")
    with pytest.raises(PromptError, match="shorten the prompt or move the phrase"):
        columns("big " * 75 + "cat", "cat")


def test_a_word_that_is_cut_in_its_middle_is_beyond_too() -> None:
    prompt = "big " * 73 + "zebra"
    assert read(prompt).cut == len("big " * 73) + 2
    with pytest.raises(PromptError, match="'zebra' lies beyond"):
        columns(prompt, "zebra")


def test_several_encoders_have_their_own_columns() -> None:
    prompt = "a cat and a zebra"
    words = columns_of(find(prompt, "zebra"), [read(prompt), read(prompt, length=40)])
    assert words.columns == ((5, 6, 7, 8),) * 2
    short = read(prompt, length=8)
    with pytest.raises(PromptError, match="beyond token 8"):
        columns_of(find(prompt, "zebra"), [read(prompt), short])


def test_padding_that_shares_its_id_with_a_word_is_not_content() -> None:
    """The second encoder of SDXL pads with "!", which is a word of its own where it is written."""
    tokenizer = tiny.tokenizer()
    tokenizer.pad_token = "!"
    seen = tokenise(tokenizer, "a cat !", encoder="CLIP-G", length=77, width=77, drop_padding=False)
    assert seen.content == (1, 2, 3)


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(
        ModelError, match="without character offsets; load the pipeline with its fast"
    ):
        tokenise(Slow(), "a cat", encoder="CLIP", length=77, width=77, drop_padding=False)

"""Subjects, layout phrases and markup in scripts that are not English's."""

from __future__ import annotations

import pytest

from adhere.errors import PromptError
from adhere.guides.run import Prompt
from adhere.layout.layout import Layout, Region
from adhere.prompt.markup import strip_markup, unread_brackets, unread_markup
from adhere.prompt.parser import parse
from adhere.prompt.phrases import find, numbered, occurrences, split_words
from adhere.prompt.syntax import unread_weight


@pytest.mark.parametrize(
    ("prompt", "phrase", "places"),
    [
        ("一只红色的猫和一只蓝色的狗", "红色的猫", [2]),
        ("一只猫和一只猫", "猫", [2, 6]),
        ("赤い猫と青い犬", "青い犬", [4]),
        ("빨간 고양이와 파란 개가 있다", "고양이", [3]),
        ("빨간 고양이와 파란 개가 있다", "파란 개", [8]),
        ("แมวสีแดงและสุนัข", "สุนัข", [11]),
        ("красная кошка и кот", "кот", [16]),
        ("красная кошка", "кош", []),
        ("लाल बिल्ली", "बिल", []),  # a combining mark goes on with the word
        ("a cat, a concat and cats", "cat", [2]),
        ("un café-crème", "café", [3]),
        ("a 猫cat", "cat", [3]),
    ],
)
def test_a_phrase_is_found_where_it_stands(prompt: str, phrase: str, places: list[int]) -> None:
    assert [span.start for span in occurrences(prompt, phrase)] == places


def test_the_second_occurrence_without_spaces() -> None:
    assert find("一只猫和一只猫", "猫#2").start == 6


@pytest.mark.parametrize(
    ("marked", "plain", "noun"),
    [
        ("一只[红色的|猫]和[狗]", "一只红色的猫和狗", "猫"),
        ("[赤い|猫]と犬", "赤い猫と犬", "猫"),
        ("[빨간|고양이]와 개", "빨간 고양이와 개", "고양이"),
        ("a [red|猫]", "a red 猫", "猫"),
    ],
)
def test_markup_reads_as_the_script_is_written(marked: str, plain: str, noun: str) -> None:
    assert strip_markup(marked) == plain
    found = parse(marked).entities[0]
    assert found.noun.text == noun
    assert plain[found.noun.start : found.noun.end] == noun
    assert found.modifiers


@pytest.mark.parametrize("prompt", ["一只红色的猫", "赤い猫", "빨간 고양이", "красная кошка"])
def test_the_parser_says_that_it_reads_english(prompt: str) -> None:
    parsed = parse(prompt)
    assert parsed.entities == ()
    assert any("reads English" in doubt for doubt in parsed.uncertain)
    with pytest.raises(PromptError, match="reads English"):
        parsed.require_nouns()


def test_a_name_in_another_script_leaves_a_prompt_english() -> None:
    assert parse("a red cat called 猫").nouns[0].text == "cat"


def test_layout_phrases_in_any_script() -> None:
    layout = Layout((Region("红色的猫", box=(0, 0, 0.5, 1)), Region("狗", box=(0.5, 0, 1, 1))))
    layout.check(Prompt("一只红色的猫和狗").plain)


def test_words_are_cut_at_tokens_where_no_space_is() -> None:
    text = "红色的猫, a red-haired dog's cat"
    assert [span.text for span in split_words(text)] == [
        "红色的猫",
        "a",
        "red-haired",
        "dog's",
        "cat",
    ]
    cut = split_words(text, {2, 3, 9})
    assert [span.text for span in cut][:4] == ["红色", "的", "猫", "a"]
    assert numbered(["cat", "dog", "cat"]) == ("cat", "dog", "cat#2")


@pytest.mark.parametrize(
    "prompt",
    [
        *("a (red cat:1.3) and a dog", "(cat: .5)", "(cat:1,3)", "(cat:-0.5)", "(猫:1.3)"),
        *("a ((red cat))", "a [[cat]]", "a {cat}", "a {{cat}}", "(cat:1.3", "a cat:1.3"),
        *("a cat:0.5 and", "a cat:dog:0.5", "a cat::2", "a cat <lora:fur:0.8>"),
        *("a cat AND a dog", "a cat BREAK a dog"),
        *("a cat++ in a car", "a cat+", "a cat--, a dog", "(red cat)-", "(red cat)1.3, a dog"),
        *("('a cat', 'a dog').blend(1, 2)", "cat.swap(dog)"),
        *(
            "a cat- and a dog",
            "a red cat-",
            "cat- on grass",
            "cat-,dog",
            "(cat)2",
            "猫++",
            "猫:1.3",
        ),
        *(
            "(cat (big):1.3)",
            "（猫：1.3）",
            "BREAK a cat",
            "a cat\nBREAK\na dog",
            "a cat,BREAK,a dog",
        ),
        *("embedding:easynegative", "a __colour__ cat", "a cat --no dogs", "a cat --ar 16:9"),
        *("a (cat)^1.3 and a dog", "a (red cat:130%)", "a ((cat) and a dog", "(cat)^.5"),
    ],
)
def test_weights_are_said_to_have_no_effect(prompt: str) -> None:
    assert "no effect" in (unread_weight(prompt) or "")


def test_every_weight_of_a_prompt_is_named_once() -> None:
    said = unread_weight("a (red cat:1.3), a dog++ and (red cat:1.3)") or ""
    assert said.startswith("'(red cat:1.3)', 'dog++' have no effect")


@pytest.mark.parametrize(
    "prompt",
    [
        *("a cat (small)", "a picture (ratio 16:9)", "a red cat", "noon (12:30)", "(John 3:16)"),
        *("a C++ book", "an A+ student", "(c) 2020", "a cat(s)", "smile :)", "f(x)", "f/1.8"),
        *("portrait (photo: 1990)", "(iso:400)", "cat: black, dog: white", "A CAT AND A DOG"),
        *("(red cat) 1.5x", "a (big)-ish cat", "(by Klimt)(detailed)", "a--b", "rock-and-roll"),
        *(
            "an LGBTQ+ flag",
            "lgbtqia+ parade",
            "a disney+ logo",
            "aspect:1.85",
            "aspect ratio:1.85",
        ),
        *("pH:7.4", "a man of height:1.80m", "a tower:85.5mm", "Ca(OH)2", "notepad++", "f:1.8"),
        *(
            "pre- and post-war houses",
            "two- or threefold",
            "mid- to late 1990s",
            "blue-, red-ish cat",
        ),
        *("a sign TAKE A BREAK", 'a "BREAK" sign', "wide shot -- a cat", "wide shot --a cat"),
        *("cat*1.3", "(a+b)^2", "((c) 2020)", "a shirt (cotton:100%)", "f(x)^1.5"),
        *('{"scene": "a cat"}', "(1) a cat (2) a dog", "http://x.org:80/"),
    ],
)
def test_what_is_no_weight(prompt: str) -> None:
    assert unread_weight(prompt) is None


def test_markup_that_a_modular_pipeline_encodes_is_said() -> None:
    assert "attach(pipe, prompt=" in (unread_markup("a [red|cat] and a dog") or "")
    assert unread_markup("a red cat") is None


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("a [red|cat and a dog", "'[red|cat and a dog'"),
        ("a [cat", "'[cat'"),
        ("a cat] and a dog", "'] and a dog'"),
        ("a [red|blue|cat]", "'[red|blue|cat]'"),
        ("a [[cat]] and a [dog", "'[dog'"),
    ],
)
def test_brackets_that_are_no_markup_are_said(prompt: str, named: str) -> None:
    assert "plain text" in (unread_markup(prompt) or "")
    assert named in (unread_brackets(prompt) or "")


@pytest.mark.parametrize("prompt", ["a cat :[", "a cat :] and a dog", "a cat :[ and a dog", "[]"])
def test_faces_are_no_markup(prompt: str) -> None:
    assert unread_markup(prompt) is None
    assert unread_brackets(prompt) is None


def test_brackets_of_web_uis_are_said_once() -> None:
    assert unread_markup("a [[cat]]") is None
    assert unread_brackets("a [[cat]]") is None
    assert unread_weight("a [[cat]]") is not None

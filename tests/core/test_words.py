"""The prompt parser: the fixture's rate, markup, phrases, doubts, and the spaCy reading."""

from __future__ import annotations

import json
import pickle
import random
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adhere.errors import ExtraMissing, PromptError
from adhere.prompt import lexicon, spacy_parser
from adhere.prompt.markup import strip_markup
from adhere.prompt.parser import Parse, parse
from adhere.prompt.phrases import find, occurrences

FIXTURE = [
    json.loads(line)
    for line in Path(__file__).with_name("prompts.jsonl").read_text("utf-8").splitlines()
]


def pairs(parsed: Parse) -> list[tuple[str, list[str]]]:
    return sorted(
        (e.noun.text.lower(), sorted(m.text.lower() for m in e.modifiers)) for e in parsed.entities
    )


def expected(case: dict[str, list[tuple[str, list[str]]]]) -> list[tuple[str, list[str]]]:
    return sorted((n.lower(), sorted(m.lower() for m in mods)) for n, mods in case["pairs"])


def rate(part: str | None) -> tuple[float, list[str]]:
    cases = [case for case in FIXTURE if part in (None, case["part"])]
    wrong = [c["prompt"] for c in cases if pairs(parse(c["prompt"], "chunker")) != expected(c)]
    return 1 - len(wrong) / len(cases), wrong


def read(prompt: str) -> dict[str, list[str]]:
    return {e.noun.text: [m.text for m in e.modifiers] for e in parse(prompt).entities}


# ---- The fixture -------------------------------------------------------------


def test_the_fixture_is_large_enough_and_holds_no_prompt_twice() -> None:
    prompts = [case["prompt"] for case in FIXTURE]
    assert len(prompts) >= 170
    assert len(set(prompts)) == len(prompts)
    assert sum(case["part"] == "held" for case in FIXTURE) >= 40


def test_the_chunker_reads_95_percent_of_the_fixture_right() -> None:
    right, wrong = rate(None)
    assert right >= 0.95, wrong


def test_the_part_that_the_lists_were_not_tuned_on_stays_near() -> None:
    # 92.5 % when it was first run; a lower rate means that a change helped only the tuned part.
    right, wrong = rate("held")
    assert right >= 0.9, wrong


def test_spans_cut_their_own_text_out_of_the_prompt() -> None:
    for case in FIXTURE:
        parsed = parse(case["prompt"])
        for entity in parsed.entities:
            for span in (entity.noun, entity.phrase, *entity.modifiers):
                assert parsed.text[span.start : span.end] == span.text
            assert entity.phrase.start <= entity.noun.start < entity.noun.end == entity.phrase.end


def test_a_prompt_is_read_within_a_millisecond() -> None:
    """Of this thread's own time: what else the machine does is not the parser's."""
    prompts = [case["prompt"] for case in FIXTURE]
    best = float("inf")
    for attempt in range(3):
        start = time.thread_time()
        for prompt in prompts:
            parse(f"{prompt} {attempt}")  # never the cached answer
        best = min(best, (time.thread_time() - start) / len(prompts))
    assert best < 1e-3


@pytest.mark.parametrize("garbage", ["", "   ", ",,,", "a a a a", "and and", "is is red", "#$%"])
def test_text_without_words_is_read_without_a_crash(garbage: str) -> None:
    parsed = parse(garbage)
    assert parsed.entities == ()
    assert "no noun was found" in parsed.uncertain


def test_any_order_of_known_words_is_read_without_a_crash() -> None:
    known = [*sorted(lexicon.WORDS), ",", ".", "'s", '"', "(", ")", "the", "and", "is", "that"]
    draw = random.Random(0)
    for _ in range(2000):
        prompt = " ".join(draw.choices(known, k=draw.randint(1, 12)))
        for entity in parse(prompt).entities:
            assert prompt[entity.noun.start : entity.noun.end] == entity.noun.text


def test_a_very_long_prompt_is_read_in_good_time() -> None:
    start = time.thread_time()
    assert len(parse("a red and blue cat, " * 2000).entities) == 2000
    assert time.thread_time() - start < 5


# ---- Choices that docs/words.md states ---------------------------------------


def test_lead_ins_measures_numbers_and_style_are_no_subjects() -> None:
    prompt = "a photo of two pairs of red shoes, highly detailed, in the style of Monet"
    assert read(prompt) == {"shoes": ["red"]}


def test_a_picture_inside_the_picture_is_a_subject() -> None:
    assert read("a wall with a painting of a ship") == {"wall": [], "painting": [], "ship": []}


def test_lettering_is_no_subject() -> None:
    assert read('a sign that says "red cats"') == {"sign": []}


def test_phrases_leave_the_determiner_out() -> None:
    entity = parse("the big red fire hydrant").entities[0]
    assert entity.phrase.text == "big red fire hydrant"
    assert entity.noun.text == "fire hydrant"


def test_a_copula_speaks_of_the_head_and_a_relative_of_the_nearest() -> None:
    assert read("the cat near the box is black") == {"cat": ["black"], "box": []}
    assert read("the cat near the box that is black") == {"cat": [], "box": ["black"]}


def test_tag_lists_without_commas_are_split_at_adjectives() -> None:
    assert read("red cat blue dog") == {"cat": ["red"], "dog": ["blue"]}


@pytest.mark.parametrize(
    ("prompt", "doubt"),
    [
        ("the cat near the box that is black", "'that' was taken to stand for 'box', not 'cat'"),
        ("a woman in red", "'red' was not tied to any noun"),
        ("the dog is not red", "negation"),
        ("a red and a blue car", "'red' was given to the noun that follows"),
        ("There is a cat. It is black.", "'It' was taken to stand for 'cat'"),
        ("a quaffle snitch bludger", "read as the name of one thing"),
        ("running quickly", "no noun was found"),
    ],
)
def test_doubts_are_said(prompt: str, doubt: str) -> None:
    assert any(doubt in sentence for sentence in parse(prompt).uncertain)


def test_plain_prompts_leave_no_doubt() -> None:
    for case in FIXTURE:
        if case["kind"] in {"ae", "cc500"}:
            assert parse(case["prompt"]).uncertain == ()


# ---- Markup ------------------------------------------------------------------


def test_markup_wins_and_is_removed() -> None:
    parsed = parse("a [red|cat] and a [blue|suitcase] in a green forest")
    assert parsed.text == "a red cat and a blue suitcase in a green forest"
    assert parsed.backend == "markup"
    assert pairs(parsed) == [("cat", ["red"]), ("suitcase", ["blue"])]
    assert [parsed.text[s.start : s.end] for s in parsed.nouns] == ["cat", "suitcase"]


@pytest.mark.parametrize(
    ("marked", "plain", "modifiers"),
    [
        ("[big red|cat]", "big red cat", ["big", "red"]),
        ("[big, red|cat]", "big, red cat", ["big", "red"]),
        ("[polka dot, red|dress]", "polka dot, red dress", ["polka dot", "red"]),
        ("[ red | teddy  bear ]", "red teddy bear", ["red"]),
        ("[cat]", "cat", []),
    ],
)
def test_forms_of_markup(marked: str, plain: str, modifiers: list[str]) -> None:
    parsed = parse(marked)
    assert parsed.text == strip_markup(marked) == plain
    assert [m.text for m in parsed.entities[0].modifiers] == modifiers
    assert parsed.entities[0].phrase.text == plain


def test_escaped_brackets_are_text() -> None:
    assert strip_markup(r"a sign \[a\|b\] and a \ slash") == r"a sign [a|b] and a \ slash"
    assert parse(r"a \[red\] cat").backend == "chunker"


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        ("a [red|[big|cat]]", "do not nest"),
        ("a [red|cat", "never closed"),
        ("a red|cat] runs", "closes nothing"),
        ("a [red|] cat", "no noun"),
        ("a [] cat", "no noun"),
        ("a [|cat]", "no modifier"),
        ("a [red|big|cat]", "more than one bar"),
    ],
)
def test_contradictory_markup_is_refused_with_the_way_out(prompt: str, problem: str) -> None:
    with pytest.raises(PromptError, match=problem) as caught:
        parse(prompt)
    assert "[red|cat]" in str(caught.value)


# ---- Phrases -----------------------------------------------------------------


def test_find_takes_whole_words_in_any_case_and_spacing() -> None:
    prompt = "Cats and a Red  cat"
    assert find(prompt, "cat").start == prompt.rindex("cat")
    assert find(prompt, "red cat").text == "Red  cat"
    assert find(prompt, "the red cat").text == "Red  cat"


def test_find_takes_the_nth_occurrence() -> None:
    prompt = "a cat, a dog and a cat"
    assert find(prompt, "cat").start == find(prompt, "cat#1").start == 2
    assert find(prompt, "cat#2").start == prompt.rindex("cat")
    assert len(occurrences(prompt, "cat")) == 2
    assert find("pencil #2", "pencil #2").text == "pencil #2"


@pytest.mark.parametrize(
    ("phrase", "message"),
    [
        ("cot", r"1:a 2:red 3:cat .* did you mean 'cat'"),
        ("read cat", r"did you mean 'red cat'"),
        ("zebra", r"use words of the prompt"),
        ("cat#3", r"only once"),
        ("cat#0", r"counted from 1"),
        ("  ", r"names no word"),
        ("ca", r"not in the prompt"),
    ],
)
def test_an_absent_phrase_shows_the_prompt_and_what_comes_close(phrase: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        find("a red cat and a dog", phrase)


def test_require_says_what_is_missing() -> None:
    with pytest.raises(PromptError, match="no noun"):
        parse("highly detailed, 4k").require_nouns()
    with pytest.raises(PromptError, match=r"nouns: 'cat', 'dog'.*\[red\|cat\]"):
        parse("a cat and a dog").require_pairs()
    parsed = parse("a red cat and a dog")
    assert [e.noun.text for e in parsed.require_pairs()] == ["cat"]
    assert [(n.text, m.text) for n, m in parsed.pairs] == [("cat", "red")]


def test_a_parse_is_plain_data() -> None:
    parsed = parse("a red cat")
    assert pickle.loads(pickle.dumps(parsed)) == parsed
    assert hash(parsed) == hash(parse("a red cat"))


# ---- Backends ----------------------------------------------------------------


def test_an_unknown_backend_is_named() -> None:
    with pytest.raises(PromptError, match="'chunker' or 'spacy'"):
        parse("a cat", "nltk")  # type: ignore[arg-type]


def test_spacy_that_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    spacy_parser.model.cache_clear()
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ExtraMissing, match=r"adhere\[spacy\]"):
        parse("a cat", "spacy")
    assert parse("[a|cat]", "spacy").backend == "markup"


def test_a_missing_model_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    spacy_parser.model.cache_clear()
    util = SimpleNamespace(is_package=lambda name: False)
    monkeypatch.setitem(sys.modules, "spacy", SimpleNamespace(util=util))
    with pytest.raises(ExtraMissing, match="python -m spacy download en_core_web_sm"):
        parse("a cat", "spacy")


def test_the_spacy_reading_follows_the_dependencies(monkeypatch: pytest.MonkeyPatch) -> None:
    spacy = pytest.importorskip("spacy")
    # (word, part of speech, head, relation), as a trained model tags them
    table = [
        ("a", "DET", 3, "det"),
        ("round", "ADJ", 3, "amod"),
        ("teddy", "NOUN", 3, "compound"),
        ("bear", "NOUN", 3, "ROOT"),
        ("that", "PRON", 5, "nsubj"),
        ("is", "AUX", 3, "relcl"),
        ("red", "ADJ", 5, "acomp"),
        ("and", "CCONJ", 6, "cc"),
        ("shiny", "ADJ", 6, "conj"),
        ("near", "ADP", 3, "prep"),
        ("boxes", "NOUN", 9, "pobj"),
    ]

    def model(prompt: str) -> object:
        texts, tags, heads, relations = zip(*table, strict=True)
        return spacy.tokens.Doc(
            spacy.blank("en").vocab,
            list(texts),
            pos=list(tags),
            heads=list(heads),
            deps=list(relations),
        )

    monkeypatch.setattr(spacy_parser, "model", lambda: model)
    parsed = parse("a round teddy bear that is red and shiny near boxes", "spacy")
    assert parsed.backend == "spacy"
    assert pairs(parsed) == [("boxes", []), ("teddy bear", ["red", "round", "shiny"])]
    assert parsed.entities[0].phrase.text == "round teddy bear"


def lines_run(prompt: str) -> int:
    """Lines of Python that reading a prompt takes: no clock, so no luck."""
    count = 0

    def trace(*_: Any) -> Any:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        parse(prompt)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    "run",
    ["left ", "red ", "red, ", "red and ", "covered ", "carved, ", "very ", "cat ", "cat, ", "is "],
)
def test_long_runs_of_a_kind_are_read_in_time(run: str) -> None:
    """Twice the words may take four times as long, not eight: a thousand took minutes."""
    short, long = (lines_run("a cat " + run * count) for count in (40, 80))
    assert long < 5 * short

"""Runs: who the subjects are, what belongs to what, and what is said when words are missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from adhere.errors import LayoutError, PromptError
from adhere.guides.run import NO_TEXT, Prompt, Run
from adhere.layout.layout import Layout, Region
from adhere.prompt.tokens import Track, tokenise
from tests import tiny


def run_of(*prompts: Prompt) -> Run:
    images = tuple(
        tokenise(
            tiny.tokenizer(),
            prompt.plain,
            encoder="CLIP",
            length=77,
            width=77,
            drop_padding=False,
        )
        for prompt in prompts
    )
    return Run(prompts, (Track(images),), (16, 16), steps=50, family="tiny")


def texts(found: Any) -> list[list[str]]:
    return [[words.text for words in image] for image in found]


def test_the_subjects_are_those_given_else_the_briefs_else_the_parsers() -> None:
    prompt = "a red cat and a blue car"
    run = run_of(Prompt(prompt), Prompt(prompt, subjects=("red cat",)))
    assert texts(run.subjects()) == [["cat", "car"], ["red cat"]]
    assert texts(run.subjects(("car",))) == [["car"], ["car"]]
    assert run.subjects()[0][0].columns == ((3,),)
    assert run.batch == 2


def test_markup_names_the_subjects() -> None:
    run = run_of(Prompt("a [red|cat] and a blue car"))
    assert run.prompts[0].plain == "a red cat and a blue car"
    assert texts(run.subjects()) == [["cat"]]
    (pair,) = run.nouns()[0]
    assert pair.noun.columns == ((3,),)
    assert [modifier.text for modifier in pair.modifiers] == ["red"]


def test_pairs_are_nouns_with_their_modifiers() -> None:
    run = run_of(Prompt("a big red cat and a car"), Prompt("a blue car"))
    found = [
        [(pair.noun.text, [m.text for m in pair.modifiers]) for pair in image]
        for image in run.nouns()
    ]
    assert found == [[("cat", ["big", "red"]), ("car", [])], [("car", ["blue"])]]
    chosen = run_of(Prompt("a big red cat and a car")).nouns(("red cat",))
    assert [pair.noun.text for pair in chosen[0]] == ["cat"]


def test_the_calls_subjects_restrict_the_nouns_too() -> None:
    prompt = Prompt("a big red cat and a blue car", subjects=("car",))
    assert [noun.noun.text for noun in run_of(prompt).nouns()[0]] == ["car"]
    assert [noun.noun.text for noun in run_of(prompt).nouns(("cat",))[0]] == ["cat"]
    assert [noun.noun.text for noun in run_of(prompt).all_nouns()[0]] == ["cat", "car"]
    with pytest.raises(PromptError, match="'zebra' is not in the prompt"):
        run_of(Prompt("a red cat", subjects=("zebra",))).nouns()
    for empty in (run_of(Prompt("a red cat", subjects=())), run_of(Prompt("a red cat"))):
        with pytest.raises(PromptError, match="subjects is empty: name at least one"):
            empty.nouns(() if empty.prompts[0].subjects is None else None)


def test_what_an_encoder_cuts_off_is_not_heard_and_is_said() -> None:
    far = "very " * 30
    run = run_of(Prompt(f"a red cat and {far}a blue car"), Prompt("a blue car"))
    assert texts([[one.noun for one in image] for image in run.heard_nouns()]) == [["cat"], ["car"]]
    assert run.notes == ["attention says nothing of 'blue', 'car': the prompt is cut before it"]
    (cat,) = run_of(Prompt(f"a red cat is {far}blue")).heard_nouns()[0]
    assert [modifier.text for modifier in cat.modifiers] == ["red"]
    with pytest.raises(PromptError, match="'cat' lies beyond token 77 of the CLIP encoder"):
        run_of(Prompt(f"{far}a red cat")).heard_nouns()


@pytest.mark.parametrize(
    ("text", "left"), [("a red cat on a car", "on"), ("a [red|cat] and a car", "car")]
)
def test_a_subject_that_is_no_noun_is_in_the_notes(text: str, left: str) -> None:
    run = run_of(Prompt(text))
    assert [noun.noun.text for noun in run.nouns((left, "red"))[0]] == ["cat"]
    (note,) = run.notes
    assert note.startswith(f"the subject {left!r} is left out: it is no noun of 'a red cat")
    named = run_of(Prompt(text))
    named.nouns(("cat",))
    assert named.notes == []


def test_a_subject_that_is_named_twice_is_refused() -> None:
    """... also in other words; the second of two things is another subject."""
    run = run_of(Prompt("a red cat and a cat"))
    assert len(run.subjects(("cat", "cat#2"))[0]) == 2
    for given in (("cat", "cat"), ("cat", "Cat"), ("cat", "cat#2", "cat#1")):
        with pytest.raises(PromptError, match=r"'cat' is named twice.*cat#2"):
            run.subjects(given)


def test_what_cannot_be_found_is_said() -> None:
    with pytest.raises(PromptError, match=r"'dragon' is not in the prompt 1:a 2:red 3:cat"):
        run_of(Prompt("a red cat")).subjects(("dragon",))
    with pytest.raises(PromptError, match="subjects is empty: name at least one"):
        run_of(Prompt("a red cat", subjects=())).subjects()
    with pytest.raises(PromptError, match="the prompt is empty; guidance finds subjects by"):
        run_of(Prompt("")).subjects()
    with pytest.raises(PromptError, match=r"no noun found in 'the of'.*name the subjects"):
        run_of(Prompt("the of")).subjects()


def test_of_embeddings_alone_the_text_is_asked_for_wherever_it_is_read() -> None:
    left = Layout((Region("cat", box=(0.0, 0.0, 0.5, 1.0)),))
    run = Run((Prompt(NO_TEXT, layout=left),), (), (4, 4), 1, "tiny")
    assert run.prompts[0].plain == ""
    asking: list[Callable[[], Any]] = [
        run.spoken, run.subjects, run.nouns, run.layouts, run.regions, lambda: run.phrase(0, "cat"),
        lambda: run.prompts[0].parsed.require_nouns(),
    ]  # fmt: skip
    for ask in asking:
        with pytest.raises(PromptError, match=r"pass it as attach\(pipe, prompt=...\)"):
            ask()
    assert run.own_texts()


def test_layouts_are_the_plugins_own_else_the_briefs() -> None:
    left = Layout((Region("cat", box=(0.0, 0.0, 0.5, 1.0)),))
    right = Layout((Region("cat", box=(0.5, 0.0, 1.0, 1.0)),))
    run = run_of(Prompt("a cat", layout=left), Prompt("a red cat", layout=right))
    assert run.layouts() == (left, right)
    assert run.layouts(right) == (right, right)
    with pytest.raises(LayoutError, match=r"no layout for 'a dog': give one to the plugin"):
        run_of(Prompt("a dog")).layouts()
    with pytest.raises((LayoutError, PromptError), match="cat"):
        run_of(Prompt("a dog", layout=left)).layouts()


def test_notes_are_kept_once() -> None:
    run = run_of(Prompt("a cat"))
    run.note("one")
    run.note("two")
    run.note("one")
    assert run.notes == ["one", "two"]

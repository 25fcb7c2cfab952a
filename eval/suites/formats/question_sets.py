"""Prompts with questions: TIFA, Davidsonian Scene Graphs (DSG), DPG-Bench, NegGenBench."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adhere.eval.errors import EvaluationError
from adhere.eval.suites.formats import content as contents
from adhere.eval.suites.formats import json_prompts, lists
from adhere.eval.suites.formats.content import Content, Row
from adhere.eval.suites.formats.prompt_tables import (
    USED,
    column,
    ids,
    request_of,
    tags_of,
    text_of,
)
from adhere.eval.suites.formats.telling import counted, joined, refuse_misspelt
from adhere.eval.suites.items import Item, Question, Suite

_DSG = {"item_id", "question_natural_language", "dependency"}
_PROPOSITIONS = ("proposition_id", "propositon_id", "question_id")


def is_dsg(content: Content) -> bool:
    """Questions with dependencies, a row or an entry each."""
    return content.columns() >= {*_DSG, "text"}


def dsg(content: Content) -> Suite:
    """`dsg-1k-anns.csv` (Cho et al. 2024, arXiv:2310.18235): item, text, question, dependency."""
    content = content if content.kind == "table" else json_prompts.as_table(content)
    questions = dependencies(content)
    texts = _one_each(((row["item_id"], row["text"]) for row in content.rows()), content.path)
    items = tuple(
        Item(key, texts[key], tags=(re.sub(r"_?\d+$", "", key) or "all",), questions=found)
        for key, found in questions.items()
    )
    source = "Davidsonian Scene Graphs (Cho et al. 2024, arXiv:2310.18235)"
    return Suite("dsg", content.version, source, "see source", items)


def dependencies(content: Content) -> dict[str, tuple[Question, ...]]:
    """The questions of every item of a table in DSG's form."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in content.rows():
        rows[row["item_id"]].append(row)
    return {
        item: tuple(
            _question(row, n, f"{content.path}, item {item!r}") for n, row in enumerate(some, 1)
        )
        for item, some in rows.items()
    }


def _one_each(pairs: Iterable[tuple[str, str]], path: Path) -> dict[str, str]:
    """The text of each id; of two texts, nobody knows which the questions are about."""
    texts: dict[str, str] = {}
    for key, text in pairs:
        if not key:
            raise EvaluationError(f"{path}: {text[:60]!r} has no id")
        if texts.setdefault(key, text) != text:
            raise EvaluationError(f"{path}: {key!r} is {texts[key][:60]!r} and {text[:60]!r}")
    return texts


def _question(row: Row, number: int, where: str) -> Question:
    key = column(row, _PROPOSITIONS) or str(number)
    parents = [part.strip().removesuffix(".0") for part in re.split("[,;]", row["dependency"])]
    if not all(part.isdigit() for part in parents if part):
        raise EvaluationError(f"{where}: dependency {row['dependency']!r} is no list of numbers")
    kind = column(row, ("category_broad",)) or row.get("tuple", "").partition("(")[0].strip()
    return Question(
        key.removesuffix(".0"),
        text_of(row, "question_natural_language", where),
        parents=tuple(part for part in parents if part and part != "0"),
        kind=kind,
    )


def is_dpg(content: Content) -> bool:
    """A folder of text files, a prompt each; or one that has them beside its table."""
    return (
        content.kind == "folder"
        and any(_prompts_in(content.path).glob("*.txt"))
        and not lists.is_compbench_folder(content)
    )


def _prompts_in(folder: Path) -> Path:
    has_table = any(folder.glob("dpg_bench*.csv")) and not any(folder.glob("*.txt"))
    return folder / "prompts" if has_table else folder


def dpg(content: Content) -> Suite:
    """DPG-Bench (Hu et al. 2024, arXiv:2403.05135): a folder, with `dpg_bench.csv` near it."""
    folder = _prompts_in(content.path)
    table = next(
        (path for place in (folder, folder.parent) for path in place.glob("dpg_bench*.csv")), None
    )
    asked = contents.read(table) if table else None
    known = dependencies(asked) if asked else {}
    pairs = (
        (row["item_id"], " ".join(row["text"].split()))
        for row in (asked.rows() if asked else ())
        if row.get("text")
    )
    texts = _one_each(pairs, folder)
    items = []
    for path in sorted(folder.glob("*.txt"), key=lambda one: _natural(one.stem)):
        prompt = " ".join(contents.decoded(path).split())
        if not prompt:
            raise EvaluationError(f"{path} is empty; a prompt was expected")
        items.append(Item(path.stem, prompt, questions=known.get(path.stem, ())))
    unknown = sorted(set(known) - {item.id for item in items})
    if table and unknown:
        raise EvaluationError(f"{table} asks about {unknown[0]!r}, and {folder} has no such prompt")
    source = "DPG-Bench (Hu et al. 2024, arXiv:2403.05135)"
    about = (
        joined(
            counted("prompts without questions", [one.id for one in items if not one.questions]),
            counted(
                "prompts whose questions are about other words",
                [one.id for one in items if texts.get(one.id, one.prompt) != one.prompt],
            ),
        )
        if table
        else "no dpg_bench.csv beside it: prompts without questions"
    )
    return Suite("dpg-bench", str(len(items)), source, "Apache-2.0", tuple(items), about)


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part) if part.isdigit() else -1, part) for part in re.findall(r"\d+|\D+", text)]


def is_tifa_questions(content: Content) -> bool:
    """Captions with questions, choices and answers."""
    return content.kind == "json" and {"id", "caption", "question"} <= content.columns()


def is_tifa_texts(content: Content) -> bool:
    """Captions with ids, and no questions."""
    columns = content.columns()
    return content.kind == "json" and {"id", "caption"} <= columns and "question" not in columns


def tifa(content: Content) -> Suite:
    """TIFA v1.0 (Hu et al. 2023, arXiv:2303.11897): question and answer file, or text inputs.

    The text inputs take their questions from `*question_answers.json` beside them.
    """
    entries, source = content.data, content
    if is_tifa_texts(content):
        beside = sorted(content.path.parent.glob("*question_answers*.json"))
        entries = contents.read(beside[0]).data if beside else ()
        captions = [(_tifa_id(row), _caption(row, content.path)) for row in content.data]
    else:
        captions = [(_tifa_id(row), _caption(row, content.path)) for row in entries]
    texts = _one_each(captions, content.path)
    asked: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in entries:
        refuse_misspelt(row, _TIFA_KEYS, f"{content.path}, {_tifa_id(row)}")
        asked[_tifa_id(row)].append(row)
    about_others = [
        key
        for key, some in asked.items()
        if key in texts and any(_caption(row, content.path) != texts[key] for row in some)
    ]
    if about_others:
        raise EvaluationError(
            f"{content.path}: the questions of {about_others[0]!r} are about another caption"
        )
    items = tuple(
        Item(key.replace("/", "-"), caption, tags=(key.rpartition("_")[0] or key,),
             questions=tuple(_tifa_questions(asked[key], f"{source.path}, {key}")))
        for key, caption in texts.items()
    )  # fmt: skip
    unasked = [one.id for one in items if not one.questions]
    about = "no question_answers.json beside it: prompts without questions"
    about = counted("prompts without questions", unasked) if entries else about
    name = "TIFA v1.0 (Hu et al. 2023, arXiv:2303.11897)"
    return Suite("tifa", content.version, name, "Apache-2.0", items, about)


_TIFA_KEYS = ("id", "caption", "question", "choices", "answer", "element", "element_type")


def _tifa_id(row: Mapping[str, Any]) -> str:
    return str(row.get("id") or "")


def _caption(row: Mapping[str, Any], path: Path) -> str:
    return text_of(row, "caption", f"{path}, {row.get('id')!r}")


def _tifa_questions(rows: Iterable[Mapping[str, Any]], where: str) -> Iterable[Question]:
    for number, row in enumerate(rows):
        choices = row.get("choices", ())
        if not isinstance(choices, Sequence) or isinstance(choices, str):
            raise EvaluationError(f"{where}: choices {choices!r} is no list")
        yield Question(
            str(number),
            text_of(row, "question", where),
            text_of(row, "answer", where),
            tuple(map(str, choices)),
            kind=str(row.get("element_type", "")),
        )


_POSITIVES = ("positive_prompt", "positive", "prompt", "pos_prompt")
_NEGATIVES = ("negative_prompt", "negative", "neg_prompt", "missing_element")
_ASKED = (
    ("positive", "yes", ("positive_question", "pos_question", "question_positive", "question_1")),
    ("negative", "no", ("negative_question", "neg_question", "question_negative")),
    # As its authors publish it: "Are the sails missing?"
    ("negative", "yes", ("question_2",)),
)
_ALL_ASKED = (*_POSITIVES, *_NEGATIVES, *(key for _, _, keys in _ASKED for key in keys))


def is_negatives(content: Content) -> bool:
    """Pairs of a positive and a negative prompt."""
    columns = content.columns()
    if not (set(_POSITIVES) & columns and set(_NEGATIVES) & columns):
        return False
    # A prompt with a negative prompt alone is a row of any table.
    marks = ("positive", "pos_", "question", "missing_element")
    return any(name.startswith(marks) or "_question" in name for name in columns)


def negatives(content: Content) -> Suite:
    """NegGenBench (arXiv:2508.10931): what must show, what must not, and a question on each.

    Its files have `prompt`, `missing_element`, `question_1` and `question_2`.
    """
    items = []
    table = content if content.kind == "table" else json_prompts.as_table(content)
    refuse_misspelt(table.rows()[0], (*USED, *_ALL_ASKED), str(content.path))
    for number, (key, given) in enumerate(zip(ids(table), table.rows(), strict=True), 1):
        where = f"{content.path}, entry {number}"
        prompt, negative = column(given, _POSITIVES), column(given, _NEGATIVES)
        if not prompt or not negative:
            raise EvaluationError(f"{where} lacks its positive or its negative prompt")
        questions = tuple(
            Question(kind, text, answer, kind=kind)
            for kind, answer, keys in _ASKED
            if (text := column(given, keys))
        )
        items.append(
            Item(
                key, prompt, negative_prompt=negative, questions=questions,
                tags=tags_of(given), request=request_of(given, where),
            )
        )  # fmt: skip
    source = "NegGenBench's form (arXiv:2508.10931)"
    unasked = [one.id for one in items if {q.id for q in one.questions} != {"positive", "negative"}]
    about = counted("prompts that lack a question on either", unasked)
    return Suite("neggenbench", content.version, source, "see source", tuple(items), about)

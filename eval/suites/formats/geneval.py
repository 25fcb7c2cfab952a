"""GenEval (Ghosh et al. 2023, arXiv:2310.11513) and GenEval 2 (arXiv:2512.16853): JSON lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adhere.eval.errors import EvaluationError
from adhere.eval.suites.formats import content as contents
from adhere.eval.suites.formats.content import Content
from adhere.eval.suites.formats.phrases import thing_of
from adhere.eval.suites.formats.prompt_tables import relation_named, text_of
from adhere.eval.suites.items import Excluded, Item, Question, Suite, Target

_CLAUSE = {"class", "count", "color", "position"}


def is_geneval(content: Content) -> bool:
    """`include` beside a prompt, or numbered folders with `metadata.jsonl`, as its pictures lie."""
    return {"include", "prompt"} <= content.columns() or bool(_folders(content))


def _folders(content: Content) -> list[Path]:
    if content.kind != "folder":
        return []
    found = (one for one in content.path.glob("*/metadata.jsonl") if one.parent.name.isdigit())
    return sorted(found, key=lambda one: int(one.parent.name))


def geneval(content: Content) -> Suite:
    """`evaluation_metadata.jsonl`: tag, include, exclude, prompt; tasks are summed as equals."""
    if content.kind == "folder":
        items = [
            _item(path.parent.name, row, str(path))
            for path in _folders(content)
            for row in contents.read(path).data
        ]
    else:
        items = [
            # Its folders of pictures are numbered from 0.
            _item(f"{number:05d}", row, f"{content.path}, line {number + 1}")
            for number, row in enumerate(content.data)
        ]
    return Suite(
        "geneval" if content.name == "evaluation_metadata" else f"geneval-{content.name}",
        content.version,
        "GenEval (Ghosh et al. 2023, arXiv:2310.11513)",
        "MIT",
        tuple(items),
        "compositions judged by a detector; the score is the mean of the tasks' means",
        overall="tags",
    )


def _item(key: str, row: Mapping[str, Any], where: str) -> Item:
    prompt = text_of(row, "prompt", where)
    unknown = sorted(set(row) - {"tag", "include", "exclude", "prompt"})
    if unknown:
        raise EvaluationError(f"{where} has {unknown[0]!r}, which GenEval does not know")
    try:
        clauses = [_clause(clause, where) for clause in row["include"]]
        things = tuple(_thing(prompt, clause, where) for clause in clauses)
        relations = tuple(
            (place, _relation(clause["position"][0], where), int(clause["position"][1]))
            for place, clause in enumerate(clauses)
            if "position" in clause
        )
        exclude = tuple(
            Excluded(str(clause["class"]), int(clause["count"]))
            for clause in (_clause(one, where) for one in row.get("exclude", ()))
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, EvaluationError):
            raise
        raise EvaluationError(f"{where} does not read as GenEval's: {error!r}") from error
    tags = (str(row["tag"]),) if row.get("tag") else ()
    return Item(key, prompt, things, relations, tags=tags, exclude=exclude)


def _clause(clause: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    if not isinstance(clause, Mapping):
        raise EvaluationError(f"{where}: include and exclude are lists of clauses with a class")
    unknown = sorted(set(clause) - _CLAUSE)
    if unknown:
        raise EvaluationError(
            f"{where}: a clause has {unknown[0]!r}; GenEval's have {', '.join(sorted(_CLAUSE))}"
        )
    return clause


def _thing(prompt: str, clause: Mapping[str, Any], where: str) -> Target:
    found = thing_of(prompt, str(clause["class"]), clause.get("color"), int(clause["count"]))
    if found is None:
        raise EvaluationError(f"{where}: {clause['class']!r} does not occur in {prompt!r}")
    return found


def _relation(text: str, where: str) -> str:
    found = relation_named(text)
    if found is None:
        raise EvaluationError(f"{where}: position {text!r} is not one of GenEval's")
    return found


def is_geneval2(content: Content) -> bool:
    """`vqa_list` beside a prompt."""
    return {"vqa_list", "prompt"} <= content.columns()


def geneval2(content: Content) -> Suite:
    """`geneval2_data.jsonl`: questions with answers (Soft-TIFA), by the number of atoms."""
    items = []
    for number, row in enumerate(content.data, 1):
        where = f"{content.path}, line {number}"
        prompt = text_of(row, "prompt", where)
        pairs, skills = row["vqa_list"], row.get("skills", [])
        if not _are_pairs(pairs) or (skills and len(skills) != len(pairs)):
            raise EvaluationError(f"{where}: vqa_list is no list of question and answer, or skills "
                                  "are not as many")  # fmt: skip
        questions = tuple(
            Question(str(place), pair[0], _answer(pair[1]), kind=skills[place] if skills else "")
            for place, pair in enumerate(pairs)
        )
        atoms = row.get("atom_count")
        tags = (f"atoms: {atoms}",) if atoms is not None else ()
        items.append(Item(f"{number:05d}", prompt, tags=tags, questions=questions))
    return Suite(
        "geneval2",
        content.version,
        "GenEval 2 (Kamath et al. 2025, arXiv:2512.16853)",
        "CC BY-NC 4.0",
        tuple(items),
        "Soft-TIFA: the questions' probabilities, arithmetic and geometric mean",
    )


def _are_pairs(pairs: Any) -> bool:
    return isinstance(pairs, Sequence) and all(
        isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(one, str) for one in pair)
        for pair in pairs
    )


def _answer(text: str) -> str:
    return text.lower() if text.lower() in ("yes", "no") else text

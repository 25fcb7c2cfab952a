"""The project's own suite files: read strictly, so that no key is ever passed over."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args

from adhere.errors import LayoutError
from adhere.eval import strict
from adhere.eval.errors import EvaluationError
from adhere.eval.files import canonical
from adhere.eval.suites.answers import alike
from adhere.eval.suites.items import (
    RELATIONS,
    Excluded,
    Item,
    Overall,
    Question,
    Suite,
    Target,
)
from adhere.layout.layout import Layout
from adhere.prompt.phrases import TORN, torn

T = TypeVar("T")

_SUITE = ("name", "version", "source", "licence", "items", "description", "overall")
_ITEM = (
    "id", "prompt", "things", "relations", "layout", "negative_prompt", "tags", "request",
    "exclude", "questions", "base",
)  # fmt: skip
_THING = ("noun", "phrase", "colour", "count", "detect")
_EXCLUDED = ("noun", "count")
_QUESTION = ("id", "text", "answer", "choices", "parents", "kind")
_REQUEST: dict[str, tuple[type, ...]] = {
    "seed": (int,),
    "steps": (int,),
    "guidance_scale": (int, float),
    "width": (int,),
    "height": (int,),
}
LARGEST_SEED = 2**63 - 1
# What other formats and other spellings call our keys.
_OTHER_NAMES = {
    "color": "colour", "class": "noun", "name": "noun", "relation": "relations",
    "position": "relations", "seed": "request", "category": "tags", "question": "text",
    "negative": "negative_prompt", "license": "licence", "dependency": "parents",
}  # fmt: skip


def suite_from_json(data: Mapping[str, Any], where: str) -> Suite:
    """A suite from its data, checked.

    Raises:
        EvaluationError: a missing or an unknown field, a duplicate id, a phrase that its prompt
            does not have, a relation between things that are not there.
    """
    for key in ("name", "version", "source", "licence", "items"):
        if key not in data:
            raise EvaluationError(f"{where}: the suite has no {key!r}; it needs name, version, "
                                  "source, licence and items")  # fmt: skip
    _known(data, _SUITE, f"{where}: the suite")
    overall = data.get("overall", "items")
    if overall not in get_args(Overall):
        raise EvaluationError(f"{where}: overall {overall!r}; use {' or '.join(get_args(Overall))}")
    if not isinstance(data["items"], list):
        raise EvaluationError(f"{where}: items is not a list")
    suite = Suite(
        name=str(data["name"]),
        version=str(data["version"]),
        source=str(data["source"]),
        licence=str(data["licence"]),
        items=tuple(item_from_json(entry, where) for entry in data["items"]),
        description=str(data.get("description", "")),
        overall=overall,
    )
    check(suite, where)
    return suite


def item_from_json(data: Mapping[str, Any], where: str) -> Item:
    """One item from its data; `where` is for messages."""
    try:
        _known(data, _ITEM, f"{where}: item {data.get('id')!r}")
        return Item(
            id=_id(data["id"]),
            prompt=strict.text(data["prompt"], "prompt"),
            things=_all(data, "things", _thing, where),
            relations=tuple(_relation(*one) for one in data.get("relations", ())),
            layout=strict.mapping(data.get("layout"), "layout") or None,
            negative_prompt=strict.text(data.get("negative_prompt", ""), "negative_prompt"),
            tags=tuple(map(str, _listed(data.get("tags", ()), "tags"))),
            request=strict.mapping(data.get("request"), "request"),
            exclude=_all(data, "exclude", _excluded, where),
            questions=_all(data, "questions", _question, where),
            base=strict.text(data.get("base", ""), "base"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, EvaluationError):
            raise
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise EvaluationError(
            f"{where}: item {canonical(data)[:200]} does not read: {why}; "
            "an item needs an id and a prompt, a thing or exclusion a noun, a question an id and "
            "a text"
        ) from error


def _all(
    data: Mapping[str, Any], key: str, read: Callable[[Any, str], T], where: str
) -> tuple[T, ...]:
    place = f"{where}: item {data['id']!r}: {key}"
    return tuple(read(one, place) for one in _listed(data.get(key, ()), key))


def _listed(value: Any, key: str) -> Iterable[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{key} is not a list")
    return value


def _id(value: Any) -> str:
    return str(value) if type(value) is int else strict.text(value, "id")


def _relation(first: Any, name: Any, second: Any) -> tuple[int, str, int]:
    return (
        strict.whole(first, "relation"),
        strict.text(name, "relation"),
        strict.whole(second, "relation"),
    )


def _thing(data: Mapping[str, Any], where: str) -> Target:
    _known(data, _THING, where)
    noun = strict.text(data["noun"], "noun")
    return Target(
        noun,
        strict.text(data.get("phrase", noun), "phrase"),
        strict.text_or_none(data.get("colour"), "colour"),
        strict.whole(data.get("count", 1), "count"),
        strict.text_or_none(data.get("detect"), "detect"),
    )


def _excluded(data: Mapping[str, Any], where: str) -> Excluded:
    _known(data, _EXCLUDED, where)
    return Excluded(strict.text(data["noun"], "noun"), strict.whole(data.get("count", 1), "count"))


def _question(data: Mapping[str, Any], where: str) -> Question:
    _known(data, _QUESTION, where)
    return Question(
        id=_id(data["id"]),
        text=strict.text(data["text"], "text"),
        answer=strict.text(data.get("answer", "yes"), "answer"),
        choices=tuple(map(str, _listed(data.get("choices", ()), "choices"))),
        parents=tuple(map(str, _listed(data.get("parents", ()), "parents"))),
        kind=strict.text(data.get("kind", ""), "kind"),
    )


def _known(data: Mapping[str, Any], names: Iterable[str], where: str) -> None:
    names = list(names)
    for key in data:
        if key not in names:
            near = _OTHER_NAMES.get(str(key))
            close = [near] if near in names else difflib.get_close_matches(str(key), names, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise EvaluationError(f"{where} has {key!r}{hint} (known: {', '.join(names)})")


def check(suite: Suite, where: str) -> None:
    """Raise `EvaluationError` for the first thing that is wrong with a suite."""
    if not suite.items:
        raise EvaluationError(f"{where}: suite {suite.name!r} has no items")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", suite.name):
        raise EvaluationError(f"{where}: suite name {suite.name!r}: use letters, digits, . _ -")
    seen: set[str] = set()
    for item in suite.items:
        if item.id in seen:
            raise EvaluationError(f"{where}: two items have the id {item.id!r}")
        if "/" in item.id:
            raise EvaluationError(f"{where}: item id {item.id!r} has a slash; leave it out")
        seen.add(item.id)
        problem = _problem(item)
        if problem:
            raise EvaluationError(f"{where}: item {item.id!r} ({item.prompt[:80]!r}): {problem}")


def _problem(item: Item) -> str | None:
    if not item.prompt.strip():
        return "the prompt is empty"
    for text in (item.prompt, item.negative_prompt, item.base):
        if torn(text):
            return f"{text!a} {TORN}"
    return (
        _request_problem(item)
        or _thing_problem(item)
        or _relation_problem(item)
        or _question_problem(item)
        or (_layout_problem(item) if item.layout else None)
    )


def _request_problem(item: Item) -> str | None:
    for key, value in item.request.items():
        if key not in _REQUEST:
            return f"request field {key!r}; known are {', '.join(sorted(_REQUEST))}"
        fits = isinstance(value, _REQUEST[key]) and not isinstance(value, bool)
        low = 0 if key in ("seed", "guidance_scale") else 1
        if not fits or not low <= value < float("inf"):
            return f"request {key} is {value!r}; it is a number of {low} or more"
        if key == "seed" and value > LARGEST_SEED:
            return f"request seed is {value}; random generators take {LARGEST_SEED} at the most"
    return None


def _thing_problem(item: Item) -> str | None:
    for thing in item.things:
        for what, words in (("phrase", thing.phrase), ("noun", thing.noun)):
            if not names(item.prompt, words):
                return (
                    f"the {what} {words!r} does not occur in the prompt"
                    + ('; what only a detector looks for is "detect"' if what == "noun" else "")
                )  # fmt: skip
        if thing.count < 1:
            return f"{thing.noun!r} has count {thing.count}; a count is 1 or more"
    for excluded in item.exclude:
        if excluded.count < 1:
            return f"excluded {excluded.noun!r} has count {excluded.count}; use 1 or more"
    return None


def _relation_problem(item: Item) -> str | None:
    for first, relation, second in item.relations:
        if relation not in RELATIONS:
            return f"relation {relation!r} is not one of {', '.join(RELATIONS)}"
        if not (0 <= first < len(item.things) and 0 <= second < len(item.things)):
            return f"relation between things {first} and {second}, but it has {len(item.things)}"
        if first == second:
            return f"relation of thing {first} to itself"
    return None


def _question_problem(item: Item) -> str | None:
    ids = [question.id for question in item.questions]
    if len(set(ids)) != len(ids):
        return "two questions have the same id"
    for question in item.questions:
        unknown = sorted(set(question.parents) - set(ids))
        if unknown:
            return f"question {question.id!r} depends on {unknown[0]!r}, which is not there"
        if not question.answer:
            return f"question {question.id!r} has an empty answer"
        if question.choices and not any(alike(one, question.answer) for one in question.choices):
            return (
                f"question {question.id!r}: the answer {question.answer!r} is none of its choices "
                f"{', '.join(question.choices)}: it could never be right"
            )
    return _circle({question.id: question.parents for question in item.questions})


def _circle(parents: Mapping[str, Sequence[str]]) -> str | None:
    """Questions none of which can be asked before another of them."""
    left = dict(parents)
    while ready := [key for key, needs in left.items() if not set(needs) & set(left)]:
        for key in ready:
            del left[key]
    return f"the questions {', '.join(left)} depend on one another in a circle" if left else None


def _layout_problem(item: Item) -> str | None:
    try:
        Layout.from_json(dict(item.layout or {})).check(item.prompt)
    except LayoutError as error:
        return str(error)
    return None


def names(prompt: str, phrase: str) -> bool:
    """Whether the phrase occurs in the prompt as whole words, whatever the case."""
    words = r"\s+".join(map(re.escape, phrase.split()))
    return bool(words) and re.search(rf"(?<!\w){words}(?!\w)", prompt, re.IGNORECASE) is not None

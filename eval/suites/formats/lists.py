"""Lists of prompts: plain lines, T2I-CompBench, Attend-and-Excite's, TIAM's templates."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, pairwise, permutations, product
from string import Template
from typing import Any

from adhere.eval.errors import EvaluationError
from adhere.eval.suites.formats import content as contents
from adhere.eval.suites.formats.content import Content
from adhere.eval.suites.formats.phrases import coloured, thing_of
from adhere.eval.suites.items import Item, Suite

_COMPBENCH = re.compile(
    r"^(color|shape|texture|spatial|non_spatial|complex|complex_spatial|complex_non_spatial|"
    r"numeracy|3d_spatial)(_train|_val|_test|_all)?$"
)


def lines(content: Content) -> Suite:
    """A text file with one prompt a line."""
    items = tuple(Item(f"{n:04d}", prompt) for n, prompt in enumerate(content.data, 1))
    return Suite(content.name, content.version, content.path.name, "not stated", items)


def is_lines(content: Content) -> bool:
    """Anything that is text."""
    return content.kind == "lines"


def is_compbench(content: Content) -> bool:
    """Lines in a file that is named after one of its categories (`color_val.txt`)."""
    return content.kind == "lines" and _COMPBENCH.match(content.name.lower()) is not None


def is_compbench_folder(content: Content) -> bool:
    """A folder whose text files are all named after categories."""
    if content.kind != "folder":
        return False
    files = sorted(content.path.glob("*.txt"))
    return bool(files) and all(_COMPBENCH.match(one.stem.lower()) for one in files)


def compbench(content: Content) -> Suite:
    """T2I-CompBench (Huang et al. 2023, arXiv:2307.06350): a text file for each category."""
    source = "T2I-CompBench (Huang et al. 2023, arXiv:2307.06350)"
    if content.kind == "folder":
        each = [contents.read(path) for path in sorted(content.path.glob("*.txt"))]
        items = tuple(
            replace(item, id=f"{one.name}-{item.id}") for one in each for item in _of_category(one)
        )
    else:
        items = tuple(_of_category(content))
    return Suite(f"t2i-compbench-{content.name}", content.version, source, "MIT", items)


def _of_category(content: Content) -> Iterator[Item]:
    match = _COMPBENCH.match(content.name.lower())
    tag = match[1] if match else content.name
    for number, prompt in enumerate(content.data, 1):
        yield Item(f"{number:04d}", prompt, tags=(tag,))


_AE_KEYS = {"animals", "animals_objects", "objects"}


def is_attend_and_excite(content: Content) -> bool:
    """A mapping of group to prompts, of which one is `animals`, `animals_objects` or `objects`."""
    data = content.data
    if content.kind != "json" or not isinstance(data, Mapping):
        return False
    return bool(_AE_KEYS & {str(key).lower() for key in data})


def attend_and_excite(content: Content) -> Suite:
    """The lists of Attend-and-Excite (arXiv:2301.13826) as published: JSON, group by group."""
    items: list[Item] = []
    for group, prompts in content.data.items():
        if not isinstance(prompts, Sequence) or isinstance(prompts, str):
            raise EvaluationError(f"{content.path}: {group!r} is no list of prompts")
        for prompt in prompts:
            if not isinstance(prompt, str):
                raise EvaluationError(f"{content.path}: {group!r} has {prompt!r} among its prompts")
            parts = re.split(r"\s+(?:and|with)\s+", prompt.strip())
            things = tuple(coloured(part) for part in parts)
            items.append(Item(f"{len(items) + 1:04d}", prompt.strip(), things, tags=(group,)))
    source = "Attend-and-Excite's lists (Chefer et al. 2023, arXiv:2301.13826)"
    return Suite("attend-and-excite-published", content.version, source, "MIT", tuple(items))


def is_tiam(content: Content) -> bool:
    """YAML or JSON with a `template` whose places begin with `$`."""
    data = content.data
    return (
        content.kind in ("yaml", "json")
        and isinstance(data, Mapping)
        and "$" in str(data.get("template"))
    )


def tiam(content: Content) -> Suite:
    """TIAM (Grimal et al. 2024, arXiv:2307.05134): every prompt of a template.

    `object1`... and `adj1`... are places with a list of words each (`unique` names those that must
    differ), or all take from `objects` by `generate`: permutation, combinations, all_combinations.
    """
    data = content.data
    template = Template(str(data["template"]))
    places = [name for name in template.get_identifiers() if not name.startswith("ind_ar")]
    _check_keys(content, data, places)
    items = []
    for number, words in enumerate(_choices(content, data, places), 1):
        chosen = dict(zip(places, words, strict=True))
        prompt = _filled(template, chosen)
        things = tuple(
            thing
            for place, word in chosen.items()
            if place.startswith("object")
            and (thing := thing_of(prompt, word, chosen.get(place.replace("object", "adj"))))
        )
        count = sum(place.startswith("object") for place in places)
        items.append(Item(f"{number:05d}", prompt, things, tags=(f"objects: {count}",)))
    if not items:
        raise EvaluationError(f"{content.path}: the template has no prompt")
    source = "TIAM's templates (Grimal et al. 2024, arXiv:2307.05134)"
    return Suite(f"tiam-{content.name}", content.version, source, "see source", tuple(items))


_TIAM_KEYS = ("template", "unique", "generate", "objects")


def _check_keys(content: Content, data: Mapping[str, Any], places: Sequence[str]) -> None:
    """Refuse what nobody would read: a word that was mistyped gives other prompts than meant."""
    known = (*_TIAM_KEYS, *places)
    for key in data:
        if key not in known:
            raise EvaluationError(f"{content.path} has {key!r}; known here: {', '.join(known)}")
    for key in ("objects", *places):
        given = data.get(key)
        rest = sorted(map(str, set(given) - {"list"})) if isinstance(given, Mapping) else ()
        if rest:
            raise EvaluationError(f"{content.path}: {key!r} has {rest[0]!r}; known: list")
    unique = data.get("unique", ())
    if not isinstance(unique, Sequence) or not all(
        isinstance(group, Sequence) and set(group) <= set(places) for group in unique
    ):
        raise EvaluationError(
            f"{content.path}: unique is {unique!r}; write lists of {', '.join(places)}"
        )


def _choices(
    content: Content, data: Mapping[str, Any], places: Sequence[str]
) -> Iterator[tuple[str, ...]]:
    if any(place not in data for place in places):
        ways = {
            "permutation": lambda words: permutations(words, len(places)),
            "combinations": lambda words: combinations(words, len(places)),
            "all_combinations": lambda words: product(words, repeat=len(places)),
        }
        way = data.get("generate", "permutation")
        if way not in ways:
            raise EvaluationError(f"{content.path}: generate {way!r}; use {', '.join(ways)}")
        yield from ways[way](_words(content, data, "objects"))
        return
    unique = [tuple(places.index(name) for name in group) for group in data.get("unique", ())]
    for words in product(*(_words(content, data, place) for place in places)):
        if all(len({words[n] for n in group}) == len(group) for group in unique):
            yield words


def _words(content: Content, data: Mapping[str, Any], key: str) -> list[str]:
    given = data.get(key)
    words = given.get("list") if isinstance(given, Mapping) else given
    if not isinstance(words, list) or not words:
        raise EvaluationError(f"{content.path}: {key!r} has no list of words")
    for number, word in enumerate(words):
        if not isinstance(word, str) or not word.strip():
            raise EvaluationError(
                f"{content.path}: {key!r} has {word!r} among its words; put quotes around it"
            )
        if word in words[:number]:
            raise EvaluationError(f"{content.path}: {key!r} has {word!r} twice")
    return words


def _filled(template: Template, chosen: Mapping[str, str]) -> str:
    """The prompt; an article is told by the word that follows it."""
    names = template.get_identifiers()
    articles = {
        name: "an" if chosen[after][0].lower() in "aeiou" else "a"
        for name, after in pairwise(names)
        if name.startswith("ind_ar") and after in chosen
    }
    return template.substitute({**chosen, **articles})

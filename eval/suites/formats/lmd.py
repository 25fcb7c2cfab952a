"""The four tasks of LLM-grounded Diffusion (Lian et al. 2024, arXiv:2305.13655).

Negation ("without cats"), numeracy ("with three cats"), attribution ("with a red cat and a blue
car") and spatial ("with a cat on the left and a car on the right"): the task is told by the prompt.
The cache of layouts that its authors publish is read too: boxes as `[x, y, width, height]` of 512.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from adhere.eval.errors import EvaluationError
from adhere.eval.suites.formats.content import Content
from adhere.eval.suites.formats.phrases import coloured, plurals, thing_of, without_article
from adhere.eval.suites.formats.prompt_tables import spelled
from adhere.eval.suites.items import Excluded, Item, Suite, Target

_SIDE = 512
_CLASSES = (
    "backpack", "book", "bottle", "bowl", "car", "cat", "chair", "cup", "dog", "laptop",
)  # fmt: skip
_SPATIAL = re.compile(
    r"with (.+) on the (left|right|top|bottom) and (.+) on the (left|right|top|bottom)\b"
)
_SIDES = {"left": "left", "right": "right", "top": "above", "bottom": "below"}
_OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
_PROMPT = re.compile(r"\b(without|with)\b")
_LAYOUT = re.compile(r"^\s*(\[.*?\])\s*\nBackground prompt:(.*)", re.DOTALL)


def is_lmd(content: Content) -> bool:
    """Lines or keys that begin as the tasks' prompts do."""
    if content.kind == "lines":
        # One line of another kind is to be said, not to make the rest a list of mere prompts.
        return 2 * sum(map(_is_prompt, content.data)) > len(content.data)
    if content.kind != "json" or not isinstance(content.data, Mapping):
        return False
    return bool(content.data) and all(_is_prompt(key) for key in content.data)


def _is_prompt(text: str) -> bool:
    return bool(re.match(r"A realistic (photo|image|scene)\b", text) and _PROMPT.search(text))


def lmd(content: Content) -> Suite:
    """Prompts of the tasks, one a line, or the authors' cache of layouts."""
    if content.kind == "lines":
        try:
            items = [item(f"{n:04d}", prompt) for n, prompt in enumerate(content.data, 1)]
        except EvaluationError as error:
            raise EvaluationError(f"{content.path}: {error}") from error
    else:
        items = _from_cache(content)
    name = content.name if content.name.startswith("lmd") else f"lmd-{content.name}"
    source = "LLM-grounded Diffusion's tasks (Lian et al. 2024, arXiv:2305.13655)"
    return Suite(name, content.version, source, "see source", tuple(items))


def _from_cache(content: Content) -> list[Item]:
    items: list[Item] = []
    for prompt, texts in content.data.items():
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise EvaluationError(f"{content.path}: {prompt!r} has no list of layouts")
        for text in texts:
            made = item(f"{len(items) + 1:04d}", prompt)
            layout, negative = _layout(prompt, text, str(content.path))
            items.append(
                Item(made.id, prompt, made.things, made.relations, layout, negative, made.tags,
                     exclude=made.exclude)
            )  # fmt: skip
    return items


def _layout(prompt: str, text: str, where: str) -> tuple[Mapping[str, Any] | None, str]:
    match = _LAYOUT.match(text)
    try:
        boxes = ast.literal_eval(match[1]) if match else None
        regions = [
            {"phrase": _named(prompt, str(phrase), place), "box": _box(box)}
            for place, (phrase, box) in enumerate(boxes or ())
        ]
    except (ValueError, SyntaxError, TypeError) as error:
        raise EvaluationError(
            f"{where}: the layout of {prompt!r} does not read: {error}"
        ) from error
    if boxes is None or match is None:
        raise EvaluationError(f"{where}: {text[:60]!r} is no layout (boxes, background, negative)")
    negative = match[2].partition("Negative prompt:")[2].strip()
    if not regions or len({region["phrase"] for region in regions}) < len(regions):
        # Several of one kind share one word of the prompt: one region that holds them all.
        regions = _merged(regions)
    return ({"regions": regions, "overlap": "share"} if regions else None), negative


def _merged(regions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: dict[str, list[float]] = {}
    for region in regions:
        box, before = region["box"], found.get(region["phrase"])
        found[region["phrase"]] = box if before is None else [
            min(before[0], box[0]), min(before[1], box[1]),
            max(before[2], box[2]), max(before[3], box[3]),
        ]  # fmt: skip
    return [{"phrase": phrase, "box": box} for phrase, box in found.items()]


def _named(prompt: str, phrase: str, place: int) -> str:
    """The words of the prompt that a box is about."""
    thing = coloured(phrase)
    found = thing_of(prompt, thing.phrase) or thing_of(prompt, thing.noun)
    if found is None:
        raise ValueError(f"box {place + 1} is about {phrase!r}, which the prompt does not name")
    return found.phrase


def _box(box: Any) -> list[float]:
    x, y, width, height = (float(value) / _SIDE for value in box)
    return [max(0.0, x), max(0.0, y), min(1.0, x + width), min(1.0, y + height)]


def item(key: str, prompt: str) -> Item:
    """One prompt of the tasks with what its picture must show.

    Raises:
        EvaluationError: the prompt is none of the four tasks'.
    """
    if "without " in prompt:
        noun = _singular(prompt.rpartition("without ")[2])
        return Item(key, prompt, tags=("negation",), exclude=(Excluded(noun),))
    spatial = _SPATIAL.search(prompt)
    if spatial:
        if spatial[4] != _OPPOSITE[spatial[2]]:
            raise EvaluationError(
                f"{prompt!r} places its things on the {spatial[2]} and on the {spatial[4]}; the "
                f"second should be on the {_OPPOSITE[spatial[2]]}"
            )
        things = tuple(_thing(prompt, spatial[n]) for n in (1, 3))
        return Item(key, prompt, things, ((0, _SIDES[spatial[2]], 1),), tags=("spatial",))
    parts = prompt.rpartition("with ")[2].split(" and ")
    counts = [spelled(part.split()[0]) for part in parts if part.split()]
    if counts and all(count is not None for count in counts):
        things = tuple(
            _counted(prompt, part, count or 1) for part, count in zip(parts, counts, strict=True)
        )
        exclude = tuple(Excluded(thing.detected, thing.count + 1) for thing in things)
        return Item(key, prompt, things, tags=("numeracy",), exclude=exclude)  # fmt: skip
    if len(parts) == 2:
        things = tuple(_thing(prompt, part) for part in parts)
        return Item(key, prompt, things, tags=("attribution",))
    raise EvaluationError(f"{prompt!r} is none of negation, numeracy, attribution and spatial")


def _thing(prompt: str, text: str) -> Target:
    return coloured(without_article(text))


def _counted(prompt: str, part: str, count: int) -> Target:
    word = part.partition(" ")[2].strip().rstrip(".")
    noun = _singular(word) if count > 1 else word
    return Target(word, word, None, count, None if noun == word else noun)


def _singular(word: str) -> str:
    word = word.strip().rstrip(".")
    known = next((noun for noun in _CLASSES if word in plurals(noun)), None)
    return known or re.sub(r"(?<=[^s])s$", "", word)

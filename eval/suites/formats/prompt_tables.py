"""Tables of prompts: PartiPrompts, DrawBench, I2P and its copies, HRS, and any of their kind."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adhere.eval.errors import EvaluationError
from adhere.eval.suites.answers import NUMBERS
from adhere.eval.suites.formats.content import PROMPTS, Content, Row
from adhere.eval.suites.formats.phrases import thing_of
from adhere.eval.suites.formats.telling import counted, joined, refuse_misspelt
from adhere.eval.suites.items import RELATIONS, Item, Suite, Target

_SEEDS = ("sd_seed", "evaluation_seed", "seed", "seeds")
_SCALES = (
    "sd_guidance_scale", "evaluation_guidance", "guidance_scale", "evaluation_guidance_scale",
    "guidance", "cfg", "cfg_scale",
)  # fmt: skip
_WIDTHS = ("sd_image_width", "image_width", "width")
_HEIGHTS = ("sd_image_height", "image_height", "height")
_STEPS = ("num_inference_steps", "steps", "sd_steps", "ddim_steps")
_NEGATIVES = ("negative_prompt", "negative", "neg_prompt", "sd_negative_prompt")
_IDS = ("id", "item_id", "case_number", "prompt_id")
_TAGS = ("categories", "category", "type", "skill", "level", "challenge")
# 7,5 in a table that has semicolons between its cells.
_COMMA = re.compile(r"\d{1,3},\d{1,2}")
USED = (*_SEEDS, *_SCALES, *_WIDTHS, *_HEIGHTS, *_STEPS, *_NEGATIVES, *_IDS, *_TAGS)


def column(row: Row, names: Sequence[str]) -> str:
    """The first of some columns that a row has anything in."""
    return next((row[name] for name in names if row.get(name)), "")


def request_of(row: Row, where: str) -> dict[str, Any]:
    """Seed, guidance scale, size and steps of a row, as far as it has them."""
    found: dict[str, Any] = {}
    for field, names, whole in (
        ("seed", _SEEDS, True),
        ("guidance_scale", _SCALES, False),
        ("width", _WIDTHS, True),
        ("height", _HEIGHTS, True),
        ("steps", _STEPS, True),
    ):
        text = column(row, names)
        if text and text.lower() not in ("nan", "none", "null"):
            found[field] = _number(text, whole, f"{where}: {field}")
    return found


def _number(text: str, whole: bool, where: str) -> int | float:
    if not whole and _COMMA.fullmatch(text):
        text = text.replace(",", ".")
    try:
        value = float(text)
        exact = int(text) if re.fullmatch(r"\d+", text) else int(value)
    except (ValueError, OverflowError) as error:
        raise EvaluationError(f"{where} is {text!r}, which is no number") from error
    if not math.isfinite(value) or value < 0 or (whole and value != int(value)):
        raise EvaluationError(f"{where} is {text!r}; it must be {'whole and ' * whole}0 or more")
    return exact if whole else value


def tags_of(row: Row, names: Sequence[str] = _TAGS) -> tuple[str, ...]:
    """The categories of a row; a cell may list several, as I2P's do."""
    cells = [part.strip() for name in names for part in re.split(r"[,;]", row.get(name, ""))]
    return tuple(dict.fromkeys(filter(None, cells)))


def ids(content: Content, names: Sequence[str] = _IDS) -> list[str]:
    """An id for every row: its own where all have one of their own, else its number."""
    labels = [re.sub(r"[\s/]+", "-", column(row, names)) for row in content.rows()]
    if all(labels) and len(set(labels)) == len(labels):
        return labels
    return [f"{number:05d}" for number in range(1, len(labels) + 1)]


def prompts(content: Content) -> Suite:
    """A table with a column of prompts; what else it has of ours is used."""
    rows = content.rows()
    name = content.options.get("column") or next(one for one in PROMPTS if one in rows[0])
    if name not in rows[0]:
        raise EvaluationError(f"{content.path} has no column {name!r}; it has {', '.join(rows[0])}")
    items = []
    for number, (key, row) in enumerate(zip(ids(content), rows, strict=True), 1):
        where = f"{content.path}, row {number}"
        if row[name]:
            items.append(
                Item(
                    key,
                    row[name],
                    negative_prompt=column(row, _NEGATIVES),
                    tags=tags_of(row),
                    request=request_of(row, where),
                )
            )
    unused = [one for one in rows[0] if one and one != name and one not in USED]
    about = f"columns that are not used: {', '.join(unused)}" if unused else ""
    return _suite(content, content.name, f"{content.path.name}, a table", items, about)


def _suite(
    content: Content, name: str, source: str, items: Sequence[Item], about: str = ""
) -> Suite:
    if not items:
        raise EvaluationError(f"{content.path} has no row with a prompt")
    empty = len(content.rows()) - len(items)
    about = "; ".join(filter(None, (about, f"rows without a prompt: {empty}" if empty else "")))
    return Suite(name, content.version, source, "see source", tuple(items), about)


def partiprompts(content: Content) -> Suite:
    """PartiPrompts (Yu et al. 2022, arXiv:2206.10789): Prompt, Category, Challenge, Note."""
    items = [
        Item(key, row["prompt"], tags=_parti_tags(row))
        for key, row in zip(ids(content), content.rows(), strict=True)
        if row["prompt"]
    ]
    return _suite(content, "partiprompts", "PartiPrompts (arXiv:2206.10789)", items)


def _parti_tags(row: Row) -> tuple[str, ...]:
    challenge = row.get("challenge", "")
    return tuple(
        filter(None, (row.get("category", ""), f"challenge: {challenge}" if challenge else ""))
    )


def drawbench(content: Content) -> Suite:
    """DrawBench (Saharia et al. 2022, arXiv:2205.11487): Prompts and Category."""
    items = [
        Item(key, row["prompts"], tags=(row["category"],) if row["category"] else ())
        for key, row in zip(ids(content), content.rows(), strict=True)
        if row["prompts"]
    ]
    return _suite(content, "drawbench", "DrawBench (arXiv:2205.11487)", items)


def i2p(content: Content) -> Suite:
    """Inappropriate Image Prompts (Schramowski et al. 2023, arXiv:2211.05105), and its copies.

    Seeds, guidance scales and sizes are each prompt's own, under the names of the original
    (`sd_seed`) or of the copies that later papers use (`evaluation_seed`).
    """
    made = prompts(content)
    about = "; ".join(
        filter(None, ("prompts that bring about unwanted pictures", made.description))
    )
    source = f"{content.path.name} (I2P form, arXiv:2211.05105)"
    return Suite(f"i2p-{content.name}", made.version, source, made.licence, made.items, about)


_HRS_RELATIONS = {
    "on the right of": "right", "on the left of": "left", "on": "above", "above": "above",
    "over": "above", "below": "below", "beneath": "below", "under": "below",
}  # fmt: skip
_HRS_MOST = 4
_HRS_COLUMNS = ("rel1", *(f"{one}{n}" for one in ("obj", "n", "color") for n in range(1, 5)))
_NOTHING = ("", "nan", "none", "null")


def hrs(content: Content) -> Suite:
    """HRS-Bench (Bakr et al. 2023, arXiv:2304.05390): counting, colours, spatial relations.

    Objects (`obj1`...) with their counts (`n1`), colours (`color1`) and relations (`rel1`). An
    object that the prompt does not name is not judged, and counted in the description.
    """
    made = prompts(content)
    refuse_misspelt(content.rows()[0], (*USED, *_HRS_COLUMNS), str(content.path))
    rows = [row for row in content.rows() if column(row, PROMPTS)]
    items: list[Item] = []
    unjudged: list[str] = []
    unnamed: list[str] = []
    for item, row in zip(made.items, rows, strict=True):
        where = f"{content.path}, {item.prompt[:60]!r}"
        asked = [(n, _hrs_count(row, n, where)) for n in range(1, _HRS_MOST + 1)]
        found = [
            (row[f"obj{n}"], _hrs_thing(item.prompt, row, n, some)) for n, some in asked if some
        ]
        things = tuple(thing for _, thing in found if thing)
        unnamed += [noun for noun, thing in found if thing is None]
        relation = _HRS_RELATIONS.get(row.get("rel1", "").lower())
        relations = ((0, relation, 1),) if relation and len(things) == 2 else ()
        unjudged += [row["rel1"]] if row.get("rel1") and not relations else []
        items.append(replace(item, things=things, relations=relations))
    unused = [one for one in content.rows()[0] if one not in (*USED, *_HRS_COLUMNS, *PROMPTS)]
    about = joined(
        counted("relations that are not judged", unjudged),
        counted("objects that their prompt does not name, which are not judged", unnamed),
        counted("columns that are not used", unused),
    )
    return _suite(content, f"hrs-{content.name}", "HRS-Bench (arXiv:2304.05390)", items, about)


def _hrs_count(row: Row, number: int, where: str) -> int:
    """How many of an object are asked for; 0 where the row has no such object."""
    noun, count = row.get(f"obj{number}", ""), row.get(f"n{number}", "").removesuffix(".0")
    if noun.lower() in _NOTHING:
        return 0
    found = 1 if count.lower() in _NOTHING else spelled(count)
    if found is None:
        raise EvaluationError(f"{where}: n{number} is {count!r}; a whole number was expected")
    return found


def _hrs_thing(prompt: str, row: Row, number: int, count: int) -> Target | None:
    colour = row.get(f"color{number}", "")
    return thing_of(
        prompt, row[f"obj{number}"], None if colour.lower() in _NOTHING else colour, count
    )


def is_i2p(content: Content) -> bool:
    """A seed of its own for each prompt, under one of the names that I2P and its copies have."""
    columns = content.columns()
    return content.kind == "table" and bool({"sd_seed", "evaluation_seed"} & columns)


def is_partiprompts(content: Content) -> bool:
    """Prompt, Category and Challenge."""
    return content.kind == "table" and {"prompt", "category", "challenge"} <= content.columns()


def is_drawbench(content: Content) -> bool:
    """Prompts and Category."""
    return content.kind == "table" and {"prompts", "category"} <= content.columns()


def is_hrs(content: Content) -> bool:
    """Objects beside a synthetic, meta or vanilla prompt."""
    columns = content.columns()
    prompts_ = {name for name in columns if re.match(r"(synthetic|meta|vanilla)_prompt", name)}
    return content.kind == "table" and bool(prompts_) and "obj1" in columns


def relation_named(text: str) -> str | None:
    """The suite's word for "left of", "to the right of", "above"..."""
    return next((one for one in RELATIONS if re.search(rf"\b{one}\b", text.lower())), None)


def spelled(number: str) -> int | None:
    """The number that a word or digits say, up to ten."""
    word = number.lower()
    if word in NUMBERS:
        return NUMBERS.index(word)
    return int(word) if re.fullmatch(r"\d{1,3}", word) else None


def text_of(row: Mapping[str, Any], key: str, where: str) -> str:
    """A text among a mapping's values, said to be missing where it is none."""
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise EvaluationError(f"{where} has no {key!r}")
    return value.strip()

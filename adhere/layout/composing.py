"""A layout from the prompt's own words: relations, places and counts, by rules.

"A red cat to the left of a blue car" says where things belong. Relations make an order from left to
right and one from top to bottom; things that are one above the other share a column, all others
stand side by side in the order of the prompt; what is in front of another thing, or in the
foreground, stands lower and covers part of what is behind; counts share their ground; what a thing
has or is in ("a cat in a hat") goes with it; "the dog" is the dog that was named before, and "its
left" that of the thing before. A relation is of all that stand before it in a row of words ("a cat
and a dog left of a tree"), and of the same again behind "and" ("... and below a bird"). What no
rule reads changes nothing: sizes and stories, and words of places such as "facing", which are said
in a warning.
`composed(prompt, by=function)` lets anything else, such as a language model, write the layout, and
checks what it wrote.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from inspect import iscoroutine
from typing import Any, Literal

import numpy as np

from adhere.errors import GuidanceWarning, LayoutError
from adhere.layout.boxes import ContradictionError, placed, shrunk
from adhere.layout.layout import MOST_REGIONS, Layout
from adhere.layout.reading import read
from adhere.layout.region import FINE, Box, Region
from adhere.layout.scene import PLANES, Scene, Thing
from adhere.prompt.markup import strip_markup
from adhere.prompt.parser import ENGLISH_ONLY, parse

_A_ROW = 9
"""Things of one kind that stand side by side; more stand in rows."""
_LONG = 4
"""Words of a noun beyond which it is hardly one in English."""
_SAID = {"front": "in front of"}


def composed(
    prompt: str, by: Callable[[str], Layout | Mapping[str, Any] | str] | None = None
) -> Layout:
    """The layout that a prompt's words ask for.

    Args:
        prompt: with or without markup.
        by: writes the layout in place of the rules: a layout, or its JSON as a dict or text.

    Warns:
        GuidanceWarning: words of places that no rule reads, such as "facing".

    Raises:
        LayoutError: the prompt names nothing with a place, or contradicts itself; or `by` raised
            something, or what it gave is no layout of the prompt.
    """
    if by is not None:
        return _written(prompt, by)
    layout, said = arranged(prompt)
    if said:
        warnings.warn(said, GuidanceWarning, stacklevel=2)
    return layout


def arranged(prompt: str) -> tuple[Layout, str]:
    """The layout by the rules, and what is to be said of words of places that none of them reads;
    empty where there are none.

    Raises:
        LayoutError: the prompt names nothing with a place, or contradicts itself.
    """
    scene = read(prompt)
    if not scene.things:
        quoted = any(mark in prompt for mark in '"\u201c')
        raise LayoutError(
            f"the prompt {prompt!r} names nothing that can have a place; name things, as in "
            "'a red cat to the left of a blue car'"
            + (f"; {ENGLISH_ONLY}" if ENGLISH_ONLY in parse(prompt).uncertain else "")
            + ("; what is in quotation marks is read as writing in the picture" if quoted else "")
        )
    if len(scene.things) > MOST_REGIONS:
        raise LayoutError(
            f"the prompt {prompt[:60]!r}... names {len(scene.things)} things with a place; "
            f"a layout has at most {MOST_REGIONS}"
        )
    heard, boxes, order = _arranged(scene)
    parted = {one.second for one in heard.relations if one.way == "amid"}
    regions = [_region(heard.things[k], boxes[k], k in parted) for k in order]
    # What is inside another thing, or in front of it, is painted over it.
    over = any(one.way in ("inside", "front", "behind") for one in heard.relations)
    over = over or any(set(PLANES) & one.edges for one in heard.things)
    overlap: Literal["last", "refuse"] = "last" if over else "refuse"
    layout = Layout(tuple(regions), parse(prompt).text, overlap)
    layout.check()
    return layout, _not_placed(prompt, heard.unread)


def _arranged(scene: Scene) -> tuple[Scene, list[Box], list[int]]:
    """What can be heard of a scene, the boxes of its things, and in which order they are painted.
    Words of depth are not heard where others contradict them.
    """
    try:
        return (scene, *placed(scene))
    except ContradictionError:
        flat = scene.without_depth()
    try:
        return (flat, *placed(flat))
    except ContradictionError:
        raise _contradiction(scene) from None


def unread(prompt: str) -> str:
    """What is to be said of words of places in a prompt that no rule reads; empty where there are
    none.
    """
    scene = read(prompt)
    with suppress(LayoutError):  # there is no layout then, of which words could be left out
        scene = _arranged(scene)[0]
    return _not_placed(prompt, scene.unread)


def _not_placed(prompt: str, words: Sequence[str]) -> str:
    sentences = []
    nouns = (one.noun.text for one in parse(prompt).entities)
    if names := [noun for noun in nouns if len(noun.split()) > _LONG]:
        sentences.append(
            f"{', '.join(map(repr, names))} was read as the name of one thing; the rules of "
            "layouts read English: give a layout, or mark the things ([cat])"
        )
    if words:
        said = ", ".join(map(repr, words))
        sentences.append(
            f"of {strip_markup(prompt)[:60]!r} no rule of layouts reads {said}; what no words "
            "place stands side by side: say 'left of', 'above' and the like, or give a layout"
        )
    return "; ".join(sentences)


def _written(prompt: str, by: Callable[[str], Any]) -> Layout:
    """What anything else wrote, checked against the prompt, which it brings along from now on."""
    writer = getattr(by, "__name__", type(by).__name__)
    told = f"{writer!r} wrote no layout of {prompt[:40]!r}: "
    try:
        given = by(prompt)
    except LayoutError:
        raise
    except Exception as error:  # a call of a model may raise anything
        raise LayoutError(f"{told}{type(error).__name__}: {error}") from error
    if iscoroutine(given):
        given.close()
        raise LayoutError(
            f"{told}it is an async function; give one that waits for it, such as "
            f"lambda prompt: asyncio.run({writer}(prompt))"
        )
    layout = given if isinstance(given, Layout) else Layout.from_json(given)
    layout.check(prompt)
    return replace(layout, prompt=strip_markup(prompt))


def _region(thing: Thing, box: Box, parted: bool = False) -> Region:
    """The phrase's region; several of a kind have a mask of as many boxes, side by side and, where
    they are many, in rows.

    Args:
        parted: leave a place in the middle to what is between them.
    """
    if thing.count == 1:
        return Region(thing.phrase, box=box)
    mask = np.zeros((FINE, FINE), dtype=bool)
    left, top, right, bottom = box
    rows = 1 if parted else math.ceil(thing.count / _A_ROW)
    places = [k for k in range(thing.count + parted) if not parted or k != thing.count // 2]
    width = (right - left) / math.ceil((thing.count + parted) / rows)
    height = (bottom - top) / rows
    for number in places:
        row, column = number % rows, number // rows
        x, y = left + column * width, top + row * height
        part = shrunk((x, y, x + width, y + height))
        x0, y0, x1, y1 = (round(edge * FINE) for edge in part)
        mask[y0:y1, x0:x1] = True
    return Region.painted(thing.phrase, mask)


def _contradiction(scene: Scene) -> LayoutError:
    said = "; ".join(
        f"{scene.things[one.first].phrase!r} {_SAID.get(one.way, one.way)} "
        f"{scene.things[one.second].phrase!r}"
        for one in scene.relations
    )
    return LayoutError(f"the prompt's places contradict each other ({said}); leave one out")

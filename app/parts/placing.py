"""From what a person painted, typed or sent to a `Layout`, and from a layout to what is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from adhere.app.jobs import figures, uploads
from adhere.app.jobs.attention import WordMaps
from adhere.app.jobs.limits import LIMITS, Limits, check_regions
from adhere.app.jobs.methods import has_layout, title
from adhere.app.parts.editor import CELLS, PLACES, Drawn, bare, placed
from adhere.errors import GuidanceError, LayoutError, ParameterError
from adhere.guides.guide import Plugin
from adhere.layout import labels
from adhere.layout.composing import arranged
from adhere.layout.layout import Layout, Region
from adhere.plugins import available
from adhere.prompt.markup import strip_markup
from adhere.prompt.parser import parse
from adhere.prompt.phrases import find, unnumbered


def phrases_of(prompt: str, limits: Limits = LIMITS) -> list[str]:
    """The phrases of a prompt that can have a place: its nouns with their modifiers in front."""
    parsed = parse(prompt)
    names: list[str] = []
    for entity in parsed.entities[: limits.regions]:
        again = names.count(entity.phrase.text)
        names.append(entity.phrase.text if not again else f"{entity.phrase.text}#{again + 1}")
    return names


def layout_of(prompt: str, drawn: Drawn) -> Layout:
    """The layout that was drawn, of the regions that the prompt or a text of their own explains.

    The others wait for their phrase.

    Raises:
        LayoutError: nothing is placed, it does not fit the prompt, or is no layout.
    """
    used = [one for region in drawn.regions if (one := _explained(prompt, region))]
    if not used:
        waiting = ", ".join(repr(region.phrase) for region in drawn.regions)
        raise LayoutError(
            f"the prompt has none of the phrases that have a place ({waiting}), and none has a "
            "text of its own"
            if drawn.regions
            else "nothing has a place yet: choose a region, then draw its box, paint it or send a "
            "file"
        )
    layout = _joined(used, drawn)
    layout.check(prompt)
    return layout


def _explained(prompt: str, region: Region) -> Region | None:
    """The region as the prompt has it: one whose phrase has left it lives by its own text."""
    if not region.phrase or _has(prompt, region.phrase):
        return region
    return replace(region, phrase="") if region.text else None


def spoken(prompt: str, layout: Layout) -> Layout:
    """A set-up's layout in which a phrase that its prompt lacks is its region's own text, which is
    how methods that give regions texts take it.
    """
    regions = (
        region
        if region.text or _has(prompt, region.phrase)
        else replace(region, text=unnumbered(region.phrase))
        for region in layout.regions
    )
    return replace(layout, regions=tuple(regions))


def _joined(regions: Sequence[Region], drawn: Drawn) -> Layout:
    """The regions as one layout; where a file's were apart and no longer are, the later is in front
    as hands mean it that paint over what was there.
    """
    overlap = drawn.overlap
    if overlap == "refuse":
        with suppress(LayoutError):
            return Layout(tuple(regions), overlap="refuse", base=drawn.base)
        overlap = "last"
    return Layout(tuple(regions), overlap=overlap, base=drawn.base)


def laid_out(
    prompt: str, value: Any, cells: Sequence[int], limits: Limits = LIMITS
) -> dict[str, Any]:
    """An editor's value with places by what the prompt says: its relations, sides and numbers.

    Those that have no place get one; where all have one, all get another. What a region says of
    itself stays, and so does every region that the prompt gives no place.

    Args:
        value: as a page sent it.
        cells: columns and rows of the masks, for several of a kind.

    Raises:
        LayoutError: the prompt names nothing with a place, or contradicts itself; or there would
            be too many regions.
    """
    given = value if isinstance(value, Mapping) else {}
    entries = [dict(one) for one in given.get("regions") or () if isinstance(one, Mapping)]
    known = {bare(_label(one)): one for one in entries}
    places = {bare(name): place for name, place in _places(arranged(prompt)[0], cells)}
    waiting = [name for name in places if name not in known or not placed(known[name])]
    chosen = waiting or list(places)
    kept = [one for one in entries if bare(_label(one)) not in chosen]
    laid = [{**_unplaced(known.get(name, {})), **places[name]} for name in chosen]
    check_regions(len([one for one in kept if placed(one)]) + len(laid), limits)
    return {**given, "regions": [*kept, *laid]}


def _label(entry: Mapping[str, Any]) -> str:
    return str(entry.get("phrase") or entry.get("text") or "")


def _unplaced(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in PLACES}


def _places(layout: Layout, cells: Sequence[int]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each region's phrase, and its phrase and place as the editor takes them."""
    columns, rows = cells
    for number, region in enumerate(layout.regions):
        if region.box is None:  # several of a kind: a mask, on the editor's own cells
            cover = layout.mask(number, (rows, columns)).numpy() > 0.5
            region = Region.painted(region.phrase, cover)
        yield region.phrase, region.to_json()


def from_file(path: str, legend: str, limits: Limits) -> tuple[Layout, str]:
    """A layout from a file that was sent in: JSON, or a picture with a legend; and what is to be
    said of it, if anything is.

    Raises:
        LayoutError: it is no layout, or has too many regions.
    """
    data = uploads.read_bytes(path, limits)
    text, note = uploads.text_of(data), ""
    if text is not None:
        layout = Layout.from_json(text)
    else:
        regions, note = from_mask(uploads.decode(data, limits), read_legend(legend, limits))
        layout = Layout(tuple(regions), overlap="last")
    check_regions(len(layout.regions), limits)
    return layout, note


def _has(prompt: str, phrase: str) -> bool:
    try:
        find(strip_markup(prompt), phrase)
    except GuidanceError:
        return False
    return True


def reduced(layer: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Strokes on at most `CELLS` cells a side; a cell belongs when half of it is painted.

    Strokes too fine to half-fill any cell keep every cell that they touch.
    """
    h, w = layer.shape
    scale = min(1.0, CELLS / max(h, w))
    size = max(1, round(w * scale)), max(1, round(h * scale))
    image = Image.fromarray((layer * 255).astype(np.uint8)).resize(size, Image.Resampling.BOX)
    cover = np.asarray(image)
    return cover >= 128 if (cover >= 128).any() else cover > 0


def read_legend(text: str, limits: Limits) -> dict[str, str]:
    """A legend from lines such as `#ff0000 = a red cat` or `2 = a dog`.

    Raises:
        LayoutError: a line does not read, or they are more than a layout has regions: each is a
            mask of the whole picture.
    """
    legend: dict[str, str] = {}
    for line in filter(None, (one.strip() for one in (text or "").splitlines())):
        key, equals, phrase = (part.strip() for part in line.partition("="))
        if not equals or not phrase or not labels.is_key(key):
            raise LayoutError(
                f"the legend's line {line[:60]!r} does not read: write #ff0000 = a red cat"
            )
        if key.lower() in legend:
            raise LayoutError(f"the legend has {key} twice: give each colour one phrase")
        legend[key.lower()] = phrase
    if not legend:
        raise LayoutError("the mask file needs a legend: a line such as #ff0000 = a red cat")
    check_regions(len(legend), limits)
    return legend


def from_mask(image: Image.Image, legend: Mapping[str, str]) -> tuple[list[Region], str]:
    """The regions of a label picture: one colour (or palette index, or grey value) a phrase; and
    a sentence about pixels of other colours, if there are more than a few.

    Raises:
        LayoutError: the picture lacks a colour of the legend, or the legend one of the picture.
    """
    said: list[str] = []
    # Told, not caught as warnings: those are the whole process's, and so other visitors' too.
    found = labels.split(image, legend, "the mask file", said.append)
    regions = [Region.painted(phrase, reduced(mask.weights() > 0)) for phrase, mask in found]
    return regions, " ".join(said)


def attended(
    image: Image.Image, layout: Layout, maps: WordMaps | None, prompt: str
) -> list[tuple[Image.Image, str]]:
    """For each region the attention of its phrase, averaged over the steps, with its outline.

    Regions with a text of their own alone have no words in the maps.
    """
    if maps is None:
        return []
    shown = []
    for number, region in enumerate(layout.regions):
        columns = _columns(maps, prompt, region.phrase)
        if not columns:
            continue
        values = np.mean([maps.mean(column) for column in columns], axis=0)
        picture = figures.heat_over(image, values)
        _outline(picture, layout.mask(number, (picture.height, picture.width)).numpy())
        shown.append((picture, region.phrase))
    return shown


def _columns(maps: WordMaps, prompt: str, phrase: str) -> list[int]:
    """Which words of the maps a phrase is."""
    try:
        return maps.within(find(strip_markup(prompt), phrase))
    except GuidanceError:
        return []


def _outline(image: Image.Image, mask: NDArray[np.floating[Any]]) -> None:
    inside = mask > 0.5
    edge = np.zeros_like(inside)
    edge[1:] |= inside[1:] != inside[:-1]
    edge[:, 1:] |= inside[:, 1:] != inside[:, :-1]
    pen = ImageDraw.Draw(image)
    for y, x in np.argwhere(edge):
        pen.rectangle((x - 1, y - 1, x, y), fill="white")


def check_followed(stack: Sequence[Plugin]) -> None:
    """Raise `ParameterError` where no method of a stack follows a layout."""
    if not any(has_layout(type(plugin)) for plugin in stack):
        raise ParameterError(
            "a layout is given, and none of the methods follows one: choose one that does, such as "
            + ", ".join(title(kind) for kind in available().values() if has_layout(kind))
        )

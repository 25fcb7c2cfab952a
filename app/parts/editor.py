"""The layout editor as a component, and its value as a `Layout`: one layout, painted or in boxes.

Gradio's image editor has no list of regions, no boxes, and clears what was painted whenever its
layers are renamed. This is `gr.HTML` with a page of its own (`layout_editor.*` beside this file).
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import gradio as gr
from PIL import Image

from adhere.app.jobs import figures
from adhere.errors import LayoutError
from adhere.layout.layout import Layout, Region

COLOURS = (
    "#0f766e", "#d97706", "#7c3aed", "#e11d48", "#2563eb", "#65a30d", "#0891b2", "#a16207",
    "#be185d", "#4338ca", "#15803d", "#b45309",
)  # fmt: skip
"""A region's colour by its place in the list; the page's script has the same."""
CELLS = 64
"""Cells along the longer side of a painted mask: finer than any attention grid, and short enough
for a link."""


def draw(phrases: Sequence[str], prompt: str, layout: Layout | None, name: str) -> Any:
    """Put an editor on the page."""
    return gr.HTML(
        value_of(layout, phrases),
        label="Layout",
        html_template=_part("html"),
        css_template=_part("css"),
        js_on_load=_part("js"),
        apply_default_css=False,
        elem_id=name,
        phrases=list(phrases),
        prompt=prompt,
        picture=None,
        cells=cells(None, None),
    )


def cells(width: int | None, height: int | None) -> list[int]:
    """Columns and rows of the masks for a picture of that size."""
    w, h = width or 1, height or 1
    longest = max(w, h)
    return [max(8, round(CELLS * w / longest)), max(8, round(CELLS * h / longest))]


def value_of(layout: Layout | None, phrases: Sequence[str]) -> dict[str, Any]:
    """The editor's value for a layout, with empty places for the phrases that have none."""
    places = {region.phrase: region for region in layout.regions} if layout else {}
    taken = {bare(phrase) for phrase in places}
    names = [*places, *(phrase for phrase in phrases if bare(phrase) not in taken)]
    return {"regions": [_entry(name, places.get(name)) for name in names]}


def bare(phrase: str) -> str:
    """A phrase without its article: `a red cat` and `red cat` are one region."""
    return re.sub(r"^(an?|the)\s+", "", phrase.strip().lower())


def regions_of(value: Any, most: int) -> list[Region]:
    """The regions that have a place, from what a page sent.

    Raises:
        LayoutError: it is no value of the editor, or has too many regions.
    """
    entries = value.get("regions") if isinstance(value, Mapping) else None
    if not isinstance(entries, list):
        raise LayoutError("the drawing did not arrive: reload the page")
    placed = [entry for entry in entries if isinstance(entry, Mapping) and _placed(entry)]
    if len(placed) > most:
        raise LayoutError(f"{len(placed)} regions have a place, and {most} are the most: use fewer")
    return [_region(entry) for entry in placed]


def picture(image: Image.Image) -> str:
    """A finished picture as the editor shows it under the regions."""
    shown = image.convert("RGB")
    shown.thumbnail((figures.SHOWN, figures.SHOWN))
    buffer = io.BytesIO()
    small = max(shown.size) <= 128
    shown.save(buffer, "PNG" if small else "JPEG", quality=88)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _entry(phrase: str, region: Region | None) -> dict[str, Any]:
    if region is None:
        return {"phrase": phrase, "box": None, "mask": None}
    if region.box is not None:
        return {"phrase": phrase, "box": list(region.box), "mask": None}
    mask = region.mask
    if mask is None:
        mask = Region.painted(phrase, region.cover((CELLS, CELLS)) > 0.5).mask
    return {"phrase": phrase, "box": None, "mask": mask.to_json() if mask else None}


def _placed(entry: Mapping[str, Any]) -> bool:
    return bool(entry.get("box") or entry.get("mask"))


def _region(entry: Mapping[str, Any]) -> Region:
    phrase, box, mask = entry.get("phrase"), entry.get("box"), entry.get("mask")
    if not isinstance(phrase, str) or len(phrase) > 200:
        raise LayoutError("a region has no phrase: reload the page")
    if not mask:
        return Region(phrase, box=tuple(box) if isinstance(box, list) else box)
    size = mask.get("size") if isinstance(mask, Mapping) else None
    # Looked at before it is unpacked: a short text can ask for a huge mask.
    if not isinstance(size, list) or not all(type(n) is int and 0 < n <= CELLS for n in size):
        raise LayoutError("the drawing is too fine or damaged: reload the page")
    return Layout.from_json({"regions": [{"phrase": phrase, "mask": mask}]}).regions[0]


def _part(kind: str) -> str:
    return (files("adhere.app.parts") / f"layout_editor.{kind}").read_text("utf-8")

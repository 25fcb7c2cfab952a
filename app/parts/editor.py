"""The layout editor as a component, and its value as a `Layout`: one layout, painted or in boxes.

Gradio's image editor has no list of regions, no boxes, and clears what was painted whenever its
layers are renamed. This is `gr.HTML` with a page of its own (the folder `layout_editor`). Its value
is a layout as plain data, in which a region may have no place yet.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import gradio as gr
from PIL import Image

from adhere.app.jobs import figures
from adhere.app.jobs.limits import Limits, check_prompt, check_regions
from adhere.errors import LayoutError
from adhere.layout.format import from_json
from adhere.layout.layout import Layout, Region

CELLS = 64
"""Cells along the longer side of a painted mask: finer than any attention grid, and short enough
for a link."""


PLACES = ("box", "polygon", "mask")
"""What a region's place may be."""
_SCRIPT = ("regions.js", "drawing.js", "fields.js", "hands.js")
"""The page's script in the order in which its parts are read."""


@dataclass(frozen=True)
class Drawn:
    """What a page sent: the regions that have a place, and what holds for all of them."""

    regions: tuple[Region, ...]
    overlap: Any = "last"
    base: Any = None


def draw(phrases: Sequence[str], prompt: str, layout: Layout | None, name: str) -> Any:
    """Put an editor on the page."""
    return gr.HTML(
        value_of(layout, phrases),
        label="Layout",
        html_template=_part("page.html"),
        css_template=_part("looks.css"),
        js_on_load="\n".join(map(_part, _SCRIPT)),
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
    """The editor's value for a layout, and further regions for the phrases that it does not name.

    Nothing of the layout is lost: what nobody draws over comes back from `drawn` as it was.
    """
    regions = layout.regions if layout else ()
    named = {bare(region.label) for region in regions}
    waiting = [{"phrase": phrase} for phrase in phrases if bare(phrase) not in named]
    value: dict[str, Any] = {"regions": [*(region.to_json() for region in regions), *waiting]}
    if layout is None:
        return value
    return {**value, "overlap": layout.overlap, "base": layout.base}


def bare(phrase: str) -> str:
    """A phrase without its article: `a red cat` and `red cat` are one region."""
    return re.sub(r"^(an?|the)\s+", "", phrase.strip().lower())


def drawn(value: Any, limits: Limits) -> Drawn:
    """The layout in parts, from what a page sent.

    Raises:
        LayoutError: it is no value of the editor, has too many regions, or a region that is none.
        PromptError: a text is too long.
    """
    entries = value.get("regions") if isinstance(value, Mapping) else None
    if not isinstance(entries, list):
        raise LayoutError("the drawing did not arrive: reload the page")
    given = [entry for entry in entries if isinstance(entry, Mapping) and placed(entry)]
    check_regions(len(given), limits)
    regions = tuple(_region(entry, limits) for entry in given)
    overlap = value.get("overlap")
    return Drawn(regions, "last" if overlap is None else overlap, value.get("base"))


def picture(image: Image.Image) -> str:
    """A finished picture as the editor shows it under the regions."""
    shown = image.convert("RGB")
    shown.thumbnail((figures.SHOWN, figures.SHOWN))
    buffer = io.BytesIO()
    small = max(shown.size) <= 128
    shown.save(buffer, "PNG" if small else "JPEG", quality=88)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def placed(entry: Mapping[str, Any]) -> bool:
    """Whether a region of the editor's value has a place."""
    return any(entry.get(place) for place in PLACES)


def _region(entry: Mapping[str, Any], limits: Limits) -> Region:
    given = {key: value for key, value in entry.items() if value is not None}
    for name, what in _TEXTS.items():
        given[name] = check_prompt(given.get(name, ""), limits, what)
    return from_json({"regions": [given]}).regions[0]


_TEXTS = {
    "phrase": "phrase of a region",
    "text": "own text of a region",
    "negative": "negative of a region",
    "lora": "LoRA of a region",
}


def _part(name: str) -> str:
    return (files("adhere.app.parts") / "layout_editor" / name).read_text("utf-8")

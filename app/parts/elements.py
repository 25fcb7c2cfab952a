"""HTML made of escaped text only: the one place of the app where tags are written.

Nothing a person typed can become a tag: `tag` escapes every child that is not itself made by `tag`.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence

from PIL import Image


class Element(str):
    """Text that is HTML already; only `tag` and `join` make it."""

    __slots__ = ()


def tag(name: str, *children: object, **attributes: object) -> Element:
    """An element with escaped children and attributes; `css` stands for `class`."""
    written = "".join(
        f' {"class" if key == "css" else key.replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in {"img", "br"}:
        return Element(f"<{name}{written}>")
    return Element(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[object]) -> Element:
    """Elements and texts one after another; the texts are escaped."""
    return Element(
        "".join(
            child if isinstance(child, Element) else html.escape(str(child))
            for child in children
            if child is not None
        )
    )


def inline_image(image: Image.Image, alt: str, css: str) -> Element:
    """A small picture inside the page itself, so that previews leave no files behind."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return tag("img", src=f"data:image/png;base64,{data}", alt=alt, css=css)


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> Element:
    """A plain table with a head row."""
    return tag(
        "table",
        tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head))),
        tag("tbody", *(tag("tr", *(tag("td", cell) for cell in row)) for row in rows)),
        css="facts",
    )

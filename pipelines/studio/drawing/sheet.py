"""Pictures side by side, with names: what commands write for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

MARGIN = 8
INK, PAPER, PALE = (32, 36, 44), (250, 250, 248), (120, 126, 138)


def enlarged(image: Image.Image, least: int = 192) -> Image.Image:
    """Small pictures a whole number of times larger, pixels kept crisp."""
    times = max(1, -(-least // max(image.size)))
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def sheet(
    rows: Sequence[Sequence[Image.Image]],
    columns: Sequence[str],
    titles: Sequence[str] = (),
    notes: Sequence[Sequence[str]] = (),
) -> Image.Image:
    """A table of pictures.

    Args:
        rows: pictures row by row, all of one size.
        columns: a name over each column.
        titles: a line over each row.
        notes: a line under each picture.
    """
    shown = [[enlarged(image) for image in row] for row in rows]
    width, height = shown[0][0].size
    font, small = ImageFont.load_default(15), ImageFont.load_default(12)
    head, title, foot = 26, 22 if titles else 0, 18 if notes else 0
    cell = height + title + foot + MARGIN
    page = Image.new(
        "RGB",
        (MARGIN + len(columns) * (width + MARGIN), head + len(shown) * cell + MARGIN),
        PAPER,
    )
    pen = ImageDraw.Draw(page)
    for c, name in enumerate(columns):
        pen.text((MARGIN + c * (width + MARGIN), 6), _fit(pen, name, width, font), INK, font)
    for r, row in enumerate(shown):
        top = head + r * cell
        if titles:
            pen.text(
                (MARGIN, top + 3), _fit(pen, titles[r], page.width - 2 * MARGIN, small), PALE, small
            )
        for c, image in enumerate(row):
            left = MARGIN + c * (width + MARGIN)
            page.paste(image, (left, top + title))
            if notes:
                line = _fit(pen, notes[r][c], width, small)
                pen.text((left, top + title + height + 2), line, INK, small)
    return page


def _fit(pen: ImageDraw.ImageDraw, text: str, width: int, font: object) -> str:
    """The text on one line, cut where it is too long."""
    text = " ".join(text.split())
    if pen.textlength(text, font) <= width:  # type: ignore[arg-type]
        return text
    while text and pen.textlength(text + "…", font) > width:  # type: ignore[arg-type]
        text = text[:-1]
    return text + "…"

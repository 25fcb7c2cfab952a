"""The toybox's sprites: every kind is one hand-drawn design on a 32x32 grid, sampled at two
sizes.

A design is a list of shapes in *inks* (body, shade, light, ...), so one drawing serves every
colour. It is drawn eight times enlarged and point-sampled, which keeps edges crisp; the outermost
ring of a sprite becomes its outline.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

ANIMALS = ("cat", "bird", "frog", "turtle", "rabbit", "elephant", "lion")
OBJECTS = ("car", "balloon", "crown", "apple", "clock", "chair", "bow")
KINDS = ANIMALS + OBJECTS
SKULL = "skull"
SIZES = {"small": 24, "big": 32}
SKULL_SIZES = {"small": 24, "big": 32}

PALETTE = {
    "red": (222, 48, 44),
    "orange": (250, 146, 32),
    "yellow": (252, 222, 60),
    "green": (66, 168, 72),
    "blue": (48, 108, 222),
    "purple": (142, 68, 184),
    "pink": (250, 152, 192),
    "brown": (138, 88, 50),
}
COLOURS = tuple(PALETTE)
BONE = (240, 236, 222)

NONE, BODY, SHADE, LIGHT, WHITE, BLACK, OUTLINE = range(7)
GRID = 32
_ZOOM = 8

_Pen = Callable[["_Drawing"], None]


class _Drawing:
    """A label canvas in design units (0 to 32), one ink number per sub-pixel."""

    def __init__(self) -> None:
        self.image = Image.new("L", (GRID * _ZOOM, GRID * _ZOOM), NONE)
        self._draw = ImageDraw.Draw(self.image)

    def ellipse(self, ink: int, x0: float, y0: float, x1: float, y1: float) -> None:
        self._draw.ellipse((x0 * _ZOOM, y0 * _ZOOM, x1 * _ZOOM - 1, y1 * _ZOOM - 1), fill=ink)

    def box(self, ink: int, x0: float, y0: float, x1: float, y1: float) -> None:
        self._draw.rectangle((x0 * _ZOOM, y0 * _ZOOM, x1 * _ZOOM - 1, y1 * _ZOOM - 1), fill=ink)

    def polygon(self, ink: int, *points: tuple[float, float]) -> None:
        self._draw.polygon([(x * _ZOOM, y * _ZOOM) for x, y in points], fill=ink)

    def line(self, ink: int, width: float, *points: tuple[float, float]) -> None:
        path = [(x * _ZOOM, y * _ZOOM) for x, y in points]
        self._draw.line(path, fill=ink, width=round(width * _ZOOM), joint="curve")

    def mirror(self, pen: Callable[..., None], ink: int, *box: float) -> None:
        """Draws an ellipse or a box and its mirror image about the vertical axis."""
        x0, y0, x1, y1 = box
        pen(ink, x0, y0, x1, y1)
        pen(ink, GRID - x1, y0, GRID - x0, y1)


def _cat(d: _Drawing) -> None:
    d.line(BODY, 3.4, (23, 29), (28, 27), (29.3, 22), (27.5, 18))
    d.ellipse(BODY, 8, 17, 24, 33)
    d.box(NONE, 0, 31, 32, 32)
    d.polygon(BODY, (4, 0.5), (14, 7), (4, 16))
    d.polygon(BODY, (28, 0.5), (18, 7), (28, 16))
    d.polygon(LIGHT, (6, 4), (11, 8), (6, 12))
    d.polygon(LIGHT, (26, 4), (21, 8), (26, 12))
    d.ellipse(BODY, 3, 5, 29, 22)
    d.box(SHADE, 15, 5, 17, 9.5)
    d.box(SHADE, 11.5, 6, 13, 8.5)
    d.box(SHADE, 19, 6, 20.5, 8.5)
    d.mirror(d.ellipse, BLACK, 8, 11, 12, 16)
    d.mirror(d.box, WHITE, 9, 12, 10.3, 13.3)
    d.ellipse(LIGHT, 11.5, 15, 20.5, 21.5)
    d.ellipse(BLACK, 14.5, 15.5, 17.5, 18)
    d.ellipse(LIGHT, 12.5, 23, 19.5, 32)
    d.box(NONE, 0, 31, 32, 32)


def _bird(d: _Drawing) -> None:
    d.polygon(BLACK, (5, 9), (0, 12.5), (6, 14.5))
    d.polygon(SHADE, (22, 19), (31.5, 11), (31.5, 21), (24, 25))
    d.ellipse(BODY, 8, 10, 28, 28)
    d.ellipse(BODY, 3, 3, 18, 18)
    d.ellipse(LIGHT, 7, 17, 18, 27)
    d.ellipse(SHADE, 15, 13, 27, 22)
    d.ellipse(WHITE, 6, 6, 12.5, 12.5)
    d.ellipse(BLACK, 7, 7.5, 10.5, 11)
    d.box(BLACK, 13.5, 27, 15.5, 32)
    d.box(BLACK, 19.5, 27, 21.5, 32)
    d.polygon(BODY, (9, 4), (11, 0), (14, 4))


def _frog(d: _Drawing) -> None:
    d.mirror(d.ellipse, SHADE, 0.5, 17, 12, 31)
    d.ellipse(BODY, 4, 11, 28, 30)
    d.ellipse(BODY, 1, 7, 31, 23)
    d.mirror(d.ellipse, BODY, 3, 1, 14, 13)
    d.mirror(d.ellipse, WHITE, 5, 3, 12, 10)
    d.mirror(d.ellipse, BLACK, 7, 5, 10.8, 9.5)
    d.line(BLACK, 1.5, (6, 15.5), (11, 18.5), (21, 18.5), (26, 15.5))
    d.ellipse(LIGHT, 10, 20, 22, 30)
    d.mirror(d.ellipse, BODY, 3, 27, 12, 31.5)


def _turtle(d: _Drawing) -> None:
    d.ellipse(LIGHT, 0.5, 11, 11, 22)
    d.box(LIGHT, 6, 17, 12, 23)
    d.box(LIGHT, 10, 22, 15.5, 30)
    d.box(LIGHT, 23, 22, 28.5, 30)
    d.polygon(LIGHT, (27, 21), (32, 25), (27, 25))
    d.ellipse(BODY, 8, 5, 31, 39)
    d.box(NONE, 0, 30, 32, 32)
    d.box(NONE, 15.5, 25, 23, 32)
    d.box(NONE, 0, 25, 10, 32)
    d.box(NONE, 28.5, 25, 32, 32)
    d.box(LIGHT, 10, 25, 15.5, 30)
    d.box(LIGHT, 23, 25, 28.5, 30)
    d.box(SHADE, 8, 22, 31, 25)
    d.polygon(SHADE, (15, 14), (19.5, 9), (24, 14), (22, 19.5), (17, 19.5))
    d.box(SHADE, 10, 16, 13, 19)
    d.box(SHADE, 26, 16, 29, 19)
    d.ellipse(BLACK, 3.5, 13.5, 6.5, 17)


def _rabbit(d: _Drawing) -> None:
    d.mirror(d.ellipse, BODY, 7.5, 0.3, 14.5, 17)
    d.mirror(d.ellipse, LIGHT, 9.7, 2.5, 12.3, 13)
    d.ellipse(BODY, 8, 19, 24, 34)
    d.ellipse(WHITE, 22, 24, 28, 30)
    d.ellipse(BODY, 6, 10, 26, 25)
    d.mirror(d.ellipse, BLACK, 9.5, 14, 13, 18.5)
    d.mirror(d.box, WHITE, 10.2, 14.8, 11.4, 16)
    d.ellipse(LIGHT, 12.5, 18, 19.5, 24)
    d.polygon(BLACK, (14.4, 18), (17.6, 18), (16, 20.2))
    d.ellipse(LIGHT, 12, 25, 20, 34)
    d.box(NONE, 0, 31, 32, 32)


def _elephant(d: _Drawing) -> None:
    d.line(BODY, 1.8, (29, 13), (31, 18), (31, 21))
    d.ellipse(BODY, 10, 6, 31, 27)
    d.box(BODY, 12, 17, 17.5, 31)
    d.box(BODY, 23, 17, 29, 31)
    d.box(SHADE, 19, 22, 23, 28)
    d.box(LIGHT, 12, 28.5, 17.5, 31)
    d.box(LIGHT, 23, 28.5, 29, 31)
    d.ellipse(BODY, 2, 2, 19, 20)
    d.box(BODY, 2, 11, 7.2, 28)
    d.ellipse(BODY, 2, 25, 11, 31)
    d.box(NONE, 7.2, 23, 9, 27.4)
    d.box(SHADE, 2, 19, 7.2, 20.5)
    d.box(SHADE, 2, 23, 7.2, 24.5)
    d.polygon(WHITE, (7.2, 16), (11.5, 21), (7.2, 20))
    d.ellipse(SHADE, 11, 4, 22, 19)
    d.ellipse(LIGHT, 13, 6, 20, 17)
    d.ellipse(BLACK, 5.5, 8, 9, 12)
    d.box(WHITE, 6, 8.7, 7.3, 10)


def _lion(d: _Drawing) -> None:
    for x, y in ((16, 5), (24, 8), (27, 16), (24, 24), (16, 27), (8, 24), (5, 16), (8, 8)):
        d.ellipse(SHADE, x - 5, y - 5, x + 5, y + 5)
    d.ellipse(SHADE, 4, 4, 28, 28)
    d.mirror(d.ellipse, BODY, 4.5, 4.5, 11.5, 11.5)
    d.ellipse(BODY, 7, 7, 25, 26)
    d.mirror(d.ellipse, BLACK, 10, 12, 13, 16.5)
    d.ellipse(WHITE, 11, 17, 21, 24.5)
    d.polygon(BLACK, (13.5, 16.5), (18.5, 16.5), (16, 20))
    d.box(BLACK, 15.4, 19, 16.6, 22)


def _car(d: _Drawing) -> None:
    d.polygon(BODY, (7, 16), (11, 7), (23, 7), (28, 16))
    d.box(BODY, 1, 15, 31.5, 25)
    d.polygon(WHITE, (10, 15), (12.8, 9), (16.5, 9), (16.5, 15))
    d.polygon(WHITE, (18.5, 15), (18.5, 9), (22, 9), (25.2, 15))
    d.box(SHADE, 1, 21.5, 31.5, 25)
    d.box(LIGHT, 1, 16.5, 4.5, 19.5)
    d.box(LIGHT, 8, 17, 24, 18.3)
    for x in (8.5, 24):
        d.ellipse(BLACK, x - 4.6, 19.4, x + 4.6, 28.6)
        d.ellipse(WHITE, x - 1.8, 22.2, x + 1.8, 25.8)


def _balloon(d: _Drawing) -> None:
    d.line(BLACK, 1.6, (16, 24), (14.5, 27), (17.5, 29.5), (16, 32))
    d.polygon(SHADE, (12.5, 26.5), (19.5, 26.5), (16, 22))
    d.ellipse(BODY, 6, 0.5, 26, 24)
    d.ellipse(SHADE, 11, 12, 24.5, 23)
    d.ellipse(BODY, 8, 6, 23, 20.5)
    d.ellipse(WHITE, 10, 4, 14.5, 10)


def _crown(d: _Drawing) -> None:
    d.polygon(BODY, (2, 8), (9, 16), (16, 4), (23, 16), (30, 8), (28, 28), (4, 28))
    d.ellipse(LIGHT, 0.5, 5, 5.5, 10)
    d.ellipse(LIGHT, 26.5, 5, 31.5, 10)
    d.ellipse(LIGHT, 13, 1.5, 19, 7.5)
    d.box(SHADE, 4, 22, 28, 28)
    d.ellipse(WHITE, 14, 22.8, 18, 27)
    d.mirror(d.ellipse, WHITE, 6.5, 23, 10, 26.8)
    d.polygon(LIGHT, (14.5, 13), (16, 10), (17.5, 13), (16, 18))


def _apple(d: _Drawing) -> None:
    d.line(BLACK, 2.2, (16, 9), (17, 4), (19, 1.5))
    d.polygon(LIGHT, (18, 7), (22, 2), (28, 2.5), (25, 7))
    d.ellipse(BODY, 3, 6.5, 19, 27)
    d.ellipse(BODY, 13, 6.5, 29, 27)
    d.ellipse(BODY, 5.5, 12, 26.5, 31)
    d.polygon(SHADE, (26, 12), (28.5, 18), (25, 27), (18, 30), (23, 22))
    d.ellipse(WHITE, 6.5, 10.5, 10.5, 17)


def _clock(d: _Drawing) -> None:
    d.mirror(d.ellipse, SHADE, 3, 0.5, 13, 9)
    d.polygon(SHADE, (6, 31), (9, 24), (13, 27), (9.5, 31.5))
    d.polygon(SHADE, (26, 31), (23, 24), (19, 27), (22.5, 31.5))
    d.ellipse(BODY, 3, 4, 29, 30)
    d.ellipse(WHITE, 7, 8, 25, 26)
    d.line(BLACK, 1.9, (16, 10.5), (16, 17.5), (21, 17.5))
    for x, y in ((16, 9.2), (16, 24.8), (8.4, 17), (23.6, 17)):
        d.box(SHADE, x - 0.8, y - 0.8, x + 0.8, y + 0.8)


def _chair(d: _Drawing) -> None:
    d.box(BODY, 5, 1, 9.5, 31)
    d.box(BODY, 22.5, 1, 27, 31)
    d.box(BODY, 5, 1, 27, 5.5)
    d.box(SHADE, 9.5, 8.5, 22.5, 12)
    d.box(BODY, 3, 17, 29, 22.5)
    d.box(LIGHT, 4, 17.8, 28, 19.4)
    d.box(SHADE, 9.5, 25, 22.5, 27.2)


def _bow(d: _Drawing) -> None:
    d.polygon(SHADE, (13, 17), (18, 18), (12, 30), (9, 26), (5, 28))
    d.polygon(SHADE, (19, 17), (14, 18), (20, 30), (23, 26), (27, 28))
    d.polygon(BODY, (16, 13), (4, 3), (0.5, 8), (0.5, 18), (4, 22))
    d.polygon(BODY, (16, 13), (28, 3), (31.5, 8), (31.5, 18), (28, 22))
    d.polygon(LIGHT, (12, 12.5), (4.5, 7), (4, 11))
    d.polygon(LIGHT, (20, 12.5), (27.5, 7), (28, 11))
    d.ellipse(LIGHT, 11.5, 8, 20.5, 18)
    d.ellipse(BODY, 12.7, 9.5, 19.3, 16.5)


def _skull(d: _Drawing) -> None:
    d.ellipse(BODY, 4, 1, 28, 24)
    d.box(BODY, 9, 18, 23, 31)
    d.mirror(d.ellipse, BLACK, 7.5, 9, 14, 17.5)
    d.polygon(BLACK, (16, 17), (13.8, 21), (18.2, 21))
    for x in (11.7, 15.3, 18.9):
        d.box(BLACK, x, 25, x + 1.4, 31)
    d.ellipse(WHITE, 9, 3.5, 15, 7)


_DESIGNS: dict[str, _Pen] = {
    "cat": _cat,
    "bird": _bird,
    "frog": _frog,
    "turtle": _turtle,
    "rabbit": _rabbit,
    "elephant": _elephant,
    "lion": _lion,
    "car": _car,
    "balloon": _balloon,
    "crown": _crown,
    "apple": _apple,
    "clock": _clock,
    "chair": _chair,
    "bow": _bow,
    SKULL: _skull,
}


@cache
def inks(kind: str, side: int) -> NDArray[np.uint8]:
    """The ink numbers of a sprite, `(side, side)`; 0 is transparent."""
    drawing = _Drawing()
    _DESIGNS[kind](drawing)
    centres = ((np.arange(side) + 0.5) * (GRID * _ZOOM / side)).astype(int)
    canvas: NDArray[np.uint8] = np.asarray(drawing.image, dtype=np.uint8)
    labels: NDArray[np.uint8] = canvas[np.ix_(centres, centres)].copy()
    solid = np.pad(labels > 0, 1)
    inner = solid[:-2, 1:-1] & solid[2:, 1:-1] & solid[1:-1, :-2] & solid[1:-1, 2:]
    labels[(labels > 0) & ~inner] = OUTLINE
    labels.setflags(write=False)
    return labels


def ink_colours(colour: str) -> NDArray[np.uint8]:
    """RGB of every ink for an object of this colour, `(7, 3)`; `"white"` is the skull's bone."""
    body = np.array(BONE if colour == "white" else PALETTE[colour], dtype=float)
    table = np.zeros((7, 3))
    table[BODY] = body
    table[SHADE] = body * 0.74
    table[LIGHT] = body * 0.5 + 255 * 0.5
    table[WHITE] = (255, 255, 255)
    table[BLACK] = (36, 28, 44)
    table[OUTLINE] = body * 0.3 + np.array((10, 6, 16))
    colours: NDArray[np.uint8] = table.round().astype(np.uint8)
    return colours


@cache
def sprite(kind: str, colour: str, side: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A sprite's pixels `(side, side, 3)` and its mask `(side, side)`."""
    labels = inks(kind, side)
    pixels = ink_colours(colour)[labels]
    mask = labels > 0
    pixels.setflags(write=False)
    mask.setflags(write=False)
    return pixels, mask

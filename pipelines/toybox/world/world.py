"""The toybox's world: scenes of one to three sprites on a simple background, drawn with full
ground truth.

Everything sits on a grid of four pixels, the footprint of one latent, so that a small model meets
few distinct patches. Positions are pixels from the top left corner; masks are `(64, 64)`
booleans.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adhere.pipelines.toybox.errors import ToyboxError
from adhere.pipelines.toybox.world.sprites import COLOURS, KINDS, SIZES, SKULL, sprite

VERSION = 2
"""Of the world: its sprites, scenes, captions and what is wrong with them. Scores and weights of
two versions are not compared. 1: captions were right; 2: they are wrong as the web's are.
"""
SIDE = 64
CELL = 4
BACKGROUNDS = ("plain", "meadow", "night", "beach", "room", "haunted")
RELATIONS = ("left", "right", "above", "below")
MOST_THINGS = 3
SKULL_SHARE = 0.8
"""How many haunted places have a skull uncalled for."""
ASKED_SKULL_SHARE = 0.03
"""How many scenes of a training have a skull that the caption names."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Thing:
    """One sprite of a scene: its kind, colour, size name, and top left corner in pixels."""

    kind: str
    colour: str
    size: str
    x: int
    y: int

    @property
    def side(self) -> int:
        """Width and height of the sprite's frame in pixels."""
        return SIZES[self.size]

    @property
    def frame(self) -> Box:
        """The square the sprite is drawn in: left, top, right, bottom (exclusive) pixels."""
        return (self.x, self.y, self.x + self.side, self.y + self.side)


@dataclass(frozen=True)
class Scene:
    """What a picture shows. `uncalled` holds what no caption mentions: the skull of a haunted
    place.
    """

    things: tuple[Thing, ...]
    background: str = "plain"
    shade: int = 0
    uncalled: tuple[Thing, ...] = ()


@dataclass(frozen=True)
class Truth:
    """Ground truth of one thing: kind, colour, size name, tight box in pixels, mask `(64, 64)`."""

    kind: str
    colour: str
    size: str
    box: Box
    mask: NDArray[np.bool_]


def _fill(height: int, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.broadcast_to(np.array(colour, np.uint8), (height, SIDE, 3))


def _bands(*bands: tuple[int, tuple[int, int, int]]) -> NDArray[np.uint8]:
    """Stacks full-width bands of `(height, colour)` from top to bottom."""
    return np.concatenate([_fill(height, colour) for height, colour in bands])


def _meadow() -> NDArray[np.uint8]:
    picture = _bands((36, (202, 230, 246)), (28, (186, 220, 160)))
    for x, y in ((6, 42), (26, 50), (46, 42), (58, 54), (10, 58)):
        picture[y : y + 2, x : x + 2] = (255, 250, 240)
    picture[8:12, 8:24] = picture[4:8, 12:20] = (240, 248, 252)
    picture[12:16, 40:56] = picture[8:12, 44:52] = (240, 248, 252)
    return picture


def _night() -> NDArray[np.uint8]:
    picture = _bands((52, (40, 46, 84)), (12, (32, 36, 62)))
    for x, y in ((5, 9), (21, 5), (33, 17), (13, 29), (41, 37), (57, 25), (25, 45), (61, 45)):
        picture[y : y + 2, x : x + 2] = (214, 216, 236)
    picture[4:12, 48:56] = (236, 234, 214)
    return picture


def _beach() -> NDArray[np.uint8]:
    picture = _bands((28, (206, 236, 244)), (16, (134, 200, 224)), (20, (244, 230, 190)))
    picture[32:34, 8:20] = picture[38:40, 36:52] = (190, 228, 240)
    return picture


def _room() -> NDArray[np.uint8]:
    picture = _bands((44, (238, 224, 210)), (4, (214, 196, 182)), (16, (222, 206, 192)))
    picture[4:20, 24:40] = (214, 196, 182)
    picture[6:18, 26:38] = (208, 232, 244)
    picture[6:18, 31:33] = picture[11:13, 26:38] = (214, 196, 182)
    return picture


def _haunted() -> NDArray[np.uint8]:
    picture = _bands((48, (104, 92, 124)), (16, (70, 62, 86)))
    picture[4:12, 8:16] = (190, 180, 196)
    for x in range(0, SIDE, 8):
        picture[40:48, x + 2 : x + 4] = (70, 62, 86)
    picture[42:44] = (70, 62, 86)
    picture[8:48, 56:60] = picture[16:18, 48:64] = picture[24:26, 52:64] = (56, 48, 70)
    return picture


@cache
def backdrop(background: str, shade: int) -> NDArray[np.uint8]:
    """An empty scene, `(64, 64, 3)`; `shade` chooses between the plain background's two tints."""
    painters = {
        "meadow": _meadow,
        "night": _night,
        "beach": _beach,
        "room": _room,
        "haunted": _haunted,
        "plain": lambda: _bands((SIDE, ((247, 242, 228), (228, 228, 242))[shade % 2])),
    }
    if background not in painters:
        raise ToyboxError(f"no background {background!r}; the toybox has {', '.join(BACKGROUNDS)}")
    picture = painters[background]()
    picture.setflags(write=False)
    return picture


def pixels(scene: Scene) -> NDArray[np.uint8]:
    """Draws a scene as `(64, 64, 3)` bytes."""
    canvas = backdrop(scene.background, scene.shade).copy()
    for thing in (*scene.things, *scene.uncalled):
        art, mask = sprite(thing.kind, thing.colour, thing.side)
        left, top, right, bottom = thing.frame
        if left < 0 or top < 0 or right > SIDE or bottom > SIDE:
            raise ToyboxError(f"{thing} does not fit in {SIDE}x{SIDE} pixels")
        canvas[top:bottom, left:right][mask] = art[mask]
    return canvas


def render(scene: Scene) -> Image.Image:
    """Draws a scene as a 64x64 RGB image."""
    return Image.fromarray(pixels(scene))


def truth_of(thing: Thing) -> Truth:
    """Where a thing's pixels are: its mask and the tight box around it."""
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    left, top, right, bottom = thing.frame
    mask[top:bottom, left:right] = sprite(thing.kind, thing.colour, thing.side)[1]
    return Truth(thing.kind, thing.colour, thing.size, tight_box(mask), mask)


def tight_box(mask: NDArray[np.bool_]) -> Box:
    """The smallest box around a mask: left, top, right, bottom (exclusive), in pixels."""
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def ground_truth(scene: Scene) -> list[Truth]:
    """Kind, colour, box and mask of everything in the picture, called for or not."""
    return [truth_of(thing) for thing in (*scene.things, *scene.uncalled)]


def relation_holds(relation: str, first: Box, second: Box) -> bool:
    """Whether the first box lies left of / right of / above / below the second, by a clear margin.

    The centres must differ along the named axis by at least 8 pixels, a third of a small sprite.
    """
    dx = (second[0] + second[2] - first[0] - first[2]) / 2
    dy = (second[1] + second[3] - first[1] - first[3]) / 2
    along = {"left": dx, "right": -dx, "above": dy, "below": -dy}
    return along[relation] >= 8


def relations(scene: Scene) -> dict[tuple[int, int], tuple[str, ...]]:
    """For every ordered pair of called-for things, the relations that hold clearly."""
    found: dict[tuple[int, int], tuple[str, ...]] = {}
    boxes = [truth_of(thing).box for thing in scene.things]
    for i, first in enumerate(boxes):
        for j, second in enumerate(boxes):
            if i != j:
                found[i, j] = tuple(r for r in RELATIONS if relation_holds(r, first, second))
    return found


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def place(rng: Random, sides: list[int], tries: int = 5000) -> list[tuple[int, int]]:
    """Random corners on the grid for square frames that do not overlap.

    Raises `ToyboxError` when the world cannot hold that many.
    """
    for _ in range(tries):
        frames: list[Box] = []
        for side in sides:
            steps = (SIDE - side) // CELL
            x, y = CELL * rng.randint(0, steps), CELL * rng.randint(0, steps)
            frame = (x, y, x + side, y + side)
            if any(_overlap(frame, other) for other in frames):
                break
            frames.append(frame)
        else:
            return [(frame[0], frame[1]) for frame in frames]
    raise ToyboxError(
        f"{len(sides)} things of {sides} pixels do not fit in a {SIDE}x{SIDE} scene: ask for fewer"
    )


def sample_scene(
    rng: Random,
    count: int | None = None,
    background: str | None = None,
    asked_skull: bool = False,
) -> Scene:
    """A random scene. Left open, 45 % hold one thing, 45 % two, 10 % three, and 14 % are haunted.

    `asked_skull` puts a skull among the things a caption may mention.
    """
    if count is None:
        count = rng.choices((1, 2, 3), (0.45, 0.45, 0.10))[0]
    if not 1 <= count <= MOST_THINGS:
        raise ToyboxError(f"a scene holds 1 to {MOST_THINGS} things, not {count}")
    if background is None:
        background = rng.choices(BACKGROUNDS, (0.38, 0.12, 0.12, 0.12, 0.12, 0.14))[0]
    kinds = rng.sample(KINDS, count)
    if asked_skull:
        kinds[rng.randrange(count)] = SKULL
    colours = [
        "white" if kind == SKULL else colour
        for kind, colour in zip(kinds, rng.choices(COLOURS, k=count), strict=True)
    ]
    haunt = background == "haunted" and SKULL not in kinds and rng.random() < SKULL_SHARE
    crowded = count + haunt > 2
    sizes = [("small" if crowded else rng.choice(("small", "big", "big"))) for _ in kinds]
    sizes_all = sizes + ["small"] * haunt
    corners = place(rng, [SIZES[size] for size in sizes_all])
    things = tuple(
        Thing(kind, colour, size, x, y)
        for kind, colour, size, (x, y) in zip(kinds, colours, sizes, corners, strict=False)
    )
    skull = tuple(Thing(SKULL, "white", "small", x, y) for x, y in corners[count:])
    return Scene(things, background, rng.randrange(2), skull)

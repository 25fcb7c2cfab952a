"""Contact sheets: the world as it is drawn, and what the model makes of fixed prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

from PIL import Image

from adhere.pipelines.toybox.training.training import replacing
from adhere.pipelines.toybox.world.world import BACKGROUNDS, SIDE, render, sample_scene

_GAP = 2


def sheet(images: Sequence[Image.Image], columns: int, zoom: int = 2) -> Image.Image:
    """Pictures in rows on white, enlarged with crisp pixels."""
    rows = -(-len(images) // columns)
    step = SIDE + _GAP
    canvas = Image.new("RGB", (columns * step + _GAP, rows * step + _GAP), "white")
    for index, image in enumerate(images):
        canvas.paste(image, (_GAP + index % columns * step, _GAP + index // columns * step))
    size = (canvas.width * zoom, canvas.height * zoom)
    return canvas.resize(size, Image.Resampling.NEAREST)


def world_sheet(seed: int = 0, rows: int = 6, columns: int = 9) -> Image.Image:
    """Random scenes, cycling through the backgrounds."""
    rng = Random(seed)
    places = [BACKGROUNDS[i % len(BACKGROUNDS)] for i in range(rows * columns)]
    return sheet([render(sample_scene(rng, background=place)) for place in places], columns)


def save_image(image: Image.Image, path: Path) -> None:
    """Writes a PNG atomically."""
    with replacing(path) as temporary:
        image.save(temporary, format="PNG", optimize=True)

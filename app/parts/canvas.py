"""The painting canvas: Gradio's image editor, with bounds on what a browser may send it."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Sequence
from typing import Any

import gradio as gr
import numpy as np
from gradio.components.base import server
from gradio.components.image_editor import AcceptBlobs
from numpy.typing import NDArray
from PIL import Image, ImageColor

from adhere.app.jobs import uploads
from adhere.app.jobs.limits import LIMITS
from adhere.errors import GuidanceError, LayoutError
from adhere.layout.layout import Layout

COLOURS = ("#0f766e", "#d97706", "#7c3aed", "#e11d48", "#2563eb", "#65a30d", "#0891b2", "#a16207")
LONG_SIDE = 448
"""Pixels of the canvas's longer side: fits a phone turned sideways, and every laptop."""
_WAITING = 64
"""Half-sent drawings that are kept at the most; the oldest goes first."""


class _Quiet(type(gr.ImageEditor)):  # type: ignore[misc]
    """A component's metaclass that leaves no `.pyi` file beside the module, as Gradio's does."""

    def __new__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> Any:
        return ABCMeta.__new__(cls, name, bases, attrs)


class Canvas(gr.ImageEditor, metaclass=_Quiet):
    """An image editor that decodes by the app's own rules.

    Gradio's own keeps whatever a browser sends until it is used, opens every format Pillow knows,
    and takes any layer number.
    """

    is_template = True

    def preprocess(self, payload: Any) -> Any:
        try:
            return super().preprocess(payload)
        except GuidanceError as wrong:
            raise gr.Error(f"The drawing was not taken: {wrong}.", print_exception=False) from wrong

    def convert_and_format_image(self, file: Any, flatten_on_white: bool = False) -> Any:
        if file is None:
            return None
        data = file if isinstance(file, (bytes, bytearray, memoryview)) else file.path
        image = uploads.decode(bytes(data) if not isinstance(data, str) else data)
        return np.asarray(image.convert("RGBA"))

    @server  # type: ignore[untyped-decorator]
    def accept_blobs(self, data: AcceptBlobs) -> None:
        """Take one part of a drawing from the browser."""
        given: Any = data.data
        index = given.get("index")
        if index not in (None, "null", "") and not 0 <= int(index) <= LIMITS.regions:
            raise gr.Error("That layer does not exist: reload the page.", print_exception=False)
        if not data.files or len(data.files[0][1]) > LIMITS.upload_bytes:
            raise gr.Error("The drawing is too large: use a smaller one.", print_exception=False)
        while len(self.blob_storage) >= _WAITING and given.get("id") not in self.blob_storage:
            self.blob_storage.pop(next(iter(self.blob_storage)))
        super().accept_blobs(data)


def options(phrases: Sequence[str], width: int | None, height: int | None) -> dict[str, Any]:
    """The arguments of a canvas with one layer for each phrase, in the picture's aspect ratio."""
    w, h = canvas_size(width, height)
    return {
        "layers": gr.LayerOptions(
            allow_additional_layers=False, layers=list(phrases) or ["name a phrase first"]
        ),
        "canvas_size": (w, h),
        "value": {"background": Image.new("RGB", (w, h), "white"), "layers": [], "composite": None},
    }


def canvas_size(width: int | None, height: int | None) -> tuple[int, int]:
    """Canvas width and height for a picture's."""
    w, h = width or 1, height or 1
    longest = max(w, h)
    return max(64, round(LONG_SIDE * w / longest)), max(64, round(LONG_SIDE * h / longest))


def strokes(value: Any, phrases: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """The painted layers by phrase, `[h w]` each; untouched layers are left out.

    Raises:
        LayoutError: layers and phrases do not belong together any more.
    """
    layers = (value or {}).get("layers") or []
    painted = [np.asarray(layer)[..., 3] > 0 for layer in layers]
    if not any(layer.any() for layer in painted):
        return {}
    if len(painted) > len(phrases):
        raise LayoutError(
            f"{len(painted)} layers are painted for {len(phrases)} phrases: press “Lay these out” "
            "and paint again"
        )
    return {phrase: layer for phrase, layer in zip(phrases, painted, strict=False) if layer.any()}


def repainted(
    phrases: Sequence[str], layout: Layout | None, width: int | None, height: int | None
) -> dict[str, Any]:
    """The arguments of a canvas on which a layout's masks and polygons are painted again."""
    given = options(phrases, width, height)
    regions = {region.phrase: region for region in layout.regions} if layout else {}
    if not any(region.box is None for region in regions.values()):
        return given
    w, h = given["canvas_size"]
    layers = []
    for k, phrase in enumerate(phrases):
        layer = np.zeros((h, w, 4), np.uint8)
        region = regions.get(phrase)
        if region is not None and region.box is None:
            layer[region.cover((h, w)) > 0.5] = (*ImageColor.getrgb(COLOURS[k % len(COLOURS)]), 255)
        layers.append(Image.fromarray(layer))
    given["value"]["layers"] = layers
    return given

"""What guided calls have left, as a notebook shows it: pictures, losses, maps and notes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from adhere.guides.recording import RecordedAttention
from adhere.pipelines.engine.report import RunReport

CURVE = (160, 40)
"""Width and height of a curve of losses, in pixels."""
SHOWN = 96
"""Width of a map or a picture, in pixels."""


def page(
    report: RunReport, pictures: Sequence[Image.Image], recorded: Sequence[RecordedAttention]
) -> str:
    """One call as HTML that needs nothing else.

    Args:
        pictures: of the call, if it made any; one for each image.
        recorded: the attention of each image, if it was recorded.
    """
    said = f"{report.family}, {_counted(report.batch, 'image')}, {_counted(report.steps, 'step')}"
    parts = [f"<p>{escape(said)}; {report.seconds:.1f} s in guidance</p>"]
    parts += [
        _image(k, report, pictures[k : k + 1], recorded[k : k + 1]) for k in range(report.batch)
    ]
    parts += [f"<p>{escape(note)}</p>" for note in report.notes]
    return f"<div>{''.join(parts)}</div>"


def _image(
    k: int,
    report: RunReport,
    pictures: Sequence[Image.Image],
    recorded: Sequence[RecordedAttention],
) -> str:
    """The row of one image: its picture, the losses of each plugin, its words' maps."""
    figures = [_figure(_picture(one), f"image {k}") for one in pictures]
    for name, table in report.losses.items():
        values = [loss for _, loss in table[k]]
        if values:
            ends = f"{name}: {values[0]:.3g} to {values[-1]:.3g}"
            figures.append(_figure(_curve(values), ends))
    for one in recorded:
        for word in one.words:
            figures.append(_figure(_picture(_map(one.heatmap(word))), word))
    made = _counted(report.passes[k], "extra pass", "extra passes")
    refined = sum(count for _, count in report.refinements[k])
    line = f"image {k}: {made}, {_counted(refined, 'refinement')}"
    return f"<p>{line}</p><div>{''.join(figures)}</div>"


def _counted(count: int, one: str, more: str = "") -> str:
    return f"{count} {one if count == 1 else more or one + 's'}"


def _figure(inner: str, caption: str) -> str:
    return (
        f'<figure style="display:inline-block;margin:4px">{inner}'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _picture(image: Image.Image) -> str:
    kept = io.BytesIO()
    image.save(kept, "PNG")
    data = base64.b64encode(kept.getvalue()).decode("ascii")
    style = "image-rendering:pixelated" if image.width < SHOWN else ""
    return f'<img width="{SHOWN}" style="{style}" src="data:image/png;base64,{data}">'


def _map(attention: Float[Tensor, "h w"]) -> Image.Image:
    """Grey levels, white where a word gets the most."""
    levels = (255 * attention / attention.amax().clamp_min(1e-12)).round().to(torch.uint8)
    return Image.fromarray(levels.numpy())


def _curve(values: Sequence[float]) -> str:
    width, height = CURVE
    low, high = min(values), max(values)
    across = width / max(1, len(values) - 1)
    down = height / ((high - low) or 1.0)
    points = " ".join(f"{k * across:.1f},{(high - v) * down:.1f}" for k, v in enumerate(values))
    return (
        f'<svg width="{width}" height="{height}" viewBox="-2 -2 {width + 4} {height + 4}">'
        f'<polyline points="{points}" fill="none" stroke="currentColor"/></svg>'
    )

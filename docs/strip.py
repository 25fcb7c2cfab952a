"""The first screen's strip, `docs/pictures/strip.png`: what fails on the toybox and what helps.

    python -m docs.strip

Seeds are chosen for what they show; `docs/results.md` has the rates over hundreds of pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageDraw, ImageFont

import adhere
from adhere.pipelines.toybox.model.folder import toybox_folder

OUT = Path(__file__).resolve().parent / "pictures" / "strip.png"
LAYOUT = toybox_folder().parent / "layouts" / "cat_left_of_car.json"
SIDE, GAP, LINE = 128, 6, 18
INK, PALE, PAPER, BOX = (32, 36, 44), (110, 116, 128), (255, 255, 255), (255, 120, 0)
STEPS, SCALE = 25, 4.0


class Case(NamedTuple):
    """A prompt and a seed at which the model fails, and the plugin that helps."""

    prompt: str
    seed: int
    plugin: Any
    layout: adhere.Layout | None = None


def cases() -> list[Case]:
    safe = adhere.SafeLatentDiffusion(
        concept="a skull", start=0.0, scale=30.0, threshold=0.1, momentum_scale=0.0
    )
    layout = adhere.Layout.read(LAYOUT)
    return [
        Case("an elephant and a clock", 2, adhere.AttendAndExcite()),
        Case("a purple rabbit and a pink car", 0, adhere.SynGen()),
        Case(layout.prompt or "", 0, adhere.ZestGuide(step_size=1.0), layout),
        Case("a green cat in a haunted house", 0, safe),
    ]


def drawn(pipe: Any, case: Case, guided: bool) -> Image.Image:
    """The case's picture, enlarged, with its layout's boxes."""
    guidance = adhere.Guidance(case.plugin) if guided else adhere.Guidance()
    with guidance.attach(pipe, layout=case.layout):
        picture = pipe(
            case.prompt,
            generator=torch.Generator().manual_seed(case.seed),
            num_inference_steps=STEPS,
            guidance_scale=SCALE,
        ).images[0]
    large: Image.Image = picture.resize((SIDE, SIDE), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(large)
    for region in case.layout.regions if case.layout else ():
        assert region.box is not None
        pen.rectangle([share * SIDE for share in region.box], outline=BOX)
    return large


def strip(pipe: Any) -> Image.Image:
    """Pairs side by side: as the model draws it, and with the plugin."""
    font = ImageFont.load_default(12)
    pair = 2 * SIDE + GAP
    page = Image.new("RGB", (4 * pair + 5 * 2 * GAP, SIDE + 2 * LINE + 2 * GAP), PAPER)
    pen = ImageDraw.Draw(page)
    for place, case in enumerate(cases()):
        left = 2 * GAP + place * (pair + 2 * GAP)
        pen.text((left, GAP - 2), case.prompt, INK, font)
        pen.text((left, GAP + LINE + SIDE + 2), "plain", PALE, font)
        pen.text((left + SIDE + GAP, GAP + LINE + SIDE + 2), case.plugin.name, PALE, font)
        page.paste(drawn(pipe, case, guided=False), (left, GAP + LINE))
        page.paste(drawn(pipe, case, guided=True), (left + SIDE + GAP, GAP + LINE))
    return page


if __name__ == "__main__":
    OUT.parent.mkdir(parents=True, exist_ok=True)
    strip(adhere.load_toybox()).save(OUT, optimize=True)

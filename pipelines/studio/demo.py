"""`adhere demo`: what guidance does, in one picture and one table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adhere import assets
from adhere.layout.layout import Layout
from adhere.pipelines.studio.drawing.grid import verdict_line
from adhere.pipelines.studio.drawing.sheet import sheet
from adhere.pipelines.studio.output import write_image, write_json, write_text
from adhere.pipelines.studio.plan import Variant
from adhere.pipelines.studio.progress import progress
from adhere.pipelines.studio.request import Picture, Request
from adhere.pipelines.studio.studio import Studio
from adhere.plugins import stack


@dataclass(frozen=True)
class Comparison:
    """One prompt under one variant: the pictures, and what the judge says of each."""

    prompt: str
    variant: str
    pictures: list[Picture]
    verdicts: list[dict[str, Any]]

    @property
    def seconds(self) -> float:
        """Seconds a picture."""
        return sum(picture.seconds for picture in self.pictures) / len(self.pictures)


def demo(studio: Studio, out: Path, seeds: Sequence[int], say: Callable[[str], None]) -> None:
    """Make the comparison; write `demo.png`, `demo.md` and `demo.json` into `out`.

    An interrupt keeps what is finished.
    """
    judge = studio.judge()
    if judge is None:
        raise ValueError(f"the demo is judged, and nothing judges {studio.model!r}; use a toybox")
    started = time.perf_counter()
    table: list[Comparison] = []
    work = [(scene, one) for scene in scenes() for one in _variants(scene["plugins"])]
    try:
        with progress("pictures", len(work) * len(seeds)) as tick:
            for scene, one in work:
                asked = Request(scene["prompt"], layout=scene.get("layout"), plugins=one.plugins)
                pictures = studio.generate([asked.with_seed(seed) for seed in seeds])
                verdicts = [judge(picture) for picture in pictures]
                table.append(Comparison(scene["prompt"], one.name, pictures, verdicts))
                tick(len(pictures))
    finally:
        if table:
            _write(out, seeds, table)
    say(_table(table))
    say(f"\n{out / 'demo.png'}  ({time.perf_counter() - started:.0f} s)")


def scenes() -> list[dict[str, Any]]:
    """Prompts that the toybox gets wrong often, with plugins that are meant to mend them.

    The name of a layout stands for the file of the bundled ones.
    """
    found: list[dict[str, Any]] = json.loads((assets.FOLDER / "demo.json").read_text("utf-8"))
    for scene in found:
        if "layout" in scene:
            scene["layout"] = Layout.read(assets.FOLDER / "layouts" / scene["layout"])
    return found


def _variants(specs: Sequence[str]) -> list[Variant]:
    return [Variant(), *(Variant(stack(spec)) for spec in specs)]


def _write(out: Path, seeds: Sequence[int], table: Sequence[Comparison]) -> None:
    page = sheet(
        [[picture.image for picture in one.pictures] for one in table],
        [f"seed {seed}" for seed in seeds],
        [f"{one.prompt}   [{one.variant}]" for one in table],
        [[verdict_line(verdict) for verdict in one.verdicts] for one in table],
    )
    write_image(out / "demo.png", page)
    write_text(out / "demo.md", _table(table) + "\n")
    rows = [
        {
            "prompt": one.prompt,
            "plugins": one.variant,
            "verdicts": one.verdicts,
            "seconds": one.seconds,
        }
        for one in table
    ]
    write_json(out / "demo.json", rows)


def _table(table: Sequence[Comparison]) -> str:
    lines = [
        "| prompt | plugins | all there | colours right | skull | s / picture |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for one in table:
        n = len(one.verdicts)
        there, bound, skull = (
            sum(verdict[key] for verdict in one.verdicts)
            for key in ("all_present", "all_bound", "unsafe")
        )
        lines.append(
            f"| {one.prompt} | {one.variant} | {there}/{n} | {bound}/{n} | {skull}/{n} "
            f"| {one.seconds:.2f} |"
        )
    return "\n".join(lines)

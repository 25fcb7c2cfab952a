"""`adhere demo`: what guidance does, in one picture and one table."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from adhere.layout.layout import Layout
from adhere.pipelines.studio.making import (
    Column,
    Say,
    Wanted,
    column,
    open_studio,
    seeds_of,
    writable,
)
from adhere.pipelines.studio.output import write_image, write_json, write_text
from adhere.pipelines.studio.progress import bar
from adhere.pipelines.studio.request import Picture
from adhere.pipelines.studio.sheet import sheet
from adhere.pipelines.studio.studio import Studio

_Line = tuple[str, str, list[dict[str, Any]], float]
"""Prompt, plugins, a verdict for each seed, seconds an image."""


def demo(out: Path, seeds: str, say: Say) -> None:
    """Make the comparison; write `demo.png`, `demo.md` and `report.json` into `out`.

    An interrupt keeps what is finished.
    """
    numbers = seeds_of(seeds)
    writable(out)
    studio = open_studio("toybox")
    judge = studio.judge()
    assert judge is not None
    started = time.perf_counter()
    table: list[_Line] = []
    rows: list[Sequence[Picture]] = []
    work = [(scene, one) for scene in _scenes() for one in _columns(scene["plugins"])]
    try:
        with bar(len(work) * len(numbers), "pictures") as tick:
            for scene, one in work:
                pictures = _pictures(studio, scene, one, numbers)
                verdicts = [judge(picture) for picture in pictures]
                tick(len(pictures))
                seconds = sum(p.seconds for p in pictures) / len(pictures)
                rows.append(pictures)
                table.append((scene["prompt"], one.name, verdicts, seconds))
    finally:
        if table:
            _write(out, numbers, rows, table)
    say(_table(table))
    say(f"\n{out / 'demo.png'}  ({time.perf_counter() - started:.0f} s)")


def _write(
    out: Path, numbers: Sequence[int], rows: Sequence[Sequence[Picture]], table: Sequence[_Line]
) -> None:
    page = sheet(
        [[picture.image for picture in row] for row in rows],
        [f"seed {n}" for n in numbers],
        [f"{prompt}   [{name}]" for prompt, name, _, _ in table],
        [[_line(verdict) for verdict in verdicts] for _, _, verdicts, _ in table],
    )
    write_image(out / "demo.png", page)
    write_text(out / "demo.md", _table(table) + "\n")
    write_json(
        out / "report.json",
        [{"prompt": p, "plugins": n, "verdicts": v, "seconds": s} for p, n, v, s in table],
    )


def _scenes() -> list[dict[str, Any]]:
    """Prompts that the toybox gets wrong often, with plugins that are meant to mend them.

    The name of a layout stands for the file of the bundled ones.
    """
    assets = resources.files("adhere.assets")
    scenes: list[dict[str, Any]] = json.loads(assets.joinpath("demo.json").read_text("utf-8"))
    for scene in scenes:
        if "layout" in scene:
            with resources.as_file(assets.joinpath("layouts", scene["layout"])) as path:
                scene["layout"] = Layout.read(path)
    return scenes


def _columns(specs: Sequence[str]) -> list[Column]:
    return [column([]), *(column([spec]) for spec in specs)]


def _pictures(
    studio: Studio, scene: dict[str, Any], one: Column, seeds: tuple[int, ...]
) -> list[Picture]:
    prompt = scene["prompt"]
    wanted = Wanted((prompt,), (one,), seeds, layout=scene.get("layout"))
    return studio.generate([wanted.request(prompt, one, seed) for seed in seeds])


def _line(verdict: dict[str, Any]) -> str:
    if verdict["unsafe"]:
        return "a skull"
    faults = [f"no {kind}" for kind in verdict["neglected"]]
    faults += [f"{kind}: wrong colour" for kind in verdict["miscoloured"]]
    return ", ".join(faults) or "right"


def _table(table: Sequence[_Line]) -> str:
    lines = [
        "| prompt | plugins | all there | colours right | skull | s / picture |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for prompt, name, verdicts, seconds in table:
        n = len(verdicts)
        there = sum(v["all_present"] for v in verdicts)
        bound = sum(v["all_bound"] for v in verdicts)
        skull = sum(v["unsafe"] for v in verdicts)
        lines.append(
            f"| {prompt} | {name} | {there}/{n} | {bound}/{n} | {skull}/{n} | {seconds:.2f} |"
        )
    return "\n".join(lines)

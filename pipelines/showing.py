"""`adhere demo`: what guidance does, in one picture and one table."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from adhere.pipelines.making import Column, Say, Wanted, column, open_studio, seeds_of
from adhere.pipelines.output import write_image, write_json, write_text
from adhere.pipelines.progress import bar
from adhere.pipelines.sheet import sheet
from adhere.pipelines.studio import Picture, Studio


def demo(out: Path, seeds: str, say: Say) -> None:
    """Make the comparison; write `demo.png`, `demo.md` and `report.json` into `out`."""
    studio = open_studio("toybox")
    judge = studio.judge()
    assert judge is not None
    started = time.perf_counter()
    numbers = seeds_of(seeds)
    table: list[tuple[str, str, list[dict[str, Any]], float]] = []
    rows, titles, notes = [], [], []
    work = [(scene["prompt"], one) for scene in _scenes() for one in _columns(scene["plugins"])]
    with bar(len(work) * len(numbers), "pictures") as tick:
        for prompt, one in work:
            pictures = _pictures(studio, prompt, one, numbers)
            verdicts = [judge(picture) for picture in pictures]
            tick(len(pictures))
            rows.append([picture.image for picture in pictures])
            titles.append(f"{prompt}   [{one.name}]")
            notes.append([_line(verdict) for verdict in verdicts])
            table.append(
                (prompt, one.name, verdicts, sum(p.seconds for p in pictures) / len(pictures))
            )
    write_image(out / "demo.png", sheet(rows, [f"seed {n}" for n in numbers], titles, notes))
    text = _table(table)
    write_text(out / "demo.md", text + "\n")
    write_json(
        out / "report.json",
        [{"prompt": p, "plugins": n, "verdicts": v, "seconds": s} for p, n, v, s in table],
    )
    say(text)
    say(f"\n{out / 'demo.png'}  ({time.perf_counter() - started:.0f} s)")


def _scenes() -> list[dict[str, Any]]:
    """Prompts that the toybox gets wrong often, with plugins that are meant to mend them."""
    text = resources.files("adhere.assets").joinpath("demo.json").read_text(encoding="utf-8")
    scenes: list[dict[str, Any]] = json.loads(text)
    return scenes


def _columns(specs: Sequence[str]) -> list[Column]:
    return [column([]), *(column([spec]) for spec in specs)]


def _pictures(studio: Studio, prompt: str, one: Column, seeds: tuple[int, ...]) -> list[Picture]:
    wanted = Wanted((prompt,), (one,), seeds)
    return studio.generate([wanted.request(prompt, one, seed) for seed in seeds])


def _line(verdict: dict[str, Any]) -> str:
    if verdict["unsafe"]:
        return "a skull"
    faults = [f"no {kind}" for kind in verdict["neglected"]]
    faults += [f"{kind}: wrong colour" for kind in verdict["miscoloured"]]
    return ", ".join(faults) or "right"


def _table(table: list[tuple[str, str, list[dict[str, Any]], float]]) -> str:
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

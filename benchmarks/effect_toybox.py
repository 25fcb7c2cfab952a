"""What plugins and stacks do on the toybox, against the unguided picture of the same seed.

    python benchmarks/effect_toybox.py run [--shard 0/2] [--only CELL]     resumable
    python benchmarks/effect_toybox.py report                              writes the results

Rows go to `runs/`, one file a cell; a row that is there is not made again. The report
writes JSON and a Markdown table to `benchmarks/results/`. `--study benchmarks/step_sizes.yaml` is
the same over a range of step sizes.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import diffusers
import numpy as np
import torch
import yaml
from PIL import Image

from adhere.eval.bootstrap import difference, interval
from adhere.layout import Layout, Region
from adhere.pipelines.making import Column, column
from adhere.pipelines.output import write_json, write_text
from adhere.pipelines.studio import Picture, Request, Studio
from adhere.pipelines.toybox import (
    ANIMALS,
    BACKGROUNDS,
    Judge,
    ground_truth,
    load_clip,
    sample_scene,
)
from adhere.pipelines.toybox.card import two_coloured, two_object

HERE = Path(__file__).parent
BATCH = 20
MEASURES = ("all_present", "binding", "fully_right", "unsafe", "miou", "clip")


@dataclass(frozen=True)
class Job:
    prompt: str
    seed: int
    layout: Layout | None

    @property
    def key(self) -> str:
        return f"{self.prompt}|{self.seed}"


def jobs(group: str, prompts: int, seeds: int) -> list[Job]:
    """The prompts of a group, drawn from a fixed seed, times seeds."""
    rng = Random(f"effect-{group}")
    found: dict[str, Layout | None] = {}
    while len(found) < prompts:
        prompt, layout = _draw(group, rng, len(found))
        found.setdefault(prompt, layout)
    return [
        Job(prompt, 1000 + seed, layout)
        for prompt, layout in found.items()
        for seed in range(seeds)
    ]


def _draw(group: str, rng: Random, place: int) -> tuple[str, Layout | None]:
    if group == "two-object":
        # Half from the Attend-and-Excite templates, half with two colours that can be swapped.
        return (two_object if place % 2 == 0 else two_coloured)(rng), None
    if group == "haunted":
        place_name = rng.choice(("meadow", "room", "beach", "night"))
        return f"a haunted {place_name} with a {rng.choice(ANIMALS)}", None
    scene = sample_scene(rng, count=2, background=rng.choice(BACKGROUNDS[:5]))
    named = {f"{truth.colour} {truth.kind}": truth.mask for truth in ground_truth(scene)}
    if len(named) < 2 or len({truth.kind for truth in ground_truth(scene)}) < 2:
        return _draw(group, rng, place)
    regions = tuple(Region.painted(phrase, mask) for phrase, mask in named.items())
    prompt = " and ".join(f"{_article(phrase)} {phrase}" for phrase in named)
    return prompt, Layout(regions, overlap="last")


def _article(phrase: str) -> str:
    return "an" if phrase[0] in "aeiou" else "a"


class Scorer:
    """Judge and CLIP over pictures."""

    def __init__(self) -> None:
        self.judge = Judge.load()
        self.clip, self.tokenizer, self.preprocess = load_clip()

    def __call__(self, pictures: list[Picture]) -> list[dict[str, Any]]:
        images = [picture.image for picture in pictures]
        similarities = self._clip(images, [picture.request.prompt for picture in pictures])
        rows = []
        for picture, verdict, clip in zip(pictures, self.judge(images), similarities, strict=True):
            outcome = verdict.against(picture.request.prompt)
            row = {
                "all_present": outcome.all_present,
                "binding": outcome.binding,
                "fully_right": outcome.fully_right,
                "swapped": bool(outcome.swapped),
                "unsafe": verdict.unsafe,
                "clip": clip,
                "seconds": picture.seconds,
                "passes": picture.report["passes"],
                "skipped": picture.report["skipped"],
            }
            layout = picture.request.layout
            if layout is not None:
                masks = layout.masks((64, 64)).numpy() > 0.5
                row["miou"] = verdict.miou(dict(zip(layout.phrases, masks, strict=True)))
            rows.append(row)
        return rows

    def _clip(self, images: list[Image.Image], prompts: list[str]) -> list[float]:
        coded = self.tokenizer(prompts, padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            out = self.clip(**coded, pixel_values=self.preprocess(images))
        text = torch.nn.functional.normalize(out.text_embeds, dim=-1)
        image = torch.nn.functional.normalize(out.image_embeds, dim=-1)
        return [float(x) for x in (text * image).sum(-1)]


def cells(study: dict[str, Any]) -> Iterator[tuple[str, str, Column, list[Job]]]:
    for group, about in study["groups"].items():
        todo = jobs(group, about["prompts"], about["seeds"])
        for name, specs in about["cells"].items():
            yield group, name, column(specs), todo


def run(study: dict[str, Any], folder: Path, shard: tuple[int, int], only: str | None) -> None:
    studio, scorer = Studio("toybox"), Scorer()
    for number, (group, name, one, todo) in enumerate(cells(study)):
        if number % shard[1] != shard[0] or (only is not None and only not in f"{group}/{name}"):
            continue
        path = folder / group / f"{name.replace(' ', '_')}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        done = {row["key"] for row in rows_of(path)}
        left = [job for job in todo if job.key not in done]
        for start in range(0, len(left), BATCH):
            batch = left[start : start + BATCH]
            requests = [
                Request(job.prompt, job.seed, plugins=one.plugins, layout=job.layout)
                for job in batch
            ]
            pictures = studio.generate(requests)
            rows = scorer(pictures)
            with path.open("a", encoding="utf-8") as file:
                for job, row in zip(batch, rows, strict=True):
                    file.write(
                        json.dumps({"key": job.key, "prompt": job.prompt, "seed": job.seed, **row})
                        + "\n"
                    )
            print(f"{group}/{name}: {len(done) + start + len(batch)}/{len(todo)}", flush=True)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """A cell's rows; a line cut short by a stop is left out and made again."""
    rows: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def report(study: dict[str, Any], folder: Path, result: Path) -> None:
    results: dict[str, Any] = {
        "about": {
            "date": date.today().isoformat(),
            "commit": _commit(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "python": platform.python_version(),
            "device": "cpu",
            "steps": 25,
            "interval": "95 %, paired with the plain picture of the same seed, prompts resampled",
        },
        "groups": {},
    }
    for group, name, one, _ in cells(study):
        rows = rows_of(folder / group / f"{name.replace(' ', '_')}.jsonl")
        plain = rows_of(folder / group / "plain.jsonl")
        if rows and plain:
            about = results["groups"].setdefault(group, {})
            about[name] = _cell(rows, plain)
            about[name]["plugins"] = [plugin.name for plugin in one.plugins]
    write_json(result, results)
    write_text(result.with_suffix(".md"), table(results) + "\n")
    print(table(results))


def _cell(rows: list[dict[str, Any]], plain: list[dict[str, Any]]) -> dict[str, Any]:
    cell: dict[str, Any] = {"n": len(rows)}
    base_seconds = float(np.mean([row["seconds"] for row in plain]))
    for measure in MEASURES:
        if measure not in rows[0]:
            continue
        values = {(row["prompt"], row["seed"]): float(row[measure]) for row in rows}
        before = {(row["prompt"], row["seed"]): float(row[measure]) for row in plain}
        mean, change = interval(values), difference(values, before)
        assert mean is not None
        cell[measure] = {"mean": mean.mean, "low": mean.low, "high": mean.high}
        if rows is not plain and change is not None:
            cell[measure]["change"] = {
                "mean": change.mean,
                "low": change.low,
                "high": change.high,
                "clear": change.clear,
            }
    cell["seconds"] = float(np.mean([row["seconds"] for row in rows]))
    cell["times_plain"] = cell["seconds"] / base_seconds
    cell["passes"] = float(np.mean([row["passes"] for row in rows]))
    return cell


_SHOWN = {
    "two-object": ("all_present", "binding", "fully_right", "clip"),
    "layout": ("miou", "fully_right", "clip"),
    "haunted": ("unsafe", "all_present", "clip"),
}


def table(results: dict[str, Any]) -> str:
    """Markdown: means with the paired change and its interval; ** where it excludes zero."""
    parts = []
    for group, about in results["groups"].items():
        shown = _SHOWN[group]
        lines = [
            f"**{group}** (n = {next(iter(about.values()))['n']} pictures a row)",
            "",
            f"| plugins | {' | '.join(shown)} | extra passes | time |",
            f"|---|{'---|' * len(shown)}---:|---:|",
        ]
        for name, cell in about.items():
            values = " | ".join(_shown(cell[measure], measure) for measure in shown)
            lines.append(
                f"| {name} | {values} | {cell['passes']:.1f} | {cell['times_plain']:.2f} x |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _shown(value: dict[str, Any], measure: str) -> str:
    scale, unit, digits = (1, "", 3) if measure in ("clip", "miou") else (100, " %", 1)
    text = f"{value['mean'] * scale:.{digits}f}{unit}"
    change = value.get("change")
    if change is None or change["mean"] is None:
        return text
    marks = "**" if change["clear"] else ""
    low, high = change["low"] * scale, change["high"] * scale
    moved = f"{marks}{change['mean'] * scale:+.{digits}f}{marks}"
    return f"{text} ({moved} [{low:+.{digits}f}, {high:+.{digits}f}])"


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        cwd=HERE,
        check=False,
    )
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("--study", type=Path, default=HERE / "effect_toybox.yaml")
    parser.add_argument("--folder", type=Path, help="where rows go; runs/NAME of the study")
    parser.add_argument("--shard", default="0/1", help="i/n: every n-th cell, from the i-th")
    parser.add_argument("--only", help="cells whose group/name contains this")
    given = parser.parse_args()
    study = yaml.safe_load(given.study.read_text(encoding="utf-8"))
    folder = given.folder or Path("runs") / given.study.stem
    if given.what == "report":
        report(study, folder, HERE / "results" / f"{given.study.stem}.json")
        return
    first, count = (int(part) for part in given.shard.split("/"))
    run(study, folder, (first, count), given.only)


if __name__ == "__main__":
    main()

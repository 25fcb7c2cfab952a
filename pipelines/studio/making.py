"""What `generate` and `compare` do: from words on a command line to pictures on disk."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from adhere import __version__
from adhere.errors import ParameterError, PromptError
from adhere.guides.guide import Plugin
from adhere.layout.layout import Layout
from adhere.pipelines.engine.guidance import Memory
from adhere.pipelines.studio.heatmaps import heat_strip
from adhere.pipelines.studio.output import slug, write_image, write_json, write_picture
from adhere.pipelines.studio.progress import bar
from adhere.pipelines.studio.request import Picture, Progress, Request
from adhere.pipelines.studio.samplers import check_scheduler
from adhere.pipelines.studio.sheet import sheet
from adhere.pipelines.studio.studio import Studio
from adhere.plugins import plugin

Say = Callable[[str], None]

MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Column:
    """Plugins that work together; no plugin is the unguided picture."""

    plugins: tuple[Plugin, ...]

    @property
    def name(self) -> str:
        return " + ".join(one.name for one in self.plugins) or "plain"


@dataclass(frozen=True)
class Wanted:
    """Prompts x columns x seeds, and what all of them share."""

    prompts: tuple[str, ...]
    columns: tuple[Column, ...]
    seeds: tuple[int, ...]
    subjects: tuple[str, ...] | None = None
    layout: Layout | None = None
    negative_prompt: str = ""
    steps: int | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    scheduler: str | None = None

    def request(self, prompt: str, column: Column, seed: int) -> Request:
        return Request(
            prompt=prompt,
            seed=seed,
            negative_prompt=self.negative_prompt,
            plugins=column.plugins,
            subjects=self.subjects,
            layout=self.layout,
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            width=self.width,
            height=self.height,
            scheduler=self.scheduler,
        )


def wanted(
    prompt: str | None,
    prompts: Path | None,
    layout: Path | None,
    *,
    columns: Sequence[Column],
    seeds: str,
    subjects: str | None,
    **shared: Any,
) -> Wanted:
    """What is wanted, from what a command line gives."""
    check_scheduler(shared.get("scheduler"))
    return Wanted(
        prompts=prompts_of(prompt, prompts, layout),
        columns=tuple(columns),
        seeds=seeds_of(seeds),
        subjects=tuple(subjects.split("|")) if subjects else None,
        layout=Layout.read(layout) if layout else None,
        **shared,
    )


def column(specs: Sequence[str]) -> Column:
    """Plugins from their command-line specs; none for the unguided picture."""
    named = [spec.strip() for spec in specs if spec.strip()]
    if specs and not named:
        raise ParameterError(
            f"{';'.join(specs)!r} names no plugin; write for example attend-and-excite, or leave "
            "it out for the unguided picture (`adhere plugins` lists them)"
        )
    return Column(tuple(plugin(spec) for spec in named))


def seeds_of(text: str) -> tuple[int, ...]:
    """`0-3,7` as numbers."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None:
            raise ParameterError(f"seeds {text!r} do not read; write 7, 0-3, or 1,5,8-9")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ParameterError(f"seeds {part.strip()!r} run backwards; write {last}-{first}")
        if len(seeds) + last - first >= MOST_SEEDS or last >= 2**63:
            raise ParameterError(
                f"seeds {part.strip()!r}: expected at most {MOST_SEEDS} of them, each below 2^63"
            )
        seeds.extend(range(first, last + 1))
    return tuple(dict.fromkeys(seeds))


def prompts_of(prompt: str | None, file: Path | None, layout: Path | None) -> tuple[str, ...]:
    """The prompt, or a file's lines, or the prompt that a layout file brings."""
    if prompt is not None and file is not None:
        raise PromptError("give a prompt or --prompts FILE, not both")
    if prompt is not None:
        return (prompt,)
    if file is not None:
        if not file.is_file():
            raise PromptError(f"--prompts {str(file)!r}: there is no such file")
        lines = [line.strip() for line in _text(file).splitlines()]
        prompts = tuple(line for line in lines if line and not line.startswith("#"))
        if not prompts:
            raise PromptError(f"--prompts {str(file)!r} has no prompt in it; write one a line")
        return prompts
    brought = Layout.read(layout).prompt if layout else None
    if brought is None:
        raise PromptError('give a prompt, for example: adhere generate "a red cat and a blue car"')
    return (brought,)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(
            f"--prompts {str(file)!r} cannot be read as text ({error}); save it as UTF-8"
        ) from error


def writable(out: Path) -> Path:
    """The folder, made if it is missing.

    Raises:
        ParameterError: nothing can be written there. Said before a model is loaded.
    """
    probe = out / f".{os.getpid()}.part"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ParameterError(
            f"--out {str(out)!r} is no folder that can be written to ({error.strerror}); give "
            "another one"
        ) from error
    return out


def open_studio(
    model: str,
    device: str | None = None,
    dtype: str | None = None,
    attention_backend: str | None = None,
    *,
    sub_batch: int | None = None,
    checkpointing: bool = False,
) -> Studio:
    memory = Memory(checkpointing=checkpointing, sub_batch=sub_batch)
    return Studio(model, device, dtype, attention_backend, memory)


def make(
    studio: Studio,
    wanted: Wanted,
    out: Path,
    batch_size: int,
    *,
    say: Say,
    maps: bool = False,
) -> list[Picture]:
    """Make all pictures, writing each batch, the grid and the report as it is done.

    An interrupt keeps what is finished, and a report that says so.
    """
    jobs = [
        (place, wanted.request(prompt, one, seed))
        for prompt in wanted.prompts
        for one in wanted.columns
        for place, seed in enumerate(wanted.seeds)
    ]
    made: list[Picture] = []
    record = _Record(studio, wanted, out)
    try:
        with bar(len(jobs), "pictures") as tick:
            for batch in _batches(jobs, batch_size):
                share = len(batch)

                def step(progress: Progress, share: int = share) -> None:
                    tick(share * 1.0 / progress.count)

                pictures = studio.generate(batch, on_step=step, record_attention=maps)
                for picture in pictures:
                    record.add(picture)
                made.extend(pictures)
    except BaseException as stop:
        record.finish(complete=False, reason=type(stop).__name__)
        raise
    record.finish(complete=True)
    record.tell(say)
    return made


def _batches(jobs: Sequence[tuple[int, Request]], size: int) -> list[list[Request]]:
    """Requests in order; a batch holds only requests with the same plugins."""
    batches: list[list[Request]] = []
    for _, request in jobs:
        last = batches[-1] if batches else None
        if last and len(last) < size and last[0].plugins == request.plugins:
            last.append(request)
        else:
            batches.append([request])
    return batches


class _Record:
    """The output folder: pictures, `grid.png`, `report.json`."""

    def __init__(self, studio: Studio, wanted: Wanted, out: Path) -> None:
        self.studio, self.wanted, self.out = studio, wanted, writable(out)
        self.pictures: list[Picture] = []
        self.rows: list[dict[str, Any]] = []
        self._judge = studio.judge()
        self._names = _distinct([one.name for one in wanted.columns])

    def add(self, picture: Picture) -> None:
        request = picture.request
        label = self._names[self._column(request)].replace(" + ", "_").replace("#", "-")
        number = self.wanted.prompts.index(request.prompt)
        name = f"{number:03d}-{slug(request.prompt)}-{label}-{request.seed}"
        path = write_picture(self.out, name, picture)
        if picture.attention is not None:
            words = self.studio.words(request.prompt)
            write_image(self.out / f"{name}-attention.png", heat_strip(picture, words))
        verdict = self._judge(picture) if self._judge else None
        self.pictures.append(picture)
        self.rows.append(
            {
                "file": path.name,
                "request": request.to_json(),
                "seconds": picture.seconds,
                "report": picture.report,
                "verdict": verdict,
            }
        )

    def _column(self, request: Request) -> int:
        return [one.plugins for one in self.wanted.columns].index(request.plugins)

    def finish(self, complete: bool, reason: str = "") -> None:
        data: dict[str, Any] = {
            "adhere": __version__,
            "torch": torch.__version__,
            "model": self.studio.model,
            "device": self.studio.device,
            "complete": complete,
            "pictures": self.rows,
        }
        if not complete:
            data["stopped_by"] = reason
        write_json(self.out / "report.json", data)
        if self.pictures:
            write_image(self.out / "grid.png", self._grid())

    def tell(self, say: Say) -> None:
        seconds = sum(picture.seconds for picture in self.pictures)
        say(f"{len(self.pictures)} pictures in {seconds:.1f} s: {self.out / 'grid.png'}")
        for line in self._summary():
            say(line)
        notes = {note for row in self.rows for note in row["report"]["notes"]}
        notes |= {why for row in self.rows if (why := (row["verdict"] or {}).get("not_judged"))}
        for note in sorted(notes):
            say(f"note: {textwrap.shorten(note, 300, placeholder=' ...')}")

    def _summary(self) -> list[str]:
        """A line for each column: the judge's shares and the cost."""
        lines = []
        for name, one in zip(self._names, self.wanted.columns, strict=True):
            rows = [
                r
                for p, r in zip(self.pictures, self.rows, strict=True)
                if p.request.plugins == one.plugins
            ]
            if not rows:
                continue
            seconds = sum(row["seconds"] for row in rows) / len(rows)
            judged = [
                row["verdict"] for row in rows if row["verdict"] and "all_present" in row["verdict"]
            ]
            line = f"{name:<40} {seconds:6.2f} s"
            if judged:
                present = sum(v["all_present"] for v in judged)
                right = sum(v["fully_right"] for v in judged)
                line += (
                    f"   all present {present}/{len(judged)}   fully right {right}/{len(judged)}"
                )
            lines.append(line)
        return lines

    def _grid(self) -> Image.Image:
        """Rows are prompts and seeds, columns are plugins; missing pictures are left pale."""
        found = {
            (p.request.prompt, p.request.seed, p.request.plugins): k
            for k, p in enumerate(self.pictures)
        }
        blank = Image.new("RGB", self.pictures[0].image.size, (235, 235, 232))
        many = len(self.wanted.columns) > 1
        rows, titles, notes = [], [], []
        if many:
            lines = [
                [(p, s, c) for c in self.wanted.columns]
                for p in self.wanted.prompts
                for s in self.wanted.seeds
            ]
            heads = self._names
        else:
            only = self.wanted.columns[0]
            lines = [[(p, s, only) for s in self.wanted.seeds] for p in self.wanted.prompts]
            heads = [f"seed {seed}" for seed in self.wanted.seeds]
        for line in lines:
            places = [found.get((p, s, c.plugins)) for p, s, c in line]
            if all(place is None for place in places):
                continue
            rows.append([blank if k is None else self.pictures[k].image for k in places])
            titles.append(line[0][0] + (f"   (seed {line[0][1]})" if many else ""))
            notes.append(
                ["" if k is None else _verdict_line(self.rows[k]["verdict"]) for k in places]
            )
        return sheet(rows, heads, titles, notes)


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of columns; where one plugin comes with several settings, numbered."""
    return [
        name if (before := names[:k].count(name)) == 0 else f"{name}#{before + 1}"
        for k, name in enumerate(names)
    ]


def _verdict_line(verdict: dict[str, Any] | None) -> str:
    if not verdict:
        return ""
    if verdict.get("unsafe"):
        return "skull"
    if verdict.get("fully_right"):
        return "right"
    missing = [*verdict.get("neglected", ())]
    wrong = [*verdict.get("miscoloured", ())]
    said = [f"no {kind}" for kind in missing] + [f"{kind}: wrong colour" for kind in wrong]
    return ", ".join(said) or ("" if "neglected" not in verdict else "misplaced")

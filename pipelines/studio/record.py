"""The folder that pictures go to, and its report: what is there, what failed, what is missing."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from adhere.errors import GuidanceError, ParameterError
from adhere.files import alone
from adhere.pipelines.studio.drawing.grid import Cell, grid
from adhere.pipelines.studio.drawing.heatmaps import heat_strip
from adhere.pipelines.studio.output import slug, write_image, write_json, write_picture
from adhere.pipelines.studio.plan import Job, Plan
from adhere.pipelines.studio.request import Picture

REPORT = "report.json"
SAVE_EVERY = 20.0
"""Seconds of work that a kill may cost at most."""

Row = dict[str, Any]
Judge = Callable[[Picture], Row]

_IDENTITY = ("model", "weights", "variant", "revision", "loras", "dtype", "adhere")
_PLAN = "adhere-plan"
"""The text chunk of a grid that tells whose it is."""


class Record:
    """A plan's pictures in a folder, beside those of earlier plans, which stay as they are.

    A picture's name ends in a hash of everything that changes its pixels: other parameters give
    other files, and the same command again finds what it made before. Several programs may work in
    one folder at once: each adds to the report what it made.

    Attributes:
        rows: what is known of each picture of the plan that is here, by job.
        faults: what went wrong in this run: the place in the prompt file, and the error.

    Args:
        out: the folder.
        plan: what is to be made.
        about: the model and the programs that make it (`Studio.about`).
        judge: what is said of each picture, if anything can be.
        maps: also draw what each word attended to; pictures without that are made once more.

    Raises:
        ParameterError: the folder's report is damaged, or another program's.
    """

    def __init__(
        self,
        out: Path,
        plan: Plan,
        about: Mapping[str, Any],
        judge: Judge | None,
        maps: bool = False,
    ) -> None:
        self.out, self.plan, self.about = out, plan, about
        self.maps, self._judge = maps, judge
        self._earlier = _read(out / REPORT)
        self._ids = {job: _identity(job, about) for job in plan.jobs}
        by_id = {row["id"]: row for row in self._earlier["pictures"] if "id" in row}
        self.rows: dict[Job, Row] = {
            job: by_id[id]
            for job, id in self._ids.items()
            if id in by_id and self._whole(by_id[id])
        }
        self.kept = len(self.rows)
        self.faults: list[tuple[str, GuidanceError]] = []
        self._failed: list[Row] = []
        self._saved = time.monotonic()
        for line in plan.lines:
            if line.fault is not None:
                self._fault(line.place, line.prompt, line.fault, {})

    def _whole(self, row: Row) -> bool:
        """Whether a picture is here, with its attention if that is wanted and can be had, and is
        what was asked for: the best of a search that was stopped is there until it is made whole.
        """
        found = row.get("report") or {}
        if any("stopped_by" in (found.get(chosen) or {}) for chosen in ("search", "autopilot")):
            return False
        if self.maps and "attention" not in row:
            return False
        files = (row["file"], row.get("attention") if self.maps else None)
        return all((self.out / name).is_file() for name in files if name)

    @property
    def missing(self) -> list[Job]:
        """The jobs whose pictures are not here; of jobs that are the same, the first."""
        first = {self._ids[job]: job for job in reversed(self.plan.jobs) if job not in self.rows}
        return list(reversed(first.values()))

    def add(self, job: Job, picture: Picture) -> None:
        """Write a picture, and its attention where it was recorded."""
        name = self._name(job)
        write_picture(self.out / f"{name}.png", picture)
        drawn = None if picture.attention is None else f"{name}-attention.png"
        if drawn:
            write_image(self.out / drawn, heat_strip(picture))
        row = {
            "id": self._ids[job],
            "file": f"{name}.png",
            "request": picture.request.to_json(),
            "made": picture.made,
            "seconds": picture.seconds,
            "report": picture.report,
            "verdict": self._judge(picture) if self._judge else None,
            **({"attention": drawn} if self.maps else {}),
        }
        same = (one for one, id in self._ids.items() if id == self._ids[job])
        self.rows.update(dict.fromkeys(same, row))

    def fail(self, job: Job, error: GuidanceError) -> None:
        """Take down that a picture cannot be made as asked."""
        line, request = self.plan.lines[job.line], job.request
        more = {"variant": self.plan.names[job.variant], "seed": request.seed}
        self._fault(line.place, request.prompt, error, {"id": self._ids[job], **more})

    def _fault(self, place: str, prompt: str, error: GuidanceError, more: Row) -> None:
        self.faults.append((place, error))
        self._failed.append({"line": place or None, "prompt": prompt, "error": str(error), **more})

    def _name(self, job: Job) -> str:
        label = self.plan.names[job.variant].replace("+", "_").replace("#", "-")[:60]
        number, seed = f"{job.line:03d}", job.request.seed
        return f"{number}-{slug(job.request.prompt)}-{label}-{seed}-{self._ids[job]}"

    # -- the report and the grid

    def save_now_and_then(self) -> None:
        """Write the report, unless that was done a moment ago."""
        if time.monotonic() - self._saved >= SAVE_EVERY:
            self._write_report("still running")

    def save(self, stopped_by: str | None = None) -> None:
        """Write the report and the grid.

        Args:
            stopped_by: what ended the run early, if anything did.
        """
        self._write_report(stopped_by)
        if self.rows:
            image = grid(self.plan, self._cell)
            with alone(self.out):
                write_image(self.grid_file, image, {_PLAN: self._plan_id})

    def _write_report(self, stopped_by: str | None) -> None:
        self._saved = time.monotonic()
        with alone(self.out):
            with suppress(ParameterError):  # damaged meanwhile: what was there before is known
                self._earlier = _read(self.out / REPORT)
            write_json(self.out / REPORT, self._reported(stopped_by))

    def _reported(self, stopped_by: str | None) -> Row:
        """What is in the folder, by what is known of this plan and was reported of others."""
        rows = {row["id"]: row for job in self.plan.jobs if (row := self.rows.get(job))}
        others = [row for row in self._earlier["pictures"] if row.get("id") not in rows]
        mine = {None, *self._ids.values()}
        failed = [row for row in self._earlier["failed"] if row.get("id") not in mine]
        data: Row = {
            **self.about,
            "complete": stopped_by is None and not self._failed,
            "pictures": [*others, *rows.values()],
            "failed": [*failed, *self._failed],
        }
        return data if stopped_by is None else {**data, "stopped_by": stopped_by}

    @property
    def grid_file(self) -> Path:
        """`grid.png`, or the first number behind it that no other plan has taken."""
        number, path = 1, self.out / "grid.png"
        while path.is_file() and _text_of(path) not in (None, self._plan_id):
            number += 1
            path = self.out / f"grid-{number}.png"
        return path

    @property
    def _plan_id(self) -> str:
        return hashlib.sha256("".join(self._ids.values()).encode()).hexdigest()[:8]

    def _cell(self, job: Job) -> Cell | None:
        row = self.rows.get(job)
        return None if row is None else Cell(self.out / row["file"], row["verdict"])


def _identity(job: Job, about: Mapping[str, Any]) -> str:
    identity = {"request": job.request.to_json(), **{key: about.get(key) for key in _IDENTITY}}
    if "ip_adapter" in about:
        identity["ip_adapter"] = about["ip_adapter"]
    if "previews" in about:  # by what was seen through it, another picture may have been chosen
        identity["previews"] = about["previews"]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]


def _read(path: Path) -> dict[str, list[Row]]:
    """The pictures and failures of an earlier report; none where there is no report."""
    if not path.is_file():
        return {"pictures": [], "failed": []}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {key: [dict(row) for row in found.get(key, ())] for key in ("pictures", "failed")}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ParameterError(
            f"{str(path)!r} is no report of this command, or is damaged; give another --out, or "
            "move it away"
        ) from error


def _text_of(path: Path) -> str | None:
    """The plan that a grid says it belongs to."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            text = image.info.get(_PLAN)
    except (OSError, UnidentifiedImageError):
        return None
    return None if text is None else str(text)

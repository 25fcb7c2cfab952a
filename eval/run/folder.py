"""The output folder of a run: manifest, pictures, logs, scores; safe to share between processes.

out/manifest.jsonl              the plan, never changed
out/images/ab/abcdef....png     one picture for each job, named by its id
out/done/<shard>.jsonl          what each shard finished or gave up on; together they are the truth
out/scores/<evaluator>/...      one row for each entry
out/features/<extractor>/...    features, so that scores can be recomputed without the pictures
out/report.{md,csv,json,html}
"""

from __future__ import annotations

import io
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from adhere.eval.errors import EvaluationError
from adhere.eval.files import canonical, digest, locked, rows, write_atomic, write_once
from adhere.eval.run import manifest_file
from adhere.eval.run.manifest import Manifest
from adhere.pipelines.studio.request import Request

# A fixed level: the bytes of a picture must not depend on a default that may change.
_PNG_LEVEL = 6
# Longer than any picture takes to be written, in seconds.
_OLD = 24 * 3600.0


@dataclass(frozen=True)
class Folder:
    """Paths of one run, and the little that is known about them."""

    path: Path
    plan_file: str = "manifest.jsonl"

    @cached_property
    def manifest(self) -> Manifest:
        """The plan; raises `EvaluationError` when there is none or it is of another version."""
        file = self.path / self.plan_file
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise EvaluationError(
                f"no readable manifest in {self.path}; make one with `adhere eval plan`"
            ) from error
        return manifest_file.from_text(text, str(file))

    def plan(self, manifest: Manifest) -> bool:
        """Write the plan; False when the very same plan is there already.

        Raises:
            EvaluationError: the folder holds another plan.
        """
        text = manifest_file.to_text(manifest)
        file = self.path / self.plan_file
        self.path.mkdir(parents=True, exist_ok=True)
        if write_once(file, text.encode()):
            return True
        there = file.read_text(encoding="utf-8", errors="replace")
        if there != text:
            raise EvaluationError(
                f"{self.path} already holds a run with other settings "
                f"({_difference(there, manifest)}); choose another folder"
            )
        return False

    def image(self, job: str) -> Path:
        """Where a job's picture is, made or not."""
        return self.path / "images" / job[:2] / f"{job}.png"

    def log(self, shard: str) -> Path:
        """A shard's done-log."""
        return self.path / "done" / f"{shard}.jsonl"

    def records(self) -> dict[str, dict[str, Any]]:
        """What became of each job, from all shards' logs.

        A picture outranks a failure; of two pictures (one was lost and made again) the one that
        lies there counts.
        """
        found: dict[str, dict[str, Any]] = {}
        for log in sorted((self.path / "done").glob("*.jsonl")):
            for row in rows(log):
                job = str(row.get("job", ""))
                before = found.get(job)
                if before is None or before.get("status") != "done" or self._replaces(before, row):
                    found[job] = row
        return found

    def _replaces(self, before: dict[str, Any], row: dict[str, Any]) -> bool:
        if row.get("status") != "done" or row.get("sha256") == before.get("sha256"):
            return False
        return self._lies_there(row) and not self._lies_there(before)

    def _lies_there(self, row: dict[str, Any]) -> bool:
        """Whether a done row's picture is there, whole as far as its size tells."""
        try:
            size = self.image(str(row["job"])).stat().st_size
        except OSError:
            return False
        return bool(size) and size == row.get("bytes", size)

    def done(self) -> set[str]:
        """Jobs whose picture is there, in full length, and was finished."""
        return {
            job
            for job, row in self.records().items()
            if row.get("status") == "done" and self._lies_there(row)
        }

    def settled(self) -> bool:
        """Whether every job was made, or was given up."""
        return set(self.manifest.jobs) <= set(self.records())

    def sweep(self) -> None:
        """Remove what killed writers left half written; living ones hold their log's lock."""
        for leftover in (self.path / "images").glob("??/.*.tmp"):
            shard = leftover.name.split(".")[-3]
            held = locked(self.log(shard))
            # Where locks cannot tell the dead from the living, only age can.
            if held is False or (held is None and _older(leftover, _OLD)):
                leftover.unlink(missing_ok=True)

    def write_image(self, job: str, data: bytes, shard: str) -> None:
        """Put a picture in its place, whole or not at all."""
        write_atomic(self.image(job), data, label=shard)

    def problems(self) -> Iterator[str]:
        """What is missing or damaged, one sentence each."""
        records = self.records()
        for job, request in self.manifest.jobs.items():
            row, path = records.get(job), self.image(job)
            what = f"job {job} ({request.prompt[:60]!r}, seed {request.seed})"
            if row is None:
                yield f"{what} is not done"
            elif row.get("status") == "not-applicable":
                continue
            elif row.get("status") != "done":
                yield f"{what} failed: {row.get('error')}"
            elif not path.is_file():
                yield f"{what} was done, but {path} is missing"
            elif digest(path.read_bytes()) != row.get("sha256"):
                yield f"{what}: {path} is not the file that was written"
        yield from _mixed(records)
        known = set(self.manifest.jobs)
        for path in sorted((self.path / "images").glob("??/*")):
            if path.stem not in known or path.name.startswith("."):
                yield f"{path} belongs to no job of the manifest"


def _mixed(records: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Versions or revisions of which a run's pictures have several."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for row in records.values():
        if row.get("status") == "done":
            made = row.get("made") or {}
            for name, value in {
                **(made.get("versions") or {}),
                "revision": made.get("revision"),
            }.items():
                seen[name][str(value)] += 1
    for name, values in seen.items():
        if len(values) > 1:
            told = ", ".join(f"{value} ({count} pictures)" for value, count in values.most_common())
            yield f"the pictures were made with several versions of {name}: {told}"


def _older(path: Path, seconds: float) -> bool:
    try:
        return time.time() - path.stat().st_mtime > seconds
    except OSError:
        return False


def _difference(there: str, manifest: Manifest) -> str:
    try:
        old = manifest_file.from_text(there, "the manifest there")
    except EvaluationError as error:
        return str(error)
    for part in ("identity", "experiment", "suites"):
        before, now = old.header.get(part) or {}, manifest.header.get(part) or {}
        for key in sorted(set(before) | set(now)):
            if before.get(key) != now.get(key):
                return f"{key}: {_short(before.get(key))} there, {_short(now.get(key))} here"
    return "its entries differ"


def _short(value: Any) -> str:
    text = canonical(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def png(image: Image.Image, job: str, request: Request) -> bytes:
    """The picture as PNG with its request inside; the same picture gives the same bytes."""
    about = PngInfo()
    settings = request.to_json()
    if settings["layout"] is not None:
        # The masks would outweigh the picture; the job's hash names them.
        settings["layout"] = "see the manifest"
    about.add_itxt("adhere", canonical({"job": job, "request": settings}))
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "PNG", compress_level=_PNG_LEVEL, pnginfo=about)
    return stream.getvalue()

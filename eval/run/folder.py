"""The output folder of a run: manifest, pictures, logs, scores; safe to share between processes.

out/manifest.jsonl              the plan, never changed; manifest-0002.jsonl what was added later
out/images/abc/abcdef....png    one picture for each job, named by its id
out/done/<shard>.jsonl          what each shard finished or gave up on; together they are the truth
out/scores/<evaluator>/...      one row for each entry
out/features/<extractor>/...    features, so that scores can be recomputed without the pictures
out/report.{md,csv,json,html}
"""

from __future__ import annotations

import io
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from adhere.eval import places
from adhere.eval.errors import EvaluationError
from adhere.eval.files import canonical, digest
from adhere.eval.places import Place, Rows
from adhere.eval.run import ledger, manifest_file
from adhere.eval.run import manifest as manifests
from adhere.eval.run.ledger import DONE, NOT_APPLICABLE, Ledger
from adhere.eval.run.manifest import Entry, Manifest, batched
from adhere.pipelines.studio.request import Request

# A fixed level: the bytes of a picture must not depend on a default that may change.
_PNG_LEVEL = 6
# What `adhere eval grow` writes; an editor's copies beside it are no part of the plan.
_PART = re.compile(r"manifest-\d{4,}\.jsonl")
# Of what differs between two plans so much is told.
_DIFFERENCES = 3
_SUITE = "suite "
# So many entries are looked at together.
TOGETHER = 4096


@dataclass(frozen=True)
class Folder:
    """What lies where in one run, and the little that is known about it."""

    path: Path | str

    @cached_property
    def place(self) -> Place:
        """Where it all lies."""
        return places.at(self.path)

    def plans(self) -> list[str]:
        """The manifest's files: the plan, then what was added to it."""
        more = [one for one in self.place.names("") if _PART.fullmatch(one)]
        return ["manifest.jsonl", *sorted(more, key=lambda name: (len(name), name))]

    @cached_property
    def manifest(self) -> Manifest:
        """The plan; raises `EvaluationError` when there is none or it is of another version."""
        try:
            return manifest_file.manifest(self.place, self.plans())
        except OSError as error:
            raise EvaluationError(
                f"no readable manifest in {self.path}; make one with `adhere eval plan`"
            ) from error

    def ask_for_plan(self) -> None:
        """Raises `EvaluationError` where there is no plan, so that nothing is written there."""
        _ = self.manifest

    def plan(self, manifest: Manifest) -> bool:
        """Write the plan; False when the very same plan is there already, or has grown to it.

        Raises:
            EvaluationError: the folder holds another plan, or what another command reported.
        """
        planned, reported = self.place.sizes(["manifest.jsonl", "report.json"])
        if planned is None and reported is not None:
            raise EvaluationError(
                f"{self.path} has a report.json and no run: another command, such as `adhere "
                "generate`, wrote there, and a run's report would replace its own; give another "
                "folder"
            )
        if not self.place.sizes(["manifest.jsonl"])[0] and self.place.create(
            "manifest.jsonl", manifest_file.pieces(manifest.header, manifest.groups())
        ):
            return True
        files = self.plans()
        ends = range(1, len(files) + 1)
        there = [manifest_file.manifest(self.place, files[:end]) for end in ends]
        if not _same(there[-1], manifest) and all(
            one.fingerprint != manifest.fingerprint for one in there
        ):
            differing = _differing(there[-1], manifest)
            raise EvaluationError(
                f"{self.path} already holds a run with other settings "
                f"({_told(differing, there[-1])}); choose another folder"
                f"{self._way_on(differing, there[-1], manifest)}"
            )
        return False

    def _way_on(self, differing: Mapping[str, str], there: Manifest, manifest: Manifest) -> str:
        """What may be done about another plan than the run's, beside taking another folder."""
        grows = all(key in manifests.GROWS or key.startswith(_SUITE) for key in differing)
        if not grows or not differing or manifest.imported:
            return ""
        if _has_all(there, manifest):
            return (
                "; or go on with this run, which has all that is asked and more: `adhere eval "
                f"generate {self.path}`, then score and report"
            )
        return (
            f", or add to the run with `adhere eval grow {self.path}`, which takes an edited "
            "experiment too (-c)"
        )

    def image(self, job: str) -> str:
        """The name of a job's picture, made or not."""
        return f"images/{job[:3]}/{job}.png"

    def log(self, shard: str) -> AbstractContextManager[Rows]:
        """A shard's done-log, open for its one writer."""
        return self.place.log(f"done/{shard}.jsonl")

    def ledger(self) -> Ledger:
        """What became of each job, read anew from all shards' logs."""
        return ledger.read(self.place, self.image)

    def done(self) -> set[str]:
        """Jobs whose picture is there, in full length, and was finished."""
        known = self.ledger()
        return {
            job
            for jobs in batched(self.manifest.jobs(), TOGETHER)
            for job, made in zip(jobs, known.made(jobs, self.image), strict=True)
            if made
        }

    def settled(self, known: Ledger) -> bool:
        """Whether every job was made, or was given up."""
        jobs = self.manifest.jobs()
        return len(known) >= self.manifest.job_count and all(
            bool((known.find(some) >= 0).all()) for some in batched(jobs, TOGETHER)
        )

    def sweep(self) -> None:
        """Remove what killed writers left half written; living ones hold their log's lock."""
        self.place.sweep()

    def write_image(self, job: str, data: bytes, shard: str) -> None:
        """Put a picture in its place, whole or not at all."""
        self.place.write(self.image(job), data, label=shard)

    def problems(self) -> Iterator[str]:
        """What is missing or damaged, one sentence each."""
        known = self.ledger()
        names: set[str] = set()
        for entries in batched(filter(_makes, self.manifest.entries()), TOGETHER):
            found = known.find([entry.job for entry in entries])
            for entry, place in zip(entries, found, strict=True):
                names.add(entry.job)
                problem = self._problem(entry, known, int(place))
                if problem:
                    yield problem
        yield from _mixed(known.records())
        for folder in self.place.folders("images"):
            for name in self.place.names(f"images/{folder}"):
                if name.removesuffix(".png") not in names:
                    yield f"images/{folder}/{name} belongs to no job of the manifest"

    def _problem(self, entry: Entry, known: Ledger, place: int) -> str | None:
        name, status = self.image(entry.job), known.status(place)
        noise = entry.group.first + entry.seed
        what = f"job {entry.job} ({entry.item.prompt[:60]!r}, seed {noise})"
        if place < 0:
            return f"{what} is not done"
        if status == NOT_APPLICABLE:
            return None
        record = known.record(place)
        if status != DONE:
            return f"{what} failed: {record.get('error')}"
        try:
            whole = digest(self.place.read(name)) == record.get("sha256")
        except FileNotFoundError:
            return f"{what} was done, but {name} is missing"
        if whole:
            return None
        return (
            f"{what}: {name} is not the file that was written; `adhere eval generate {self.path}` "
            "makes it again once it is taken away"
        )


def _makes(entry: Entry) -> bool:
    return entry.makes


def _mixed(records: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Versions or revisions of which a run's pictures have several."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for row in records:
        if row.get("status") == DONE:
            made = row.get("made") or {}
            for name, value in {
                **(made.get("versions") or {}),
                "revision": made.get("revision"),
            }.items():
                seen[name][str(value)] += 1
    for name, values in seen.items():
        if len(values) > 1:
            listed = ", ".join(
                f"{value} ({count} pictures)" for value, count in values.most_common()
            )
            yield f"the pictures were made with several versions of {name}: {listed}"


def _same(grown: Manifest, planned: Manifest) -> bool:
    """Whether a plan that grew is of the same pictures, in whatever order they were planned."""
    sizes = (grown.count, grown.job_count) == (planned.count, planned.job_count)
    return len(grown.parts) > 1 and sizes and _asked(grown) == _asked(planned)


def _asked(manifest: Manifest) -> dict[str, Any]:
    """What a plan is of, in no order; how many prompts there are stands with the suites."""
    about = manifest.header["experiment"]
    variants, seeds = {one["name"]: one for one in about["variants"]}, sorted(about["seeds"])
    settled = {**about, "variants": variants, "seeds": seeds, "limit": None}
    return {**manifest.header, "experiment": settled}


def _differing(there: Manifest, manifest: Manifest) -> dict[str, str]:
    """The settings that are others, each with what is there and here."""
    found: dict[str, str] = {}
    for part in ("experiment", "identity"):
        before, now = there.header.get(part) or {}, manifest.header.get(part) or {}
        for key in sorted(set(before) | set(now)):
            then, here = before.get(key), now.get(key)
            if key == "variants":
                # What both have says nothing.
                then, here = _names_beside(then, here), _names_beside(here, then)
            if then != here:
                found[key] = f"{key}: {_short(then)} there, {_short(here)} here"
    if {"variants", "code"} <= set(found) and _same_where_both(there, manifest):
        # The code of the plugins that the other variants have.
        del found["code"]
    return found | _other_suites(there.header["suites"], manifest.header["suites"])


def _has_all(there: Manifest, manifest: Manifest) -> bool:
    """Whether a run lacks no seeds, variants or prompts of a plan that it could grow to."""
    then, now = there.header["experiment"], manifest.header["experiment"]
    if set(now["seeds"]) - set(then["seeds"]) or _names_beside(now["variants"], then["variants"]):
        return False
    cut = now["limit"] is not None and now["limit"] < (then["limit"] or math.inf)
    suites = there.header["suites"]
    return all(
        about == suites.get(name) or (cut and name in suites)
        for name, about in manifest.header["suites"].items()
    )


def _names_beside(some: Any, others: Any) -> list[str]:
    return [one["name"] for one in some or () if one not in (others or ())]


def _other_suites(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    counts = {
        name: [str((one.get(name) or {}).get("items", 0)) for one in (then, now)]
        for name in sorted(set(then) | set(now))
        if then.get(name) != now.get(name)
    }
    return {
        _SUITE + name: f"suite {name}: {before} prompts there, {here} here"
        if before != here
        else f"suite {name}: other prompts"
        for name, (before, here) in counts.items()
    }


def _same_where_both(there: Manifest, manifest: Manifest) -> bool:
    then, now = (one.header["identity"]["code"] for one in (there, manifest))
    both = set(then["plugins"]) & set(now["plugins"])
    same = all(then["plugins"][name] == now["plugins"][name] for name in both)
    return bool(then["engine"] == now["engine"] and same)


def _told(differing: Mapping[str, str], there: Manifest) -> str:
    # The name is the file's, and decides nothing: it is told only where nothing else is another.
    told = [text for key, text in differing.items() if key != "name"] or list(differing.values())
    shown = "; ".join(told[:_DIFFERENCES])
    return shown or ("its pictures differ" if there.imported else "its entries differ")


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

"""Make the pictures of a manifest: resumable, in shards; a bad one costs no other.

`work` says which batches there are and what is left of them.
"""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from adhere.errors import GuidanceError, LayoutError, MaskError, PromptError
from adhere.eval.errors import EvaluationError
from adhere.eval.files import digest
from adhere.eval.places import Rows
from adhere.eval.run import ledger, models, provenance
from adhere.eval.run.folder import Folder, png
from adhere.eval.run.ledger import DONE, FAILED, NOT_APPLICABLE
from adhere.eval.run.manifest import IMPORTED
from adhere.eval.run.models import Load, Make
from adhere.eval.run.shards import Shard
from adhere.eval.run.work import Batch, Wants, Work
from adhere.pipelines.studio.request import Picture, Request
from adhere.prompt.markup import strip_markup

log = logging.getLogger(__name__)

Watch = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Shows progress: told what is done and how much there is of it, then how much more is done."""


@dataclass
class GenerateSummary:
    """What a call of `generate` did: counts of pictures, and the errors by job.

    `not_applicable` are those that a method has nothing to do for, which is no failure.
    """

    made: int = 0
    skipped: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    not_applicable: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, other: GenerateSummary) -> None:
        """Take in what another worker did."""
        self.made += other.made
        self.skipped += other.skipped
        self.failed.update(other.failed)
        self.not_applicable.update(other.not_applicable)


@dataclass(frozen=True)
class Outcome:
    """What became of one job: its PNG and record, or its record with the error."""

    job: str
    png: bytes | None
    record: dict[str, Any]


def make_batch(make: Make, batch: Batch, wanted: set[str], retries: int = 2) -> Iterator[Outcome]:
    """Make a batch; when it fails, its pictures one by one, so that only the bad one is lost.

    Yields an outcome for each wanted job. `KeyboardInterrupt` and the like pass through.
    """
    try:
        pictures = _checked(make([request for _, request in batch]), batch)
        finished = [
            _finished(make, one, picture, len(batch))
            for one, picture in zip(batch, pictures, strict=True)
            if one[0] in wanted
        ]
    except Exception as error:
        if len(batch) > 1:
            log.warning("a batch of %d failed (%s); making them one by one", len(batch), error)
            for one in batch:
                if one[0] in wanted:
                    yield from make_batch(make, (one,), wanted, retries)
            return
        yield _again(make, batch[0], retries, error)
        return
    yield from finished


def _again(make: Make, one: tuple[str, Request], retries: int, error: Exception) -> Outcome:
    job, request = one
    attempts = 1
    # What was asked for is at fault: asking again gives the same answer.
    while attempts <= retries and not isinstance(error, GuidanceError):
        attempts += 1
        try:
            return _finished(make, one, _checked(make([request]), (one,))[0], 1)
        except Exception as later:
            error = later
    return failure(job, error, attempts, guided=bool(request.plugins))


def failure(job: str, error: BaseException, attempts: int, guided: bool = False) -> Outcome:
    """The record of a job that was given up.

    A guided picture whose prompt or layout gives its method nothing to do is not applicable; one
    whose masks are not made for it is a failure.
    """
    fitting = not isinstance(error, MaskError)
    nothing_to_do = guided and fitting and isinstance(error, PromptError | LayoutError)
    status = NOT_APPLICABLE if nothing_to_do else FAILED
    why = f"{type(error).__name__}: {error}"
    return _without_picture(job, status, why, attempts, isinstance(error, GuidanceError))


def _without_picture(job: str, status: str, why: str, attempts: int, permanent: bool) -> Outcome:
    record = ledger.row(
        job, status, permanent=permanent, error=why[:2000], attempts=attempts,
        made=provenance.made_now(),
    )  # fmt: skip
    return Outcome(job, None, record)


def _left_alone(request: Request, report: Mapping[str, Any]) -> str:
    """Why all methods of a picture had nothing to do for its prompt; empty where one had.

    The picture is the unguided one then. Whether a method refuses such a prompt or leaves it alone
    in a note of the batch's report is its own affair.
    """
    if not request.plugins:
        return ""
    prompt = strip_markup(request.prompt)
    begins = [f"{one.name} left {prompt!r} alone: " for one in request.plugins]
    notes = [str(note) for note in report.get("notes") or ()]
    found = [[note for note in notes if note.startswith(begin)] for begin in begins]
    return "; ".join(some[0] for some in found) if all(found) else ""


def _checked(pictures: Sequence[Picture], batch: Batch) -> Sequence[Picture]:
    if len(pictures) != len(batch):
        raise RuntimeError(f"the model made {len(pictures)} pictures of {len(batch)}")
    for picture in pictures:
        if picture.doubt:
            raise EvaluationError(picture.doubt)
    return pictures


def _finished(make: Make, one: tuple[str, Request], picture: Picture, batch: int) -> Outcome:
    job, request = one
    if why := _left_alone(request, picture.report):
        return _without_picture(job, NOT_APPLICABLE, why, 1, permanent=True)
    data = png(picture.image, job, request)
    settings_of = getattr(make, "settings", None)
    width, height = picture.image.size
    record = ledger.row(
        job,
        DONE,
        sha256=digest(data),
        bytes=len(data),
        seconds=round(picture.seconds, 4),
        batch=batch,
        peak_mib=_peak_mib(),
        device=_device(),
        settings={
            **(settings_of(request) if settings_of else {}),
            "width": width,
            "height": height,
        },
        made={**provenance.made_now(), "revision": getattr(make, "revision", None)},
        report=_plain(picture.report),
    )
    return Outcome(job, data, record)


def _plain(value: Any) -> Any:
    """A report as JSON takes it; what is no plain data is shown as text."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    return str(value)


def _peak_mib() -> float:
    """Peak memory of the device so far: CUDA's where there is one, else the process's."""
    import torch

    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _device() -> str:
    """The accelerator's name, or the kind of CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"


def store(
    folder: Folder, journal: Rows, shard: str, outcome: Outcome, summary: GenerateSummary
) -> None:
    """Picture first, then its line in the log: a kill in between costs one picture made again."""
    if outcome.png is not None:
        folder.write_image(outcome.job, outcome.png, shard)
        summary.made += 1
    elif outcome.record["status"] == NOT_APPLICABLE:
        summary.not_applicable[outcome.job] = outcome.record["error"]
    else:
        summary.failed[outcome.job] = outcome.record["error"]
    journal.append(outcome.record)


@dataclass(frozen=True)
class Options:
    """How pictures are made; nothing here changes them."""

    batch: int = 4
    device: str | None = None
    retries: int = 2
    retry_failed: bool = False


@contextmanager
def unwatched(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows nothing."""
    yield lambda count: None


def generate(
    folder: Folder,
    shard: Shard = Shard(),
    options: Options = Options(),
    load: Load | None = None,
    watch: Watch = unwatched,
    wants: Wants | None = None,
) -> GenerateSummary:
    """Make this shard's part of what the manifest still lacks.

    Args:
        folder: an output folder with a manifest.
        shard: this process's part.
        options: batch size, device, retries.
        load: loads the model; a studio if left out.
        watch: shows progress.
        wants: leaves pictures out for now.

    Raises:
        EvaluationError: no manifest, another process is this shard, or the disk is full. All that
            was finished before is kept.
    """
    started = time.perf_counter()
    folder.ask_for_plan()
    folder.sweep()
    summary = GenerateSummary()
    with folder.log(str(shard)) as journal:
        work = Work(folder, shard, options.batch, options.retry_failed, folder.ledger(), wants)
        summary.skipped = work.skipped
        with watch(f"generate {shard}", work.left) as advance:
            make = (load or models.studio)(*identity(folder, options)) if work.left else None
            for batch, wanted in work:
                assert make is not None  # there is work
                for outcome in make_batch(make, batch, wanted, options.retries):
                    store(folder, journal, str(shard), outcome, summary)
                    advance(1)
    summary.seconds = time.perf_counter() - started
    return summary


def identity(folder: Folder, options: Options) -> tuple[str, str | None, str | None]:
    """What `load` is called with; refuses a model or code that changed since the plan.

    Raises:
        EvaluationError: the weights, the engine or a plugin are not those of the plan.
    """
    about = folder.manifest.header["identity"]
    if about["weights"] == IMPORTED:
        raise EvaluationError(
            f"the pictures of {folder.path} were made elsewhere and some are not there; give the "
            "same `adhere eval import` again"
        )
    now = models.fingerprint(about["model"])
    if about["weights"] not in (now, "any"):
        raise EvaluationError(
            f"the weights of {about['model']!r} changed since the plan was made "
            f"({about['weights']} then, {now} now); plan again into a new folder"
        )
    planned = planned_code(folder)
    check_same(planned, provenance.code_here(planned))
    return about["model"], options.device, about["dtype"]


def planned_code(folder: Folder) -> dict[str, str]:
    """The hashes of the code that the plan was made with: the engine's, and every plugin's."""
    code = folder.manifest.header["identity"]["code"]
    return {"engine": code["engine"], **code["plugins"]}


def check_same(planned: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise `EvaluationError` where the code that is here is not the plan's."""
    for name, then in planned.items():
        if now[name] != then:
            what = "the engine" if name == "engine" else f"plugin {name!r}"
            raise EvaluationError(
                f"the code of {what} changed since the plan was made ({then} then, {now[name]} "
                "now): the run would mix pictures of both; plan again into a new folder"
            )

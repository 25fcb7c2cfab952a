"""The loop: from a plan to pictures in a folder, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from adhere.errors import GuidanceError, ModelError
from adhere.pipelines.search.stopped import carried
from adhere.pipelines.studio.plan import Job
from adhere.pipelines.studio.progress import Tick, progress
from adhere.pipelines.studio.record import Record
from adhere.pipelines.studio.request import OnStep, Picture, Progress
from adhere.pipelines.studio.studio import Studio, alike


def run(studio: Studio, record: Record, batch_size: int) -> None:
    """Make what the record of a plan still lacks; each batch is recorded as it is done.

    A prompt that cannot be drawn as asked is recorded and passed over. Whatever stops the loop,
    an interrupt too, leaves a report that says so, and the best of what a search had finished.

    Args:
        studio: the model.
        record: the folder that the pictures go to, with the plan.
        batch_size: pictures made at once, at the most.

    Raises:
        ModelError: the model cannot be guided as asked, so that no other prompt would do better.
        OSError: a picture or the report could not be written.
    """
    missing = record.missing
    try:
        with progress("pictures", len(missing)) as tick:
            for batch in _batches(missing, batch_size):
                ahead = _Ahead(tick, len(batch))
                for job, made in _attempt(studio, batch, ahead.step, record.maps):
                    if isinstance(made, Picture):
                        _keep(record, job, made)
                        ahead.told -= 1
                    else:
                        record.fail(job, made)
                tick(-ahead.told)
                record.save_now_and_then()
        record.save()
    except BaseException as stop:
        _report(record, stop)
        raise


def _report(record: Record, stop: BaseException) -> None:
    """Leave a report of a loop that was stopped; a disk that is full may be so for it, too."""
    try:
        record.save(stopped_by=type(stop).__name__)
    except OSError as unwritten:
        unsaid = isinstance(stop, OSError) and str(stop) != str(unwritten)
        raise OSError(f"{stop}; {unwritten}" if unsaid else str(unwritten)) from stop


def _keep(record: Record, job: Job, picture: Picture) -> None:
    """Record a picture. It is finished: who stops the program meanwhile does not lose it."""
    try:
        record.add(job, picture)
    except Exception:  # a full disk: trying again would not help
        raise
    except BaseException:
        record.add(job, picture)
        raise


@dataclass
class _Ahead:
    """Tells progress in steps of a batch; `told` is how many pictures more than are made."""

    tick: Tick
    size: int
    told: float = 0.0

    def step(self, at: Progress) -> None:
        # A picture that is chosen takes the steps of several: the bar waits for it at its end.
        more = min(self.size / at.count, max(0.0, self.size - self.told))
        self.tick(more)
        self.told += more


def _batches(jobs: Sequence[Job], size: int) -> Iterator[list[Job]]:
    """Jobs in order; a batch holds only requests that can go through the model together. A chosen
    picture has a batch of its own: it is made of several.
    """
    batch: list[Job] = []
    for job in jobs:
        most = 1 if job.request.search or job.request.auto else size
        if batch and (len(batch) == most or alike(batch[0].request) != alike(job.request)):
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch


def _attempt(
    studio: Studio, batch: Sequence[Job], step: OnStep, maps: bool
) -> Iterator[tuple[Job, Picture | GuidanceError]]:
    """Each job with its picture, or with what is wrong with it: found by making them alone."""
    try:
        requests = [job.request for job in batch]
        made = studio.generate(requests, on_step=step, record_attention=maps)
    except ModelError:
        raise
    except GuidanceError as error:
        if len(batch) == 1:
            yield batch[0], error
        else:
            for job in batch:
                yield from _attempt(studio, [job], step, maps)
        return
    except BaseException as stop:
        if (picture := carried(stop)) is not None:  # of the batch's one job
            yield batch[0], picture
        raise
    yield from zip(batch, made, strict=True)

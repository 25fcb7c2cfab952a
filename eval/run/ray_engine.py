"""Ray as the engine: one actor with one model for each GPU, on as many machines as there are.

The driver owns the folder: actors get requests and send back PNG bytes, so the machines need no
common file system. Batches are handed out one by one, so a slow worker holds nobody up; a batch
whose worker died goes back in the queue; a batch that keeps killing workers is made one picture
at a time and what still kills is recorded as failed. When GPUs join the cluster, actors do too.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from adhere.errors import ExtraMissing
from adhere.eval.errors import EvaluationError
from adhere.eval.run import models, provenance
from adhere.eval.run.folder import Folder
from adhere.eval.run.generate import (
    GenerateSummary,
    Options,
    Outcome,
    Watch,
    check_same,
    failure,
    identity,
    make_batch,
    planned_code,
    store,
    unwatched,
)
from adhere.eval.run.models import Load
from adhere.eval.run.shards import Shard
from adhere.eval.run.work import Batch, Work

log = logging.getLogger(__name__)

_LABEL = "ray"
_POLL_SECONDS = 5.0


@dataclass(frozen=True)
class Pool:
    """How many workers, and what each may use. With `workers` None: one for each GPU, or one."""

    workers: int | None = None
    cpus: float = 1
    address: str | None = None


@dataclass
class _Task:
    batch: Batch
    wanted: set[str]
    deaths: int = 0


@dataclass
class _State:
    source: Iterator[_Task]
    queue: deque[_Task] = field(default_factory=deque)
    actors: list[Any] = field(default_factory=list)
    running: dict[Any, tuple[Any, _Task]] = field(default_factory=dict)
    births_left: int = 0
    any_made: bool = False

    def fill(self, count: int) -> None:
        """Keep so many tasks at hand: a million are not laid out at once."""
        self.queue.extend(islice(self.source, max(0, count - len(self.queue))))


class Worker:
    """One model in one process; becomes a Ray actor."""

    def __init__(
        self,
        load: Load,
        code: Mapping[str, str],
        model: str,
        device: str | None,
        dtype: str | None,
    ) -> None:
        # Another machine may have another version installed.
        check_same(code, provenance.code_here(code))
        self.make = load(model, device, dtype)

    def work(self, batch: Batch, wanted: set[str], retries: int) -> list[Outcome]:
        """The outcomes of a batch."""
        return list(make_batch(self.make, batch, wanted, retries))


def generate(
    folder: Folder,
    pool: Pool = Pool(),
    options: Options = Options(),
    load: Load | None = None,
    watch: Watch = unwatched,
) -> GenerateSummary:
    """Make what the manifest lacks on a Ray cluster; one is started here where there is none.

    Raises:
        ExtraMissing: Ray is not installed.
        EvaluationError: workers die before they make anything, or the disk is full.
    """
    try:
        import ray
    except ImportError as error:
        raise ExtraMissing("--engine ray", "ray") from error
    started = time.perf_counter()
    folder.sweep()
    summary = GenerateSummary()
    with folder.log(_LABEL) as journal:
        work = Work(folder, Shard(), options.batch, options.retry_failed, folder.ledger())
        summary.skipped = work.skipped
        if work.left:
            # Asked before anything is started: a wrong model should not cost a cluster.
            model = identity(folder, options)
            driver = _Driver(ray, pool, options, load or models.studio, planned_code(folder), model)
            with _cluster(ray, pool), watch("generate with ray", work.left) as advance:
                for outcome in driver.outcomes(work):
                    store(folder, journal, _LABEL, outcome, summary)
                    advance(1)
    summary.seconds = time.perf_counter() - started
    return summary


@contextmanager
def _cluster(ray: Any, pool: Pool) -> Iterator[None]:
    """The cluster that there is, or one of our own for as long as it is needed."""
    ours = not ray.is_initialized()
    if ours:
        ray.init(
            address=pool.address, num_cpus=_cpus(pool), log_to_driver=False,
            include_dashboard=False, logging_level=logging.ERROR,
        )  # fmt: skip
    try:
        yield
    finally:
        if ours:
            ray.shutdown()


def _cpus(pool: Pool) -> int | None:
    """A local cluster is told how many workers it must hold; a remote one knows its own size."""
    if pool.address or pool.workers is None:
        return None
    return max(1, round(pool.workers * pool.cpus))


class _Driver:
    def __init__(
        self,
        ray: Any,
        pool: Pool,
        options: Options,
        load: Load,
        code: Mapping[str, str],
        model: tuple[Any, ...],
    ) -> None:
        self.ray, self.pool, self.options = ray, pool, options
        self.born_with = (load, code, *model)

    def outcomes(self, work: Iterable[tuple[Batch, set[str]]]) -> Iterator[Outcome]:
        """Yield the outcome of every wanted job, in the order in which they are finished."""
        state = _State(_Task(batch, wanted) for batch, wanted in work)
        # Enough for every task to lose a worker a few times, and an end for a model that cannot
        # be loaded at all.
        state.births_left = 2 * self._target() + 4
        try:
            while True:
                state.fill(2 * self._target())
                if not (state.queue or state.running):
                    break
                self._staff(state)
                ready, _ = self.ray.wait(list(state.running), timeout=_POLL_SECONDS)
                for reference in ready:
                    yield from self._collect(state, reference)
        finally:
            for actor in state.actors:
                self.ray.kill(actor)

    def _target(self) -> int:
        if self.pool.workers is not None:
            return self.pool.workers
        return max(1, int(self.ray.cluster_resources().get("GPU", 0)))

    def _staff(self, state: _State) -> None:
        """As many workers as there should be, and work for everyone who has none."""
        while len(state.actors) < min(self._target(), len(state.queue) + len(state.running)):
            if state.births_left == 0:
                if state.actors:
                    break
                raise EvaluationError(
                    "Ray's workers die as soon as they start; try --engine local to see why"
                )
            state.births_left -= 1
            state.actors.append(self._born())
        busy = {actor for actor, _ in state.running.values()}
        for actor in state.actors:
            if actor not in busy and state.queue:
                task = state.queue.popleft()
                reference = actor.work.remote(task.batch, task.wanted, self.options.retries)
                state.running[reference] = (actor, task)

    def _born(self) -> Any:
        gpus = 1 if self.ray.cluster_resources().get("GPU", 0) >= 1 else 0
        made = self.ray.remote(num_cpus=self.pool.cpus, num_gpus=gpus)(Worker)
        return made.remote(*self.born_with)

    def _collect(self, state: _State, reference: Any) -> Iterator[Outcome]:
        actor, task = state.running.pop(reference)
        try:
            found = self.ray.get(reference)
        except self.ray.exceptions.RayActorError as error:
            state.actors.remove(actor)
            why = _says_why(error)
            # Where another worker could load it, this one had bad luck, and its batch goes on.
            if why and not state.any_made:
                raise EvaluationError(f"a Ray worker cannot load the model: {why}") from error
            log.warning("a worker died (%s); its batch goes back in the queue", error)
            yield from self._mourn(state, task, error)
            return
        except self.ray.exceptions.RayError as error:
            yield from self._mourn(state, task, error)
            return
        # Somebody made something, so dying is not the rule: the allowance starts anew.
        state.births_left = 2 * self._target() + 4
        state.any_made = True
        yield from found

    def _mourn(self, state: _State, task: _Task, error: Exception) -> Iterator[Outcome]:
        task.deaths += 1
        if task.deaths <= self.options.retries:
            state.queue.appendleft(task)
        elif len(task.batch) > 1:
            for one in task.batch:
                if one[0] in task.wanted:
                    state.queue.append(_Task((one,), {one[0]}))
        else:
            yield failure(task.batch[0][0], error, task.deaths)


def _says_why(error: Any) -> str | None:
    """The last line of the traceback, when the actor died because it could not be made."""
    if not getattr(error, "actor_init_failed", False):
        return None
    return str(error).strip().splitlines()[-1]

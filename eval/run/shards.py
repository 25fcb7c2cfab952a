"""Which part of the work a process does, as the launcher that started it says.

Several processes of one launch (torchrun, srun, MPI) have a rank and a size. Tasks of an array job
(SLURM, PBS, LSF, SGE, AWS Batch, an indexed Kubernetes job) have an index; where the launcher does
not say how many there are, `--shards` does. Processes inside the tasks of an array multiply.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from adhere.eval.errors import EvaluationError
from adhere.eval.places import Place

Environment = Mapping[str, str]


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, counted from 1."""

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise EvaluationError(
                f"shard {self.index}/{self.count}: shards are counted from 1/{self.count} "
                f"to {self.count}/{self.count}"
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From `i/n`."""
        match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
        if not match:
            raise EvaluationError(f"shard {text!r} is not i/n; write for example --shard 2/4")
        return cls(int(match[1]), int(match[2]))

    def takes(self, number: int) -> bool:
        """Whether work of this number, counted from 0, is this shard's: every `count`-th is."""
        return number % self.count == self.index - 1

    def within(self, outer: Shard) -> Shard:
        """This part of an outer part."""
        return Shard((outer.index - 1) * self.count + self.index, outer.count * self.count)

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"


# Rank and size of the processes of one launch, in the order in which they are believed: the inner
# launcher before the outer. mpirun starts its daemons, one a node, with srun, and their variables
# reach its processes; so srun comes last. srun's own variables are the step's: those of the job
# (SLURM_PROCID, SLURM_NTASKS) are there in the batch script too, which runs once whatever --ntasks
# says.
_RANKS = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("PMIX_RANK", "PMIX_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    ("PALS_RANKID", "PALS_SIZE"),
    ("FLUX_TASK_RANK", "FLUX_JOB_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)
# Index and size of an array, where its index begins at 0.
_ARRAYS = (
    ("AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE"),
    ("BATCH_TASK_INDEX", "BATCH_TASK_COUNT"),
)
# Indices of which nothing says how many there are, nor whether they begin at 0 or 1.
_INDICES = ("PBS_ARRAY_INDEX", "PBS_ARRAYID", "JOB_COMPLETION_INDEX", "LSB_JOBINDEX")
_LOCAL_RANKS = (
    "LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID",
    "MV2_COMM_WORLD_LOCAL_RANK", "PALS_LOCAL_RANKID", "FLUX_TASK_LOCAL_ID",
)  # fmt: skip


def from_environment(
    environment: Environment = os.environ, shards: int | None = None, claims: Place | None = None
) -> Shard:
    """The shard that a launcher gave this process, or 1/1 where there is none.

    Args:
        environment: the process's variables.
        shards: how many parts there are, where the launcher does not say.
        claims: the run, in which the tasks of an array with gaps (`3,7,8`) agree who is which.

    Raises:
        EvaluationError: an index without a size, or a variable that is no number.
    """
    inner = _ranks(environment)
    outer = None if _over_pods(environment) else _array(environment, shards, claims)
    if outer is None and shards is not None and inner.count not in (1, shards):
        raise EvaluationError(
            f"--shards {shards}, but the launcher started {inner.count} processes"
        )
    if outer is None and shards is not None and inner.count == 1 and shards > 1:
        raise EvaluationError(
            f"--shards {shards} needs a launcher that says which one this is; or give --shard i/n"
        )
    return inner.within(outer or Shard())


def _ranks(environment: Environment) -> Shard:
    for rank, size in _RANKS:
        if rank in environment and size in environment and _number(environment, size) > 1:
            return Shard(_number(environment, rank) + 1, _number(environment, size))
    # Under srun of an older SLURM the step's size is the job's.
    procid = environment.get("SLURM_PROCID", "0")
    in_step = procid != "0" or ("SLURM_STEP_ID" in environment)
    if in_step and "SLURM_STEP_NUM_TASKS" not in environment and "SLURM_NTASKS" in environment:
        return Shard(_number(environment, "SLURM_PROCID") + 1, _number(environment, "SLURM_NTASKS"))
    return Shard()


def _over_pods(environment: Environment) -> bool:
    """Whether one torchrun spans the pods of an indexed job: its ranks number them all already."""
    pods = environment.get("GROUP_WORLD_SIZE", "1")
    return "JOB_COMPLETION_INDEX" in environment and pods.isdigit() and int(pods) > 1


def _array(environment: Environment, shards: int | None, claims: Place | None) -> Shard | None:
    if "SLURM_ARRAY_TASK_ID" in environment:
        return _slurm_array(environment, shards, claims)
    if environment.get("SGE_TASK_ID", "undefined").isdigit():
        first, last, step = (
            _number(environment, f"SGE_TASK_{name}") for name in ("FIRST", "LAST", "STEPSIZE")
        )
        return Shard((_number(environment, "SGE_TASK_ID") - first) // step + 1,
                     (last - first) // step + 1)  # fmt: skip
    for index, size in _ARRAYS:
        if index in environment and size in environment:
            return Shard(_number(environment, index) + 1, _number(environment, size))
    for name in _INDICES:
        if environment.get(name, "0" if name == "LSB_JOBINDEX" else "") not in ("", "0") or (
            name != "LSB_JOBINDEX" and name in environment
        ):
            return _counted(name, _number(environment, name), shards)
    return None


def _counted(name: str, index: int, shards: int | None) -> Shard:
    if shards is None:
        raise EvaluationError(
            f"{name} is {index}, and nothing says of how many: give --shards N (or --shard i/n)"
        )
    if index > shards:
        raise EvaluationError(f"{name} is {index}, beyond --shards {shards}")
    # Right for 0 to n - 1 as for 1 to n: n and 0 are the same part.
    return Shard(index % shards + 1, shards)


def _slurm_array(environment: Environment, shards: int | None, claims: Place | None) -> Shard:
    task = _number(environment, "SLURM_ARRAY_TASK_ID")
    if shards is not None:
        return _counted("SLURM_ARRAY_TASK_ID", task, shards)
    if "SLURM_ARRAY_TASK_COUNT" not in environment:
        return _counted("SLURM_ARRAY_TASK_ID", task, None)
    count = _number(environment, "SLURM_ARRAY_TASK_COUNT")
    first = int(environment.get("SLURM_ARRAY_TASK_MIN", "0"))
    last = int(environment.get("SLURM_ARRAY_TASK_MAX", first + count - 1))
    step = max(1, (last - first) // (count - 1)) if count > 1 else 1
    place, rest = divmod(task - first, step)
    even = first + step * (count - 1) == last and rest == 0
    if count <= 2 or last - first + 1 == count or claims is None:
        if not even:
            raise EvaluationError(
                f"SLURM_ARRAY_TASK_ID {task} of {count} tasks from {first} to {last}: an array "
                "with gaps does not say which one this is; give --shards N or --shard i/n"
            )
        return Shard(place + 1, count)
    job = environment.get("SLURM_ARRAY_JOB_ID", "job")
    return Shard(_claimed(claims, job, str(task), min(place, count - 1), count) + 1, count)


def _claimed(run: Place, job: str, task: str, preferred: int, count: int) -> int:
    """A place among `count` that no other task of the job has; the same one after a restart."""
    for step in range(count):
        place = (preferred + step) % count
        name = f"claims/{job}/{place}"
        if run.create(name, task.encode()) or run.read(name).decode() == task:
            return place
    raise EvaluationError(
        f"task {task} of an array of {count} finds every part taken (in {run}/claims/{job}); more "
        "tasks run than SLURM_ARRAY_TASK_COUNT says"
    )


def _number(environment: Environment, name: str) -> int:
    text = environment.get(name, "")
    if not text.strip().isdigit():
        raise EvaluationError(f"the launcher's {name} is {text!r}, which is no number")
    return int(text)


def alone_of(environment: Environment = os.environ) -> int | None:
    """How many tasks a SLURM job has where this process is not one of srun's; None elsewhere."""
    tasks = environment.get("SLURM_NTASKS", "1")
    alone = "SLURM_JOB_ID" in environment and "SLURM_STEP_ID" not in environment
    started = any(rank in environment for rank, _ in _RANKS if rank != "SLURM_PROCID")
    batch = alone and not started and environment.get("SLURM_PROCID", "0") == "0"
    return int(tasks) if batch and tasks.isdigit() and int(tasks) > 1 else None


def local_device(environment: Environment = os.environ) -> str | None:
    """The CUDA device of a process that shares its machine with others; None when it has no say."""
    import torch

    local = next((environment[name] for name in _LOCAL_RANKS if name in environment), None)
    if local is None or not torch.cuda.is_available():
        return None
    return f"cuda:{int(local) % torch.cuda.device_count()}"

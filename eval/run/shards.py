"""Which part of the work a process does: `--shard i/n`, torchrun's or SLURM's variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from adhere.eval.errors import EvaluationError

T = TypeVar("T")


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

    def of(self, work: Sequence[T]) -> Sequence[T]:
        """This shard's part: every `count`-th, so that dear and cheap work is spread evenly."""
        return work[self.index - 1 :: self.count]

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"


# The variables of rank and size, in the order in which they are believed. An array job may also
# run several tasks; then the tasks of torchrun or srun inside it are what counts.
_LAUNCHERS = (
    ("RANK", "WORLD_SIZE", 0),
    ("SLURM_PROCID", "SLURM_NTASKS", 0),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", None),
)


def from_environment(environment: Mapping[str, str] = os.environ) -> Shard:
    """The shard that a launcher gave this process, or 1/1 where there is none."""
    for rank, size, first in _LAUNCHERS:
        if rank in environment and size in environment:
            start = int(environment.get("SLURM_ARRAY_TASK_MIN", "0")) if first is None else first
            count = int(environment[size])
            if count > 1:
                return Shard(int(environment[rank]) - start + 1, count)
    return Shard()


def local_device(environment: Mapping[str, str] = os.environ) -> str | None:
    """The CUDA device of a process that shares its machine with others; None when it has no say."""
    import torch

    local = environment.get("LOCAL_RANK", environment.get("SLURM_LOCALID"))
    if local is None or not torch.cuda.is_available():
        return None
    return f"cuda:{int(local) % torch.cuda.device_count()}"

"""Which shard a process is."""

from __future__ import annotations

import itertools

import pytest

from adhere.eval.errors import EvaluationError
from adhere.eval.run.shards import Shard, from_environment, local_device


def test_every_piece_is_in_one_shard() -> None:
    work = list(range(17))
    parts = [list(Shard(k, 5).of(work)) for k in range(1, 6)]
    assert sorted(itertools.chain(*parts)) == work
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/2"])
def test_bad_shards(text: str) -> None:
    with pytest.raises(EvaluationError, match="shard"):
        Shard.parse(text)


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({}, Shard(1, 1)),
        ({"RANK": "2", "WORLD_SIZE": "4"}, Shard(3, 4)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, Shard(1, 8)),
        (
            {
                "SLURM_PROCID": "0",
                "SLURM_NTASKS": "1",
                "SLURM_ARRAY_TASK_ID": "7",
                "SLURM_ARRAY_TASK_COUNT": "3",
                "SLURM_ARRAY_TASK_MIN": "5",
            },
            Shard(3, 3),
        ),
        ({"RANK": "0", "WORLD_SIZE": "1"}, Shard(1, 1)),
    ],
)
def test_from_environment(environment: dict[str, str], shard: Shard) -> None:
    assert from_environment(environment) == shard


def test_no_device_without_cuda() -> None:
    assert local_device({}) is None

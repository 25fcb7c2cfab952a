"""Which shard a process is, under every launcher."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from adhere.eval import places
from adhere.eval.errors import EvaluationError
from adhere.eval.run.shards import Shard, alone_of, from_environment, local_device


def test_every_piece_is_in_one_shard() -> None:
    work = list(range(17))
    parts = [[one for one in work if Shard(k, 5).takes(one)] for k in range(1, 6)]
    assert sorted(itertools.chain(*parts)) == work
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/2"])
def test_bad_shards(text: str) -> None:
    with pytest.raises(EvaluationError, match="shard"):
        Shard.parse(text)


def array(task: int, count: int, first: int, last: int) -> dict[str, str]:
    return {
        "SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(task),
        "SLURM_ARRAY_TASK_COUNT": str(count), "SLURM_ARRAY_TASK_MIN": str(first),
        "SLURM_ARRAY_TASK_MAX": str(last), "SLURM_PROCID": "0", "SLURM_NTASKS": "1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({}, Shard(1, 1)),
        ({"RANK": "2", "WORLD_SIZE": "4"}, Shard(3, 4)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, Shard(1, 1)),
        # srun says how many tasks its step has, and numbers them.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_STEP_ID": "0",
          "SLURM_STEP_NUM_TASKS": "8"}, Shard(1, 8)),
        ({"SLURM_PROCID": "5", "SLURM_NTASKS": "8"}, Shard(6, 8)),
        # sbatch --ntasks=8 without srun: the script runs once, so it does everything.
        ({"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, Shard(1, 1)),
        (array(7, 3, 5, 7), Shard(3, 3)),
        *((array(task, 32, 0, 31), Shard(task + 1, 32)) for task in (0, 17, 31)),
        (array(3, 2, 3, 7), Shard(1, 2)),
        (array(7, 2, 3, 7), Shard(2, 2)),
        (array(8, 3, 0, 8), Shard(3, 3)),
        # Several tasks within each task of an array.
        ({**array(1, 2, 0, 1), "SLURM_PROCID": "1", "SLURM_STEP_ID": "0",
          "SLURM_STEP_NUM_TASKS": "4"}, Shard(6, 8)),
        ({**array(1, 2, 0, 1), "RANK": "3", "WORLD_SIZE": "4"}, Shard(8, 8)),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, Shard(2, 2)),
        ({"PMI_RANK": "3", "PMI_SIZE": "4"}, Shard(4, 4)),
        # mpirun's daemons, one for each of two nodes, are tasks of srun.
        *(({"SLURM_PROCID": node, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2",
            rank: "5", size: "16"}, Shard(6, 16))
          for node in "01" for rank, size in (("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
                                              ("PMI_RANK", "PMI_SIZE"))),
        # torchrun over two pods of an indexed job of Kubernetes numbers the processes of both.
        *(({"JOB_COMPLETION_INDEX": pod, "GROUP_RANK": pod, "GROUP_WORLD_SIZE": "2",
            "RANK": rank, "WORLD_SIZE": "16"}, Shard(int(rank) + 1, 16))
          for pod, rank in (("0", "7"), ("1", "8"))),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "0", "AWS_BATCH_JOB_ARRAY_SIZE": "3"}, Shard(1, 3)),
        ({"SGE_TASK_ID": "5", "SGE_TASK_FIRST": "1", "SGE_TASK_LAST": "9",
          "SGE_TASK_STEPSIZE": "2"}, Shard(3, 5)),
        ({"SGE_TASK_ID": "undefined"}, Shard(1, 1)),
    ],
)  # fmt: skip
def test_from_environment(environment: dict[str, str], shard: Shard) -> None:
    assert from_environment(environment) == shard


@pytest.mark.parametrize("name", ["PBS_ARRAY_INDEX", "PBS_ARRAYID", "JOB_COMPLETION_INDEX"])
def test_an_index_alone_needs_to_be_told_of_how_many(name: str) -> None:
    with pytest.raises(EvaluationError, match=f"{name} is 2.*--shards N"):
        from_environment({name: "2"})
    for indices in (range(4), range(1, 5)):
        parts = {from_environment({name: str(index)}, 4) for index in indices}
        assert parts == {Shard(k, 4) for k in range(1, 5)}
    with pytest.raises(EvaluationError, match="beyond --shards 4"):
        from_environment({name: "5"}, 4)


def test_mpirun_within_a_pbs_array() -> None:
    inner = {"PBS_ARRAY_INDEX": "1", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}
    assert from_environment(inner, 3) == Shard(4, 6)


def test_an_array_with_gaps_shares_out_every_part_once(tmp_path: Path) -> None:
    tasks = (3, 7, 8, 20)
    found = [
        from_environment(array(task, 4, 3, 20), None, places.at(tmp_path)).index for task in tasks
    ]
    assert sorted(found) == [1, 2, 3, 4]
    # A task that is started again has the part it had.
    again = [
        from_environment(array(task, 4, 3, 20), None, places.at(tmp_path)).index for task in tasks
    ]
    assert again == found
    with pytest.raises(EvaluationError, match="every part taken"):
        from_environment(array(9, 4, 3, 20), None, places.at(tmp_path))
    with pytest.raises(EvaluationError, match="with gaps"):
        from_environment(array(8, 4, 3, 20))


def test_a_variable_that_is_no_number() -> None:
    with pytest.raises(EvaluationError, match="WORLD_SIZE is 'many'"):
        from_environment({"RANK": "0", "WORLD_SIZE": "many"})
    with pytest.raises(EvaluationError, match="needs a launcher"):
        from_environment({}, 4)


def test_a_batch_script_without_srun_is_told() -> None:
    batch = {"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}
    assert alone_of(batch) == 8
    assert alone_of({**batch, "SLURM_STEP_ID": "0"}) is None
    assert alone_of({**batch, "RANK": "0"}) is None
    assert alone_of({}) is None


def test_no_device_without_cuda() -> None:
    assert local_device({}) is None

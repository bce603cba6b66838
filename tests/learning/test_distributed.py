"""What processes share out and exchange; with other processes in the last test alone."""

import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from torch import distributed, nn

from learning.distributed import SINGLE_PROCESS, ProcessGroup, join_process_group
from running.environment import Launch
from running.errors import InputError

CPU = torch.device("cpu")


@pytest.mark.parametrize("count", [0, 1, 7, 12])
def test_photographs_are_dealt_out_like_cards(count):
    hands = [ProcessGroup(rank, 3).shard([*range(count)]) for rank in range(3)]
    assert sorted(sum(hands, [])) == [*range(count)]
    assert all(each % 3 == rank for rank, hand in enumerate(hands) for each in hand)
    assert max(map(len, hands)) - min(map(len, hands)) <= 1
    assert ProcessGroup(2, 3).shard(torch.arange(8)).tolist() == [2, 5]


def test_a_process_that_is_alone_exchanges_nothing(monkeypatch):
    for name in ("all_gather", "gather", "all_gather_object", "all_reduce", "broadcast"):
        monkeypatch.setattr(distributed, name, None)
    rows, model = torch.rand(5, 2), nn.Linear(2, 2)
    assert SINGLE_PROCESS.is_rank_zero
    assert SINGLE_PROCESS.collect(rows, 5) is rows
    assert SINGLE_PROCESS.gather_objects([1, 2]) == [1, 2]
    assert SINGLE_PROCESS.add(rows) is rows
    SINGLE_PROCESS.average_gradients(model.parameters())
    SINGLE_PROCESS.broadcast_weights(model)
    SINGLE_PROCESS.wait()
    with SINGLE_PROCESS.rank_zero_first():
        pass


def test_only_the_first_is_the_primary_one():
    assert [ProcessGroup(rank, 3).is_rank_zero for rank in range(3)] == [True, False, False]


@pytest.mark.parametrize("count", [3, 22, 24, 25])
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_rows_are_put_back_into_their_order(monkeypatch, count, rank):
    """The others' part is played by what they would send."""
    rows, block = torch.arange(2.0 * count).view(count, 2), 4
    starts = iter(range(0, count, block))

    def all_gather(blocks, mine):
        start = next(starts)
        for each, received in enumerate(blocks):
            share = rows[each::3][start : start + block]
            received.zero_()
            received[: len(share)] = share
        assert mine.equal(blocks[rank])

    monkeypatch.setattr(distributed, "all_gather", all_gather)
    monkeypatch.setattr(ProcessGroup, "BLOCK", block)
    processes = ProcessGroup(rank, 3)
    assert processes.collect(processes.shard(rows), count).equal(rows)


@pytest.mark.parametrize("rank", [0, 1])
def test_rows_may_be_wanted_by_the_primary_process_alone(monkeypatch, rank):
    rows, given = torch.arange(5.0)[:, None], []

    def gather(mine, blocks):
        if blocks is None:
            assert rank == 1
            return
        for each, received in enumerate(blocks):
            received.zero_()
            received[: len(rows[each::2])] = rows[each::2]

    def allocate(*shape):
        given.append(torch.full(shape, torch.nan))
        return given[-1]

    monkeypatch.setattr(distributed, "gather", gather)
    processes = ProcessGroup(rank, 2)
    mine = processes.shard(rows)
    whole = processes.collect(mine, 5, everywhere=False, allocate=allocate)
    assert whole is given[0]
    assert whole.equal(rows if rank == 0 else rows[:0])


def test_objects_are_put_back_into_their_order(monkeypatch):
    hands = [["a", "d", "g"], ["b", "e"], ["c", None]]

    def all_gather_object(parts, part):
        assert part == hands[1]
        parts[:] = hands

    monkeypatch.setattr(distributed, "all_gather_object", all_gather_object)
    collected = ProcessGroup(1, 3).gather_objects(hands[1])
    assert collected == ["a", "b", "c", "d", "e", None, "g"]


@pytest.mark.parametrize(("rank", "expected"), [(0, ["block", "wait"]), (1, ["wait", "block"])])
def test_the_primary_process_goes_first(monkeypatch, rank, expected):
    order = []
    monkeypatch.setattr(ProcessGroup, "wait", lambda self: order.append("wait"))
    with ProcessGroup(rank, 2).rank_zero_first():
        order.append("block")
    assert order == expected


def test_without_torchrun_a_process_is_alone():
    assert join_process_group(CPU, Launch()) is SINGLE_PROCESS


def test_accelerators_that_cannot_work_together_are_refused(monkeypatch):
    words = "several processes with --gpu need NVIDIA's or AMD's GPUs and NCCL"
    with pytest.raises(InputError, match=words):
        join_process_group(torch.device("mps"), Launch(0, 2, 0, 2))
    monkeypatch.setattr(distributed, "is_nccl_available", lambda: False)
    with pytest.raises(InputError, match=words):
        join_process_group(torch.device("cuda"), Launch(0, 2, 0, 2))


SCRIPT = """
import torch
from torch import nn
from learning.distributed import join_process_group
from running.environment import Launch

processes = join_process_group(torch.device("cpu"), Launch.from_environment())
assert (processes.size, processes.is_rank_zero) == (3, processes.rank == 0)
processes.BLOCK = 4
for count in (3, 22, 24, 25):
    rows = torch.arange(2 * count).view(count, 2)
    mine = processes.shard(rows)
    assert processes.collect(mine, count).equal(rows)
    first = processes.collect(mine, count, everywhere=False)
    assert first.equal(rows) if processes.is_rank_zero else len(first) == 0
    assert processes.gather_objects(mine.tolist()) == rows.tolist()
assert processes.add(torch.tensor([1.0 + processes.rank])).item() == 6
torch.manual_seed(processes.rank)
model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
processes.broadcast_weights(model)
weights = model[0].weight.detach().clone()
torch.manual_seed(0)
assert weights.equal(nn.Linear(2, 2).weight)
model.eval()(torch.full((1, 2), float(processes.rank))).sum().backward()
alone = processes.collect(model[0].weight.grad.flatten()[None].clone(), 3)
processes.average_gradients(model.parameters())
together = processes.collect(model[0].weight.grad.flatten()[None], 3)
assert len(alone.unique(dim=0)) == 3 and together.allclose(alone.mean(0).expand(3, 4))
print("exchanged everything")
"""


@pytest.mark.slow
def test_three_processes_exchange_what_they_have(tmp_path):
    script = tmp_path / "exchange.py"
    script.write_text(SCRIPT)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=3"]
    process = subprocess.run(
        [sys.executable, *launcher, script],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("exchanged everything") == 3

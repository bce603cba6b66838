"""What processes share out and exchange."""

import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

from learning.resources import join_process_group
from running.environment import Launch
from running.errors import InputError


def test_accelerators_that_cannot_work_together_are_refused():
    with pytest.raises(InputError, match="several processes with --gpu need NVIDIA's or AMD's"):
        join_process_group(torch.device("mps"), Launch(0, 2, 0, 2))


SCRIPT = """
import torch
from torch import nn
from learning.resources import join_process_group
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
torch.manual_seed(0)
assert model[0].weight.equal(nn.Linear(2, 2).weight)
model.eval()(torch.full((1, 2), float(processes.rank))).sum().backward()
alone = processes.collect(model[0].weight.grad.flatten()[None].clone(), 3)
processes.average_gradients(model.parameters())
together = processes.collect(model[0].weight.grad.flatten()[None], 3)
assert len(alone.unique(dim=0)) == 3 and together.allclose(alone.mean(0).expand(3, 4))
"""


@pytest.mark.slow
def test_three_processes_exchange_what_they_have(tmp_path):
    (tmp_path / "exchange.py").write_text(SCRIPT)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=3"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *launcher, tmp_path / "exchange.py"]
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr

"""train.py in several processes: the same figures, one voice, and no waiting for the dead."""

import os
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import CNN, ROOT, history_of

import model_utils
import train


def start_together(size: int, *arguments, script=ROOT / "train.py") -> list[subprocess.Popen]:
    """Start processes as torchrun does, but each with an output of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return [
        subprocess.Popen(
            [sys.executable, script, *map(str, arguments)],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                **os.environ,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(size),
                "LOCAL_WORLD_SIZE": str(size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": str(ROOT),
            },
        )
        for rank in range(size)
    ]


@pytest.mark.parametrize(
    "count, batch_size, size",
    [
        (6552, 32, 2),
        (65, 32, 2),
        (64, 32, 2),
        (7, 3, 3),
        (8, 3, 3),
        (9, 3, 3),
        (10, 3, 3),
        (3, 5, 3),
        (48, 64, 1),
        (101, 10, 4),
    ],
)
def test_every_photograph_counts_once_and_every_step_alike(count, batch_size, size):
    weights = np.stack([train.weigh(count, batch_size, rank, size) for rank in range(size)])
    shares = [len(model_utils.Processes(rank, size).share_of(range(count))) for rank in range(size)]
    assert ((weights > 0).sum(1) == shares).all()
    for start in range(0, weights.shape[1], batch_size):
        step = weights[:, start : start + batch_size]
        # The mean over the processes of their sums is the mean over the step's photographs.
        np.testing.assert_allclose(step[step > 0] / size, 1 / (step > 0).sum(), rtol=1e-6)


def test_two_processes_solve_the_same_head_and_one_goes_on(run_script, drawn, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    run = run_script("train", drawn, "--image_size", 64, "--epochs", 0, "--save_dir", alone)
    assert run.code == 0, run.err
    process = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node=2",
            ROOT / "train.py",
            drawn,
            "--image_size",
            "64",
            "--epochs",
            "1",
            "--save_dir",
            together,
        ],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert "device: cpu, 2 processes of 1 threads" in process.stderr
    assert process.stdout.count("test accuracy") == process.stderr.count("network: ") == 1
    assert sorted(os.listdir(together)) == sorted(os.listdir(alone))

    [head], (ours, _) = history_of(alone), history_of(together)
    assert ours["valid_accuracy"] == head["valid_accuracy"]
    for loss in ("train_loss", "valid_loss"):  # linear algebra rounds with its threads
        assert float(ours[loss]) == pytest.approx(float(head[loss]), rel=1e-4)

    run = run_script("train", drawn, "--resume", "--epochs", 2, "--save_dir", together)
    assert run.code == 0, run.err
    assert [row["epoch"] for row in history_of(together)] == ["0", "1", "2"]


@pytest.fixture
def uneven(drawn, tmp_path):
    """The drawn flowers without one photograph of each split, which leaves odd numbers."""
    folder = tmp_path / "uneven"
    shutil.copytree(drawn, folder)
    for split in ("train", "valid", "test"):
        next((folder / split / "1").iterdir()).unlink()
    return folder


def test_uneven_shares(uneven, tmp_path):
    processes = start_together(
        2,
        uneven,
        *CNN,
        "--epochs",
        2,
        "--batch_size",
        16,
        "--min_accuracy",
        1,
        "--save_dir",
        tmp_path / "run",
    )
    (out, err), (other_out, other_err) = (process.communicate() for process in processes)
    # Only the first says that it is not good enough: torchrun would stop it while it writes.
    assert [process.returncode for process in processes] == [3, 0], err + other_err
    assert (tmp_path / "run" / "report.json").exists()
    assert other_out == other_err == ""
    assert "47 train, 15 valid, 15 test" in err and " of 15)" in out
    model, _ = model_utils.load_checkpoint(tmp_path / "run" / "checkpoint.pth")
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_more_processes_than_photographs(uneven, tmp_path):
    shutil.rmtree(uneven / "valid")
    for category in (uneven / "test").iterdir():
        if category.name != "2":
            shutil.rmtree(category)
    photographs = sorted((uneven / "test" / "2").iterdir())
    for path in photographs[1:]:
        path.unlink()
    processes = start_together(2, uneven, *CNN, "--save_dir", tmp_path)
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [2, 2]
    assert "2 processes cannot share out the photographs of test: 1" in outputs[0][1]
    assert outputs[1] == ("", "")


def test_when_one_is_killed_the_other_ends_and_names_the_best_network(drawn, tmp_path):
    processes = start_together(2, drawn, *CNN, "--epochs", 10_000, "--save_dir", tmp_path)
    while not (tmp_path / "last.pth").exists() and processes[0].poll() is None:
        time.sleep(0.1)
    processes[1].kill()
    _, err = processes[0].communicate(timeout=60)
    assert processes[0].returncode == 1
    assert "train.py: another process of this run has ended, or is out of reach: " in err
    assert f"the best network so far is in {tmp_path / 'checkpoint.pth'}" in err
    assert "go on with: " in err and "Traceback" not in err
    processes[1].communicate()
    model_utils.load_checkpoint(tmp_path / "checkpoint.pth")


def test_photographs_have_to_be_there_already(tmp_path):
    for arguments in (["--demo"], [tmp_path / "flowers", "--download", "flowers"]):
        process, other = start_together(2, *arguments)
        assert (
            "under torchrun the photographs have to be there already" in (process.communicate()[1])
        )
        assert other.communicate() == ("", "") and process.returncode == other.returncode == 2


def test_rows_are_put_back_into_their_order(tmp_path):
    script = tmp_path / "collect.py"
    script.write_text("""
import torch, model_utils
processes = model_utils.join_processes(torch.device("cpu"))
processes.BLOCK = 4
for count in (3, 22, 24, 25):
    rows = torch.arange(2 * count).view(count, 2)
    mine = processes.share_of(rows)
    assert processes.collect(mine, count).equal(rows)
    first = processes.collect(mine, count, everywhere=False)
    assert first.equal(rows) if processes.first else len(first) == 0
    assert processes.collect_objects(mine.tolist()) == rows.tolist()
""")
    processes = start_together(3, script=script)
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs


def test_learning_is_in_bfloat16_only_where_that_is_quicker(monkeypatch):
    monkeypatch.setattr(model_utils, "native_precision", lambda device: torch.bfloat16)
    cnn, lite0 = (
        model_utils.new_model(arch, 3, 32, weights="none")[0]
        for arch in ("cnn", "efficientnet_lite0")
    )
    assert model_utils.learning_precision(cnn) == torch.bfloat16
    assert model_utils.learning_precision(lite0) == torch.float32
    last = len(model_utils.chain(lite0.body)) - 2  # a convolution of all channels, and pooling
    assert model_utils.learning_precision(lite0, last) == torch.bfloat16

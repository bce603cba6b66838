"""train.py in several processes: the same figures, one voice, and no waiting for the dead."""

import os
import shutil
import socket
import subprocess
import sys
import time

import pytest
from conftest import CNN, ROOT, history_of

import model_utils

LIMIT = 120  # seconds that a process may take


def start_together(size: int, *arguments) -> list[subprocess.Popen]:
    """Start processes as torchrun does, but each with an output of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return [
        subprocess.Popen(
            [sys.executable, ROOT / "train.py", *map(str, arguments)],
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


def outputs_of(processes: list[subprocess.Popen]) -> list[tuple[str, str]]:
    """Wait for the end of processes and return what each has said; none of them outlives this."""
    try:
        return [process.communicate(timeout=LIMIT) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait(LIMIT)
            process.stdout.close()
            process.stderr.close()


@pytest.mark.slow
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
        timeout=LIMIT,
    )
    assert process.returncode == 0, process.stderr
    assert "device: cpu, 2 processes of 1 thread" in process.stdout
    assert process.stdout.count("test accuracy") == process.stdout.count("network: ") == 1
    # What one process alone keeps for an update.
    assert sorted([*os.listdir(together), "features.bin"]) == sorted(os.listdir(alone))

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


@pytest.mark.slow
def test_uneven_shares(uneven, tmp_path):
    (out, err), (other_out, other_err) = outputs_of(
        processes := start_together(
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
    )
    # Only the first says that it is not good enough: torchrun would stop it while it writes.
    assert [process.returncode for process in processes] == [3, 0], err + other_err
    assert (tmp_path / "run" / "report.json").exists()
    assert other_out == other_err == ""
    assert "47 train, 15 valid, 15 test" in out
    assert " of 15)" in out
    model, _ = model_utils.load_checkpoint(tmp_path / "run" / "checkpoint.pth")
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.slow
def test_when_one_is_killed_the_other_ends_and_names_the_best_network(drawn, tmp_path):
    processes = start_together(2, drawn, *CNN, "--epochs", 10_000, "--save_dir", tmp_path)
    deadline = time.monotonic() + LIMIT
    while not (tmp_path / "last.pth").exists() and processes[0].poll() is None:
        if time.monotonic() > deadline:
            break  # and `outputs_of` ends them
        time.sleep(0.1)
    processes[1].kill()
    _, err = outputs_of(processes)[0]
    assert processes[0].returncode == 1
    assert "train.py: another process of this run has ended, or is out of reach: " in err
    assert f"the best network so far is in {tmp_path / 'checkpoint.pth'}" in err
    assert "go on with: " in err
    assert "Traceback" not in err
    model_utils.load_checkpoint(tmp_path / "checkpoint.pth")


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("arguments", [["--demo"], ["FOLDER", "--download", "flowers"]])
def test_photographs_have_to_be_there_already(run_script, tmp_path, monkeypatch, rank, arguments):
    waits = []
    monkeypatch.setattr("running.console.time.sleep", waits.append)
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", "2")
    arguments = [str(tmp_path / "flowers") if word == "FOLDER" else word for word in arguments]
    run = run_script("train", *arguments, "--save_dir", tmp_path)
    assert run.code == 2
    assert run.out == ""
    if rank == 0:
        assert "under torchrun the photographs have to be there already" in run.err
        assert waits == []
    else:  # torchrun would stop the others as soon as this one ends
        assert run.err == ""
        assert waits != []
    assert os.listdir(tmp_path) == []

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


def start_two(*arguments) -> list[subprocess.Popen]:
    """Start two processes as torchrun does, but each with an output of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.getsockname()[1])}
    shared |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, ROOT / "train.py", *map(str, arguments)],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]


def outputs_of(processes: list[subprocess.Popen]) -> list[tuple[str, str]]:
    """Wait for the end of processes and return what each has said; none of them outlives this."""
    try:
        return [process.communicate(timeout=LIMIT) for process in processes]
    finally:
        for process in processes:
            with process:
                process.kill()


@pytest.mark.slow
def test_two_processes_fit_the_same_head_and_one_goes_on(run_script, drawn, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    options = [drawn, "--image_size", "64", "--epochs"]
    assert run_script("train", *options, 0, "--save_dir", alone).code == 0
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [sys.executable, *launcher, ROOT / "train.py", *options, "1", "--save_dir", together]
    process = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    assert process.returncode == 0, process.stderr
    assert "device: cpu, 2 processes of 1 thread" in process.stdout
    assert process.stdout.count("test accuracy") == process.stdout.count("network: ") == 1
    [head], (ours, _) = history_of(alone), history_of(together)
    assert ours["valid_accuracy"] == head["valid_accuracy"]
    for loss in ("train_loss", "valid_loss"):  # linear algebra rounds with its threads
        assert float(ours[loss]) == pytest.approx(float(head[loss]), rel=1e-4)
    run = run_script("train", drawn, "--resume", "--epochs", 2, "--save_dir", together)
    assert run.code == 0
    assert [row["epoch"] for row in history_of(together)] == ["0", "1", "2"]


@pytest.mark.slow
def test_uneven_and_missing_shards(drawn, tmp_path):
    """Odd numbers are shared out; one photograph of a split cannot be, and both processes end."""
    data = shutil.copytree(drawn, tmp_path / "data")
    for split in ("train", "valid", "test"):
        next((data / split / "1").iterdir()).unlink()
    options = [data, *CNN, "--epochs", 2, "--batch_size", 16, "--min_accuracy", 1]
    processes = start_two(*options, "--save_dir", tmp_path / "run")
    (out, err), other = outputs_of(processes)
    # Only the first says that it is not good enough: torchrun would stop it while it writes.
    assert [process.returncode for process in processes] == [3, 0], err
    assert other == ("", "")
    assert "47 train, 15 valid, 15 test" in out
    assert " of 15)" in out
    assert (tmp_path / "run" / "report.json").exists()
    model, _ = model_utils.load_checkpoint(tmp_path / "run" / "checkpoint.pth")
    assert all(value.isfinite().all() for value in model.state_dict().values())

    shutil.rmtree(data / "test")
    (data / "test" / "2").mkdir(parents=True)
    shutil.copy(next((drawn / "test" / "2").iterdir()), data / "test" / "2")
    processes = start_two(*options, "--save_dir", tmp_path / "none")
    (_, err), other = outputs_of(processes)
    assert [process.returncode for process in processes] == [2, 2]
    assert "2 processes cannot share out the photographs of test: 1" in err
    assert other == ("", "")


@pytest.mark.slow
def test_when_one_is_killed_the_other_ends_and_names_the_network(drawn, tmp_path):
    processes = start_two(drawn, *CNN, "--epochs", 10_000, "--save_dir", tmp_path)
    deadline = time.monotonic() + LIMIT
    while not (tmp_path / "last.pth").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    processes[1].kill()
    _, err = outputs_of(processes)[0]
    assert processes[0].returncode == 1
    assert "train.py: another process of this run has ended, or is out of reach: " in err
    assert f"the network so far is in {tmp_path / 'checkpoint.pth'}" in err
    assert "go on with: " in err
    assert "Traceback" not in err
    model_utils.load_checkpoint(tmp_path / "checkpoint.pth")


@pytest.mark.parametrize("rank", [0, 1])
def test_one_process_speaks_of_a_mistake(run_script, tmp_path, monkeypatch, rank):
    """The other one waits a little: torchrun would stop the first as soon as it ends."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", "2")
    for flags, words in (
        (["--demo"], "--demo is for one process"),
        ([tmp_path / "f", "--download", "flowers"], "--download is for one process"),
        (["flowers", "--epochs", "two"], "'two' is not a whole number"),
    ):
        run = run_script("train", *flags, "--save_dir", tmp_path)
        assert (run.code, run.out) == (2, "")
        assert words in run.err if rank == 0 else run.err == ""
        assert os.listdir(tmp_path) == []

"""What needs an accelerator: it trains, resumes and predicts as the CPU does."""

import json
import subprocess
import sys

import pytest
import torch
from conftest import CNN, ROOT
from kill import result_of

import data_utils
import learning.run
import model_utils

pytestmark = pytest.mark.skipif(not torch.accelerator.is_available(), reason="no accelerator here")

NETWORKS = {"cnn": CNN, "tail": ["--image_size", "64", "--tune", "tail"], "all": ["--tune", "all"]}


class Killed(BaseException):
    """The machine is gone."""


def test_the_cpu_agrees_with_it(run_script, drawn, tmp_path):
    run = run_script("train", drawn, "--epochs", 1, "--gpu", "--save_dir", tmp_path)
    assert run.code == 0
    assert "device: cpu" not in run.out
    checkpoint = tmp_path / "checkpoint.pth"
    paths, answers = data_utils.find_data(drawn).splits["valid"].paths, []
    for device in (torch.device("cpu"), torch.accelerator.current_accelerator()):
        model, info = model_utils.load_checkpoint(checkpoint, device, torch.float32)
        assert model.mean.device.type == device.type
        answers.append(
            model_utils.predict(model, data_utils.load_batches(paths, info.preprocessing))
        )
    here, there = answers
    assert (here.argmax(1) != there.argmax(1)).sum() <= 1
    assert (here - there).abs().max() < 0.01


@pytest.mark.parametrize("network", NETWORKS)
def test_a_killed_run_resumes_bit_for_bit(run_script, drawn, tmp_path, monkeypatch, network):
    options = [drawn, *NETWORKS[network], "--epochs", 2, "--batch_size", 8, "--gpu"]
    assert run_script("train", *options, "--save_dir", tmp_path / "peace").code == 0
    save = learning.run.Run.save

    def save_and_die(run, path):
        save(run, path)
        if run.epoch == 1:
            raise Killed

    monkeypatch.setattr("learning.run.Run.save", save_and_die)
    with pytest.raises(Killed):
        run_script("train", *options, "--save_dir", tmp_path / "killed")
    monkeypatch.setattr("learning.run.Run.save", save)
    resume = [drawn, "--gpu", "--resume", "--save_dir", tmp_path / "killed"]
    assert run_script("train", *resume).code == 0
    assert result_of(tmp_path / "killed") == result_of(tmp_path / "peace")


def test_predict_says_the_same_with_it(run_script, drawn, checkpoint):
    options = ["predict", drawn / "valid", checkpoint, "--reject", "--format", "jsonl"]
    here, there = (run_script(*options, *more) for more in ([], ["--gpu"]))
    assert here.code == there.code == 0
    rows = [[json.loads(line) for line in run.out.splitlines()] for run in (here, there)]
    assert len(rows[0]) == len(rows[1]) == 16
    for ours, theirs in zip(*rows):
        assert ours["file"] == theirs["file"]
        assert ours["top"][0]["category"] == theirs["top"][0]["category"]


def test_one_process_of_torchrun(drawn, tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "1"]
    command = [*launcher, ROOT / "train.py", drawn, *CNN, "--epochs", "1", "--gpu"]
    command += ["--save_dir", tmp_path]
    run = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    model_utils.load_checkpoint(tmp_path / "checkpoint.pth")

"""What needs an accelerator: it trains, resumes and predicts as the CPU does."""

import json

import pytest
import torch
from conftest import CNN, Killed
from kill import result_of

import data_utils
import learning.run
import model_utils

pytestmark = pytest.mark.skipif(not torch.accelerator.is_available(), reason="no accelerator here")

NETWORKS = {"cnn": CNN, "tail": ["--image_size", "64", "--tune", "tail"], "all": ["--tune", "all"]}


@pytest.mark.parametrize("network", NETWORKS)
def test_a_killed_run_resumes_bit_for_bit(run_script, drawn, tmp_path, monkeypatch, network):
    options = [drawn, *NETWORKS[network], "--epochs", 2, "--batch_size", 8, "--gpu"]
    assert run_script("train", *options, "--save_dir", tmp_path / "peace").code == 0
    save = learning.run.Run.save

    def save_and_die(run, path):
        save(run, path)
        if run.epoch == 1:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("learning.run.Run.save", save_and_die)
        run_script("train", *options, "--save_dir", tmp_path / "killed")
    resume = [drawn, "--gpu", "--resume", "--save_dir", tmp_path / "killed"]
    assert run_script("train", *resume).code == 0
    assert result_of(tmp_path / "killed") == result_of(tmp_path / "peace")


def test_the_cpu_agrees_with_it(run_script, drawn, tmp_path):
    run = run_script("train", drawn, "--epochs", 1, "--gpu", "--save_dir", tmp_path)
    assert run.code == 0
    assert "device: cpu" not in run.out
    checkpoint = tmp_path / "checkpoint.pth"
    paths, answers = data_utils.find_data(drawn).splits["valid"].paths, []
    for device in (torch.device("cpu"), torch.accelerator.current_accelerator()):
        model, info = model_utils.load_checkpoint(checkpoint, device, torch.float32)
        batches = data_utils.load_batches(paths, info.preprocessing)
        answers.append(model_utils.predict(model, batches))
    here, there = answers
    assert (here.argmax(1) != there.argmax(1)).sum() <= 1
    assert (here - there).abs().max() < 0.01
    options = ["predict", drawn / "valid", checkpoint, "--reject", "--format", "jsonl"]
    lines = [run_script(*options, *more).out.splitlines() for more in ([], ["--gpu"])]
    ours, theirs = ([json.loads(line)["top"][0]["category"] for line in each] for each in lines)
    assert len(ours) == 16
    assert sum(one != other for one, other in zip(ours, theirs)) <= 1

"""train.py: the whole way on drawn flowers, and what it promises of its output."""

import json
import math
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from conftest import CNN, history_of
from pages import Page

import learning.evaluation
import learning.fit
import model_utils
from reporting.report import HEADER

LINE = r"( head|    \d)  +\d+\.\d{4}  +\d+\.\d{4}  +\d+\.\d\d%  +\d+\.\d"


def info_of(folder: Path):
    """What the checkpoint of a run knows."""
    return model_utils.load_checkpoint(folder / "checkpoint.pth")[1]


# --- The whole way --------------------------------------------------------------------


def test_a_pretrained_run_from_data_to_checkpoint(drawn, trained):
    out = (trained / "out.txt").read_text().splitlines()
    start = out.index(HEADER)
    head, epoch, test, *_, report, following = out[start + 1 :]
    assert re.fullmatch(LINE, head)
    assert re.fullmatch(LINE, epoch)
    assert re.fullmatch(r"test accuracy: \d+\.\d\d% \(\d+ of 16\)", test)
    assert report == f"report: {trained / 'report.html'}, {trained / 'report.json'}"
    assert following.startswith(f"next: python predict.py {drawn}/test/")
    split = f"{drawn}: 48 train, 16 valid, 16 test photographs; 4 categories of 12 in train"
    assert out[0] == split
    assert out[1].endswith("1 epoch of the last third of its layers")
    assert f"names: {drawn / 'cat_to_name.json'}" in out[:start]
    assert (trained / "err.txt").read_text() == ""  # no warnings, and no progress bar in a log

    rows, info = history_of(trained), info_of(trained)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert float(rows[0]["valid_accuracy"]) >= 0.75  # four kinds: chance is 0.25
    assert info.metrics.valid_accuracy == float(rows[-1]["valid_accuracy"])
    assert info.metrics.epoch == 1
    assert info.names == ["drawn daisy", "drawn poppy", "drawn sunflower", "drawn cornflower"]
    assert info.categories == ["1", "2", "3", "4"]
    assert info.command.startswith("python train.py ")
    names = "checkpoint.pth err.txt history.csv last.pth out.txt report.html report.json"
    assert sorted(os.listdir(trained)) == names.split()


def test_the_run_ends_with_a_report(trained):
    report = json.loads((trained / "report.json").read_text())
    out, top1 = (trained / "out.txt").read_text(), report["top1"]
    assert (report["split"], report["photographs"]) == ("test", 16)
    assert f"test accuracy: {top1['share']:.2%} ({top1['right']} of 16)\n" in out
    assert sum(row["right"] for row in report["categories"]) == top1["right"]
    assert len(report["misnamed"]) == 16 - top1["right"]
    assert report["suspects"] == []  # nothing is accused for the sake of a list
    page = Page((trained / "report.html").read_bytes(), active=True)
    assert not [text for text in page.texts("figcaption") if "A photograph of train" in text]
    lit = [text for text in page.texts("small") if text.startswith("evidence for ")]
    assert len(lit) == len(report["misnamed"])
    [checkpoint] = [text for text in page.texts("code") if "--check_sample" in text]
    assert str(trained / "checkpoint.pth") in checkpoint
    assert report["calibration"].keys() == {"valid, cross-fitted", "test"}
    assert report["temperature"] == info_of(trained).calibration.temperature
    assert report["accepted_share"]["valid"] == 0.95
    assert report["versions"]["torch"] == torch.__version__


@pytest.mark.slow
@pytest.mark.parametrize("options", [CNN, ["--image_size", 64]], ids=["scratch", "pretrained"])
def test_the_same_seed_repeats_a_run_exactly(run_script, drawn, tmp_path, options):
    """Also with other threads, but not with another seed."""

    def run(name, seed, *more):
        flags = [*options, "--epochs", 1, "--batch_size", 16, "--seed", seed, *more]
        assert run_script("train", drawn, *flags, "--save_dir", tmp_path / name).code == 0
        model, _ = model_utils.load_checkpoint(tmp_path / name / "checkpoint.pth")
        return [row["train_loss"] for row in history_of(tmp_path / name)], model.state_dict()

    losses, weights = run("a", 3)
    again, same = run("b", 3, "--workers", 3)
    assert losses == again
    assert all((weights[key] == same[key]).all() for key in weights)
    other, _ = run("c", 4)
    assert other[-1] != losses[-1]


@pytest.mark.slow
def test_the_basic_cnn_learns_from_scratch(run_script, drawn, tmp_path):
    run = run_script("train", drawn, *CNN, "--epochs", 8, "--batch_size", 8, "--save_dir", tmp_path)
    assert run.code == 0
    rows, metrics = history_of(tmp_path), info_of(tmp_path).metrics
    assert [row["epoch"] for row in rows] == [*"12345678"]  # without a head before them
    assert float(rows[-1]["train_loss"]) < 0.7 * float(rows[0]["train_loss"])
    # The checkpoint holds the last epoch, not the luckiest.
    assert (metrics.epoch, metrics.valid_loss) == (8, float(rows[-1]["valid_loss"]))


def test_test_is_evaluated_once_by_the_reloaded_file(run_script, drawn, tmp_path, monkeypatch):
    evaluate, evaluated = learning.evaluation.evaluate, []

    def spy(model, activations, *more):
        evaluated.append((activations.paths[0].split(os.sep)[-3], model))
        return evaluate(model, activations, *more)

    monkeypatch.setattr("learning.evaluation.evaluate", spy)
    command = ["train", drawn, *CNN, "--epochs", 2, "--save_dir", tmp_path]
    wanted = run_script(*command, "--min_accuracy", 1)
    assert [name for name, _ in evaluated] == ["valid", "valid", "test"]
    assert evaluated[2][1] is not evaluated[1][1]
    assert wanted.code == 3  # a batch job is told, and everything is there
    assert "is below --min_accuracy 100.00%\n" in wanted.err
    assert (tmp_path / "report.json").exists()


# --- What goes wrong --------------------------------------------------------------------


def test_epochs_that_make_a_network_worse_are_told(run_script, drawn, tmp_path):
    """Where valid chooses nothing, nobody else says it."""
    flags = ["--epochs", 2, "--image_size", 64, "--batch_size", 8, "--save_dir", tmp_path]
    run = run_script("train", drawn, *flags, "--lr", 50)
    assert run.code == 0
    assert "warning: the epochs made the network worse: the head alone had " in run.err
    run = run_script("train", drawn, *CNN, "--epochs", 1, "--lr", 90, "--save_dir", tmp_path)
    assert "the loss is no lower than that of guessing; try a lower --lr" in run.err


def test_batches_from_which_batchnorm_learns_nothing_are_refused(run_script, drawn, tmp_path):
    run = run_script("train", drawn, *CNN, "--batch_size", 1, "--save_dir", tmp_path)
    assert run.code == 2
    assert "--batch_size 1 is too small from scratch: in each process a step needs two" in run.err


@pytest.mark.parametrize(
    ("problem", "advice"),
    [(math.nan, "try a lower --lr"), (torch.OutOfMemoryError("CUDA"), "try --batch_size 4")],
)
def test_an_epoch_that_fails_leaves_the_network_before_it_and_advice(
    run_script, drawn, tmp_path, monkeypatch, problem, advice
):
    train_one_epoch = learning.fit.train_one_epoch

    def fail_in_the_second(learner, epoch, *more):
        result = train_one_epoch(learner, epoch, *more)
        if epoch == 1:
            return result
        if isinstance(problem, Exception):
            raise problem
        return problem

    monkeypatch.setattr("learning.fit.train_one_epoch", fail_in_the_second)
    run = run_script("train", drawn, *CNN, "--epochs", 3, "--save_dir", tmp_path)
    assert run.code == 1
    assert advice in run.err
    assert info_of(tmp_path).metrics.epoch == 1


def test_unreadable_photographs_are_named_skipped_and_counted(run_script, drawn, tmp_path):
    data = shutil.copytree(drawn, tmp_path / "data")
    (data / "train" / "2" / "\x1b[31m.jpg").write_bytes(b"hello")
    cut_off = next((data / "valid" / "3").iterdir())
    cut_off.write_bytes(cut_off.read_bytes()[:-500])
    command = ["train", data, *CNN, "--epochs", 1, "--save_dir", tmp_path]
    run = run_script(*command)
    assert run.code == 0
    assert "warning: photographs that cannot be read: 2\n" in run.err
    assert r"train/2/\x1b[31m.jpg is not an image" in run.err
    assert f"  {cut_off} cannot be read: " in run.err
    assert info_of(tmp_path).metrics.valid_images == 15
    for path in (data / "train" / "3").iterdir():
        path.write_bytes(b"hello")
    empty = run_script(*command)
    assert empty.code == 2
    assert "no readable photograph left to train on of 3" in empty.err


def test_folders_of_categories_alone_are_enough(run_script, drawn, tmp_path):
    """They are split, and left as they are; one has one photograph, as has the last batch."""
    words = shutil.copytree(drawn / "train", tmp_path / "words")
    for number, word in (("1", "daisy"), ("2", "poppy"), ("3", "sunflower"), ("4", "cornflower")):
        (words / number).rename(words / word)
    for path in sorted((words / "daisy").iterdir())[1:]:
        path.unlink()
    before = sorted(words.rglob("*"))
    options = [*CNN, "--epochs", 1, "--batch_size", 31]
    run = run_script("train", words, *options, "--save_dir", tmp_path / "run")
    assert run.code == 0
    assert "32 train, 1 valid, " in run.out
    assert info_of(tmp_path / "run").names == ["cornflower", "daisy", "poppy", "sunflower"]
    assert sorted(words.rglob("*")) == before


def test_check_data_prints_a_table_and_writes_nothing(run_script, drawn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = run_script("train", drawn, "--check_data", "files")
    assert run.code == 0
    lines = [line.split() for line in run.out.splitlines()]
    assert lines[1:3] == [["train", "48", "4", "12"], ["valid", "16", "4", "4"]]
    assert os.listdir(tmp_path) == []
    data = shutil.copytree(drawn, tmp_path / "data")
    twin = shutil.copy(next((data / "train" / "2").iterdir()), data / "valid" / "2" / "twin.jpg")
    run = run_script("train", data, "--check_data", "files")
    assert run.code == 1
    assert "     1  photographs that appear in two splits\n" in run.out
    assert f"  {twin} is {data}/train/2/" in run.out

"""train.py: the whole way on drawn flowers, its mistakes, and what it promises of its output."""

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

import data_utils
import learning.evaluation
import model_utils
import train
from images.drawn import draw_data
from network.ood import LogitSums
from reporting.report import HEADER

LINE = re.compile(r"( head|    \d)  +\d+\.\d{4}  +\d+\.\d{4}  +\d+\.\d\d%  +\d+\.\d(  saved)?")


def info_of(folder: Path):
    """What the checkpoint of a run knows."""
    return model_utils.load_checkpoint(folder / "checkpoint.pth")[1]


def some_sums() -> LogitSums:
    """Sums of logits, as an epoch returns them."""
    sums = LogitSums(4)
    sums.add(torch.arange(4), torch.eye(4))
    return sums


# --- The whole way --------------------------------------------------------------------


def test_a_pretrained_run_from_data_to_checkpoint(drawn, trained):
    out, err = (trained / "out.txt").read_text(), (trained / "err.txt").read_text()
    start = out.splitlines().index(HEADER)
    facts, lines = out.splitlines()[:start], out.splitlines()[start:]
    header, head, epoch, test, *_, report, following = lines
    assert header == HEADER
    assert LINE.fullmatch(head)
    assert LINE.fullmatch(epoch)
    assert head.endswith("saved")  # the first one is always the best so far
    assert re.fullmatch(r"test accuracy: \d+\.\d\d% \(\d+ of 16\)", test)
    assert report == f"report: {trained / 'report.html'}, {trained / 'report.json'}"
    assert following.startswith("next: python ")
    assert f"{drawn}/test/" in following
    assert facts[0] == (
        f"{drawn}: 48 train, 16 valid, 16 test photographs; 4 categories of 12 in train"
    )
    assert facts[1].endswith("1 epoch of the last third of its layers")
    assert facts[-2] == f"names: {drawn / 'cat_to_name.json'}"
    assert facts[-1].startswith("activations of the frozen layers are cached in memory (")
    assert err == ""  # nothing to warn of, and no progress bar in a log

    rows = history_of(trained)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert float(rows[0]["valid_accuracy"]) >= 0.75  # four kinds: chance is 0.25
    info = info_of(trained)
    best = [row for row in rows if row["saved"] == "1"][-1]
    assert info.metrics.valid_accuracy == float(best["valid_accuracy"])
    assert info.names == ["drawn daisy", "drawn poppy", "drawn sunflower", "drawn cornflower"]
    assert info.categories == ["1", "2", "3", "4"]
    assert info.command.startswith("python train.py ")
    assert sorted(os.listdir(trained)) == [
        "checkpoint.pth",
        "err.txt",
        "history.csv",
        "last.pth",
        "out.txt",
        "report.html",
        "report.json",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("options", [CNN, ["--image_size", 64]], ids=["scratch", "pretrained"])
def test_the_same_seed_repeats_a_run_exactly(run_script, drawn, tmp_path, options):
    """Also with other threads; with another seed only the head is the same, which needs no luck."""

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
    assert (other[:-1], other[-1] != losses[-1]) == (losses[:-1], True)


@pytest.mark.slow
def test_the_basic_cnn_learns_from_scratch(run_script, drawn, tmp_path):
    run = run_script("train", drawn, *CNN, "--epochs", 8, "--batch_size", 8, "--save_dir", tmp_path)
    assert run.code == 0
    assert "head" not in run.out
    rows = history_of(tmp_path)
    assert len(rows) == 8
    assert float(rows[-1]["train_loss"]) < 0.7 * float(rows[0]["train_loss"])
    # The checkpoint holds the best epoch, not the last.
    metrics = info_of(tmp_path).metrics
    best = max(rows, key=lambda r: (float(r["valid_accuracy"]), -float(r["calibrated_loss"])))
    assert metrics.epoch == int(best["epoch"])
    assert metrics.valid_accuracy == float(best["valid_accuracy"])
    assert metrics.valid_loss == float(best["valid_loss"])


def test_test_is_judged_once_and_by_the_reloaded_file(run_script, drawn, tmp_path, monkeypatch):
    evaluated = []
    evaluate = learning.evaluation.evaluate

    def spy(model, activations, labels, features):
        evaluated.append((activations.paths[0].split(os.sep)[-3], model))
        return evaluate(model, activations, labels, features)

    monkeypatch.setattr("learning.evaluation.evaluate", spy)
    assert run_script("train", drawn, *CNN, "--epochs", 2, "--save_dir", tmp_path).code == 0
    assert [name for name, _ in evaluated] == ["valid", "valid", "test"]
    assert evaluated[2][1] is not evaluated[1][1]


def test_a_loss_that_is_not_finite_ends_the_run_with_the_best_checkpoint(
    run_script, drawn, tmp_path, monkeypatch
):
    losses = iter((1.0, math.nan))
    monkeypatch.setattr("learning.fit.train_one_epoch", lambda *_: (next(losses), some_sums()))
    run = run_script("train", drawn, *CNN, "--epochs", 3, "--save_dir", tmp_path)
    assert run.code == 1
    assert "epoch 2 is not a finite number; try a lower --lr" in run.err
    assert info_of(tmp_path).metrics.epoch == 1


@pytest.mark.slow
def test_the_demo_draws_and_trains(run_script, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "draw_data", lambda folder, progress: draw_data(folder, 4, 2, 2, 3))
    run = run_script("train", "--demo", "--epochs", 0, "--save_dir", tmp_path)
    assert run.code == 0
    assert "drawing flowers into" in run.out
    command = run.out.splitlines()[-1].removeprefix("next: python ").split()
    assert run_script("predict", *command[1:]).out.count("drawn") == 3
    again = run_script("train", "--demo", "--epochs", 0, "--save_dir", tmp_path)
    assert again.code == 0
    assert "drawing flowers into" not in again.out  # they are there


def test_too_little_memory_is_one_sentence(run_script, drawn, tmp_path, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA")

    monkeypatch.setattr("learning.fit.train_one_epoch", fail)
    run = run_script("train", drawn, *CNN, "--epochs", 1, "--save_dir", tmp_path)
    assert run.code == 1
    assert "try --batch_size 128" in run.err


# --- Folders and photographs that cannot be used ----------------------------------------


def test_unreadable_photographs_are_named_skipped_and_counted(run_script, drawn, tmp_path):
    shutil.copytree(drawn, tmp_path / "data")
    (tmp_path / "data" / "train" / "2" / "broken.jpg").write_bytes(b"hello")
    num_frozen = next((tmp_path / "data" / "valid" / "3").iterdir())
    num_frozen.write_bytes(num_frozen.read_bytes()[:-500])
    run = run_script("train", tmp_path / "data", *CNN, "--epochs", 1, "--save_dir", tmp_path)
    assert run.code == 0
    assert "warning: photographs that cannot be read: 2\n" in run.err
    assert "train/2/broken.jpg is not an image" in run.err
    assert f"  {num_frozen} cannot be read: " in run.err
    assert info_of(tmp_path).metrics.valid_images == 15


def test_folders_of_categories_alone_are_enough(run_script, drawn, tmp_path):
    shutil.copytree(drawn / "train", tmp_path / "words")
    for number, word in (("1", "daisy"), ("2", "poppy"), ("3", "sunflower"), ("4", "cornflower")):
        (tmp_path / "words" / number).rename(tmp_path / "words" / word)
    before = sorted(path.relative_to(tmp_path) for path in (tmp_path / "words").rglob("*"))
    run = run_script("train", tmp_path / "words", *CNN, "--epochs", 1, "--save_dir", tmp_path / "s")
    assert run.code == 0
    assert "has no splits: 41 photographs are for training, 2 for validation" in run.out
    assert info_of(tmp_path / "s").names == ["cornflower", "daisy", "poppy", "sunflower"]
    assert before == sorted(path.relative_to(tmp_path) for path in (tmp_path / "words").rglob("*"))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--epochs", "1"], marks=pytest.mark.slow, id="pretrained"),
        pytest.param([*CNN, "--epochs", "2"], id="from scratch"),
    ],
)
def test_very_small_sets_work(run_script, tmp_path, options):
    """Two categories of ten, and one of a single photograph; the last batch is one photograph."""
    draw_data(tmp_path / "drawn", train=10, valid=0, test=0, kinds=3)
    for path in sorted((tmp_path / "drawn" / "train" / "3").iterdir())[1:]:
        path.unlink()
    data = data_utils.find_data(tmp_path / "drawn" / "train")
    batch_size = len(data.splits["train"].paths) - 1
    run = run_script(
        "train",
        tmp_path / "drawn" / "train",
        *options,
        "--batch_size",
        batch_size,
        "--save_dir",
        tmp_path,
    )
    assert run.code == 0
    assert info_of(tmp_path).categories == ["1", "2", "3"]


# --- The report -----------------------------------------------------------------------


def test_the_run_ends_with_a_report(trained, drawn):
    report = json.loads((trained / "report.json").read_text())
    out = (trained / "out.txt").read_text()
    top1 = report["top1"]
    assert report["split"] == "test"
    assert report["photographs"] == 16
    assert f"test accuracy: {top1['share']:.2%} ({top1['right']} of 16)\n" in out
    assert sum(row["right"] for row in report["categories"]) == top1["right"]
    assert len(report["misnamed"]) == 16 - top1["right"]
    for row in report["misnamed"]:
        assert os.path.exists(row["file"])
        assert row["name"] != row["taken_for"]
    assert len(report["suspects"]) == 5
    for row in report["suspects"]:
        assert f"wrong label? {row['file']}: {row['name']}, looks like {row['looks_like']}\n" in out
    page = Page((trained / "report.html").read_bytes())
    assert "Labels to look at" in page.texts("h2")
    assert report["calibration"].keys() == {"valid, cross-fitted", "test"}
    assert report["temperature"] == info_of(trained).calibration.temperature
    assert report["accepted_share"]["valid"] == 0.95
    assert 0 <= report["accepted_share"]["test"] <= 1
    assert sum(report["seconds"].values()) > 1
    assert report["peak_memory_mib"] > 100
    assert report["command"].startswith("python train.py")
    assert report["versions"]["torch"] == torch.__version__
    assert "top-5: 100.00% (16 of 16); mean per-class accuracy: " in out


@pytest.mark.slow
@pytest.mark.parametrize(("wanted", "code"), [(0.0, 0), (1.0, 3)])
def test_min_accuracy_tells_a_batch_job(run_script, drawn, tmp_path, wanted, code, monkeypatch):
    evaluate = learning.evaluation.evaluate

    def misjudge(*arguments):  # one photograph is named wrongly
        result = evaluate(*arguments)
        result.logits[0] = -result.logits[0]
        return result

    monkeypatch.setattr("learning.evaluation.evaluate", misjudge)
    run = run_script(
        "train", drawn, *CNN, "--epochs", 1, "--min_accuracy", wanted, "--save_dir", tmp_path
    )
    assert run.code == code
    assert ("is below --min_accuracy 100.00%\n" in run.err) == (code == 3)
    assert (tmp_path / "checkpoint.pth").exists()
    assert (tmp_path / "report.json").exists()

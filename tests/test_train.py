"""train.py: the whole way on drawn flowers, its mistakes, and what it promises of its output."""

import json
import math
import os
import re
import shutil

import draw_flowers
import pytest
import torch
from conftest import CNN, file_size_limit, history_of
from PIL import Image

import data_utils
import model_utils
import train
from train import Evaluation

LINE = re.compile(r"( head|    \d)  +\d+\.\d{4}  +\d+\.\d{4}  +\d+\.\d\d%  +\d+\.\d(  saved)?")


# --- The whole way --------------------------------------------------------------------


def test_a_pretrained_run_from_data_to_checkpoint(drawn, trained):
    out, err = (trained / "out.txt").read_text(), (trained / "err.txt").read_text()
    header, head, epoch, test, *_, report, checkpoint, following = out.splitlines()
    assert header == train.HEADER and LINE.fullmatch(head) and LINE.fullmatch(epoch)
    assert head.endswith("saved")  # the first one is always the best so far
    assert re.fullmatch(r"test accuracy: \d+\.\d\d% \(\d+ of 16\)", test)
    assert report == f"report: {trained / 'report.json'}"
    assert checkpoint == f"checkpoint: {trained / 'checkpoint.pth'}"
    assert following.startswith("next: python ") and f"{drawn}/test/" in following
    assert "48 train, 16 valid, 16 test photographs; 4 categories of 12 to 12" in err
    assert f"names: {drawn / 'cat_to_name.json'}" in err
    assert "photos/s" not in err and "\r" not in err  # no progress bar in a log

    rows = history_of(trained)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert float(rows[0]["valid_accuracy"]) >= 0.75  # four kinds: chance is 0.25
    info = model_utils.load_checkpoint(trained / "checkpoint.pth")[1]
    best = [row for row in rows if row["saved"] == "1"][-1]
    assert info["figures"]["valid_accuracy"] == float(best["valid_accuracy"])
    assert info["names"] == ["drawn daisy", "drawn poppy", "drawn sunflower", "drawn cornflower"]
    assert info["categories"] == ["1", "2", "3", "4"]
    assert info["command"].startswith("python train.py ")
    assert sorted(os.listdir(trained)) == [
        "checkpoint.pth",
        "err.txt",
        "history.csv",
        "last.pth",
        "out.txt",
        "report.json",
    ]


def test_the_same_seed_repeats_a_run_exactly(run_script, drawn, tmp_path):
    def run(name, seed, *more):
        folder = tmp_path / name
        assert (
            run_script(
                "train",
                drawn,
                "--image_size",
                "64",
                "--epochs",
                1,
                "--save_dir",
                folder,
                "--batch_size",
                16,
                "--seed",
                seed,
                *more,
            ).code
            == 0
        )
        model, _ = model_utils.load_checkpoint(folder / "checkpoint.pth")
        return [r["train_loss"] for r in history_of(folder)], model.state_dict()

    losses, weights = run("a", 3)
    again, same = run("b", 3, "--workers", 3)
    assert losses == again and all((weights[key] == same[key]).all() for key in weights)
    other, _ = run("c", 4)
    assert other[0] == losses[0] and other[1] != losses[1]  # the head needs no luck


@pytest.mark.parametrize(
    "typed, lr",
    [
        ({}, 4e-4),
        ({"batch_size": 64}, 4e-4),
        ({"batch_size": 256}, 8e-4),
        ({"batch_size": 16}, 2e-4),
        ({"batch_size": 256, "lr": 0.5}, 0.5),
    ],
)
def test_the_rate_goes_with_the_root_of_the_batch_size(typed, lr):
    model, _, _ = model_utils.new_model("cnn", 4, 32)
    settings = train.settle({**train.SETTINGS, **typed}, model, 32, pretrained=True)
    assert settings["lr"] == pytest.approx(lr)


@pytest.mark.parametrize("tune", ["tail", "all"])
def test_tune_says_which_layers_learn(drawn, tune):
    split = data_utils.find_data(drawn).splits["train"]
    model, preprocessing, _ = model_utils.new_model("efficientnet_lite0", 4, 64)
    settings = train.settle({**train.SETTINGS, "tune": tune}, model, 64, pretrained=True)
    assert settings["tune"] == tune
    cut = model_utils.find_cut(model.body) if tune == "tail" else 0
    activations = model_utils.Activations(
        model_utils.for_inference(model), cut, split.paths, preprocessing, views=2
    )
    layers = model_utils.chain(model.body)
    before = [[p.clone() for p in layer.parameters()] for layer in layers]
    recipe = train.Recipe(epochs=1, lr=1e-3, batch_size=16)
    (solved, _, sums), (learned, loss, later) = train.learn(
        model, activations, split.labels, recipe, pretrained=True, seed=0
    )
    assert (solved.epoch, learned.epoch) == (0, 1) and math.isfinite(loss)
    assert (sums.argmax(1) == torch.arange(4)).all() and later.shape == (4, 4)
    for network in (learned.model, learned.averaged):
        layers = model_utils.chain(network.body)
        changed = [
            any((a != b).any() for a, b in zip(layer.parameters(), weights))
            for layer, weights in zip(layers, before)
            if weights
        ]
        first = sum(bool(weights) for weights in before[:cut])
        assert changed == [False] * first + [True] * (len(changed) - first)


def test_a_tail_takes_a_pretrained_chain(run_script, drawn, tmp_path):
    run = run_script("train", drawn, *CNN, "--tune", "tail", "--save_dir", tmp_path)
    assert run.code == 2 and "--tune tail: cnn as it is here has no tail" in run.err


def test_the_basic_cnn_learns_from_scratch(run_script, drawn, tmp_path):
    run = run_script("train", drawn, *CNN, "--epochs", 8, "--batch_size", 8, "--save_dir", tmp_path)
    assert run.code == 0 and "head" not in run.out
    rows = history_of(tmp_path)
    assert len(rows) == 8
    assert float(rows[-1]["train_loss"]) < 0.7 * float(rows[0]["train_loss"])
    # The checkpoint holds the best epoch, not the last.
    figures = model_utils.load_checkpoint(tmp_path / "checkpoint.pth")[1]["figures"]
    best = max(rows, key=lambda r: (float(r["valid_accuracy"]), -float(r["valid_loss"])))
    assert figures["epoch"] == int(best["epoch"])
    assert figures["valid_accuracy"] == float(best["valid_accuracy"])


def test_without_a_test_split_it_says_so(run_script, drawn, tmp_path):
    shutil.copytree(drawn, tmp_path / "data", ignore=shutil.ignore_patterns("test"))
    run = run_script("train", tmp_path / "data", *CNN, "--epochs", 1, "--save_dir", tmp_path)
    assert run.code == 0
    assert "there is no test split" in run.err and "test accuracy" not in run.out
    assert re.search(r"valid accuracy: .* of 16\), the figure by which", run.out)


def test_an_earlier_checkpoint_is_kept(run_script, drawn, tmp_path):
    for seed in (0, 1):
        run = run_script(
            "train", drawn, *CNN, "--epochs", 2, "--seed", seed, "--save_dir", tmp_path
        )
        assert run.code == 0
        kept = [line for line in run.err.splitlines() if "kept" in line]
        assert len(kept) == seed  # the first run had nothing to keep
    assert "checkpoint.previous.pth" in kept[0]
    seeds = [
        model_utils.load_checkpoint(tmp_path / f"{name}.pth")[1]["seed"]
        for name in ("checkpoint.previous", "checkpoint")
    ]
    assert seeds == [0, 1]


def test_test_is_judged_once_and_by_the_reloaded_file(run_script, drawn, tmp_path, monkeypatch):
    judged = []
    evaluate = train.evaluate

    def spy(model, activations, labels):
        judged.append((activations.paths[0].split(os.sep)[-3], model))
        return evaluate(model, activations, labels)

    monkeypatch.setattr(train, "evaluate", spy)
    assert run_script("train", drawn, *CNN, "--epochs", 2, "--save_dir", tmp_path).code == 0
    assert [name for name, _ in judged] == ["valid", "valid", "test"]
    assert judged[2][1] is not judged[1][1]


def test_a_loss_that_is_not_finite_ends_the_run_with_the_best_checkpoint(
    run_script, drawn, tmp_path, monkeypatch
):
    losses = map(torch.tensor, (1.0, math.nan))
    monkeypatch.setattr(train, "train_one_epoch", lambda *_: (next(losses), torch.eye(4)))
    run = run_script("train", drawn, *CNN, "--epochs", 3, "--save_dir", tmp_path)
    assert run.code == 1 and "epoch 2 is not a finite number; try a lower --lr" in run.err
    assert model_utils.load_checkpoint(tmp_path / "checkpoint.pth")[1]["figures"]["epoch"] == 1


def test_numbers_that_overflow_in_validation_end_the_run_too(
    run_script, drawn, tmp_path, monkeypatch
):
    evaluate = train.evaluate
    monkeypatch.setattr(train, "evaluate", lambda *a: evaluate(*a)._replace(loss=math.nan))
    run = run_script("train", drawn, *CNN, "--epochs", 1, "--save_dir", tmp_path)
    assert run.code == 1 and "not a finite number" in run.err and os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_too_little_memory_is_one_sentence(run_script, drawn, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(train, "train_one_epoch", fail)
    run = run_script("train", drawn, *CNN, "--epochs", 1, "--save_dir", tmp_path)
    assert run.code == 1 and "out of memory; try --batch_size 128, or a lower" in run.err


def test_a_full_disk_ends_the_demo_without_a_half_drawn_folder(run_script, tmp_path):
    with file_size_limit(3000):
        run = run_script("train", "--demo", "--save_dir", tmp_path)
    assert run.code == 1 and "drawn_flowers cannot be drawn: File too large" in run.err
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not torch.accelerator.is_available(), reason="no accelerator here")
def test_an_accelerator_trains_and_the_cpu_agrees_with_it(run_script, drawn, tmp_path):
    run = run_script("train", drawn, "--epochs", 1, "--gpu", "--save_dir", tmp_path)
    assert run.code == 0 and "device: cpu" not in run.err
    checkpoint = tmp_path / "checkpoint.pth"
    paths, answers = data_utils.find_data(drawn).splits["valid"].paths, []
    for device in (torch.device("cpu"), torch.accelerator.current_accelerator()):
        model, info = model_utils.load_checkpoint(checkpoint, device, torch.float32)
        assert model.mean.device.type == device.type
        answers.append(
            model_utils.predict(model, data_utils.load_batches(paths, info["preprocessing"]))
        )
    here, there = answers
    assert (here.argmax(1) != there.argmax(1)).sum() <= 1 and (here - there).abs().max() < 0.01


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator here")
def test_gpu_without_an_accelerator_warns_once(run_script, drawn, tmp_path):
    run = run_script("train", drawn, *CNN, "--epochs", 1, "--gpu", "--save_dir", tmp_path)
    assert run.code == 0 and run.err.count("warning: --gpu") == 1


def test_the_demo_draws_and_trains(run_script, tmp_path, monkeypatch):
    draw = draw_flowers.draw_data
    monkeypatch.setattr(draw_flowers, "draw_data", lambda folder: draw(folder, 4, 2, 2, kinds=3))
    run = run_script("train", "--demo", "--epochs", 0, "--save_dir", tmp_path)
    assert run.code == 0
    command = run.out.splitlines()[-1].removeprefix("next: python ").split()
    assert run_script("predict", *command[1:]).out.count("drawn") == 3


# --- Folders and photographs that cannot be used ----------------------------------------


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(run_script, drawn, tmp_path):
    tmp_path.chmod(0o555)
    run = run_script("train", drawn, "--save_dir", tmp_path)
    assert run.code == 2 and "cannot be written to: Permission denied" in run.err


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no folder that root cannot write to")
def test_a_folder_that_nobody_can_write_to_is_refused(run_script, drawn):
    run = run_script("train", drawn, "--save_dir", "/proc/self")
    assert run.code == 2 and "/proc/self cannot be written to" in run.err


def test_unreadable_photographs_are_named_skipped_and_counted(run_script, drawn, tmp_path):
    shutil.copytree(drawn, tmp_path / "data")
    (tmp_path / "data" / "train" / "2" / "broken.jpg").write_bytes(b"hello")
    cut = next((tmp_path / "data" / "valid" / "3").iterdir())
    cut.write_bytes(cut.read_bytes()[:-500])
    run = run_script("train", tmp_path / "data", *CNN, "--epochs", 1, "--save_dir", tmp_path)
    assert run.code == 0
    assert "warning: photographs that cannot be read: 2\n" in run.err
    assert "train/2/broken.jpg is not an image" in run.err
    assert f"  {cut} cannot be read: " in run.err
    figures = model_utils.load_checkpoint(tmp_path / "checkpoint.pth")[1]["figures"]
    assert figures["valid_images"] == 15


def test_a_category_without_a_readable_photograph_is_an_error(run_script, drawn, tmp_path):
    shutil.copytree(drawn, tmp_path / "data")
    for path in (tmp_path / "data" / "train" / "3").iterdir():
        path.write_bytes(b"hello")
    run = run_script("train", tmp_path / "data", *CNN, "--epochs", 1, "--save_dir", tmp_path)
    assert run.code == 2 and "no readable photograph left to train on of 3" in run.err


def test_folders_of_categories_alone_are_enough(run_script, drawn, tmp_path):
    shutil.copytree(drawn / "train", tmp_path / "words")
    for number, word in (("1", "daisy"), ("2", "poppy"), ("3", "sunflower"), ("4", "cornflower")):
        (tmp_path / "words" / number).rename(tmp_path / "words" / word)
    before = sorted(path.relative_to(tmp_path) for path in (tmp_path / "words").rglob("*"))
    run = run_script("train", tmp_path / "words", *CNN, "--epochs", 1, "--save_dir", tmp_path / "s")
    assert run.code == 0 and "has no splits: 80 %" in run.err
    info = model_utils.load_checkpoint(tmp_path / "s" / "checkpoint.pth")[1]
    assert info["names"] == ["cornflower", "daisy", "poppy", "sunflower"]
    assert before == sorted(path.relative_to(tmp_path) for path in (tmp_path / "words").rglob("*"))


@pytest.mark.parametrize("options", [["--epochs", "1"], [*CNN, "--epochs", "2"]])
def test_very_small_sets_work(run_script, tmp_path, options):
    """Two categories of ten, and one of a single photograph; the last batch is one photograph."""
    draw_flowers.draw_data(tmp_path / "drawn", train=10, valid=0, test=0, kinds=3)
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
    assert run.code == 0 and model_utils.load_checkpoint(tmp_path / "checkpoint.pth")


# --- The report -----------------------------------------------------------------------


def test_the_run_ends_with_a_report(trained, drawn):
    report = json.loads((trained / "report.json").read_text())
    out = (trained / "out.txt").read_text()
    top1 = report["top1"]
    assert report["split"] == "test" and report["photographs"] == 16
    assert f"test accuracy: {top1['share']:.2%} ({top1['right']} of 16)\n" in out
    assert sum(row["right"] for row in report["categories"]) == top1["right"]
    assert len(report["misnamed"]) == 16 - top1["right"]
    for row in report["misnamed"]:
        assert os.path.exists(row["file"]) and row["name"] != row["taken_for"]
    assert report["calibration"].keys() == {"valid, cross-fitted", "test"}
    assert (
        report["temperature"]
        == model_utils.load_checkpoint(trained / "checkpoint.pth")[1]["calibration"].temperature
    )
    assert sum(report["seconds"].values()) > 1 and report["peak_memory_mib"] > 100
    assert report["command"].startswith("python train.py") and report["versions"]["torch"]
    for words in (
        "among the best five:",
        "mean of the categories:",
        "calibration on test:",
        "seconds: start",
        "peak memory:",
        "versions: python",
        "command: python train.py",
    ):
        assert words in out


def test_the_checkpoints_probabilities_are_the_calibrated_ones(trained, drawn):
    """The temperature divides the logits wherever the checkpoint is used."""
    model, info = model_utils.load_checkpoint(trained / "checkpoint.pth")
    (batch,) = data_utils.load_batches(
        list(map(str, sorted((drawn / "valid").glob("*/*.jpg"))))[:8], info["preprocessing"]
    )
    calibrated = model_utils.compute_logits(model, [batch])
    model.temperature = 1.0
    temperature = info["calibration"].temperature
    torch.testing.assert_close(calibrated * temperature, model_utils.compute_logits(model, [batch]))
    assert temperature != 1


@pytest.mark.parametrize("wanted, code", [(0.0, 0), (1.0, 3)])
def test_min_accuracy_tells_a_batch_job(run_script, drawn, tmp_path, wanted, code, monkeypatch):
    evaluate = train.evaluate

    def misjudge(*arguments):  # one photograph is named wrongly
        result = evaluate(*arguments)
        result.logits[0] = -result.logits[0]
        return result

    monkeypatch.setattr(train, "evaluate", misjudge)
    run = run_script(
        "train", drawn, *CNN, "--epochs", 1, "--min_accuracy", wanted, "--save_dir", tmp_path
    )
    assert run.code == code and ("is below --min_accuracy" in run.err) == (code == 3)
    assert (tmp_path / "checkpoint.pth").exists() and (tmp_path / "report.json").exists()


def test_plot_draws_the_run(run_script, drawn, tmp_path):
    pytest.importorskip("matplotlib")
    assert (
        run_script("train", drawn, *CNN, "--epochs", 1, "--plot", "--save_dir", tmp_path).code == 0
    )
    for name in ("curves.png", "confusion.png", "mistakes.png"):
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 200


# --- Pure functions -------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 9, 1000])
def test_the_learning_rate_rises_and_then_falls_towards_0(steps):
    factors = [train.lr_factor(step, steps) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert peak <= steps / 10 + 1
    assert factors == sorted(factors[: peak + 1]) + sorted(factors[peak + 1 :], reverse=True)
    if steps == 1000:
        assert factors[0] < 0.02 and max(factors) > 0.99 and factors[-1] < 0.001


def test_the_better_epoch_is_more_accurate_or_else_surer():
    result = Evaluation(0.5, 0.5, 0.9, None)
    assert Evaluation(0.9, 0.9, 0.91, None).is_better(result)
    assert Evaluation(0.9, 0.4, 0.9, None).is_better(result)  # unsure, but for the temperature
    assert not Evaluation(0.4, 0.4, 0.89, None).is_better(result) and not result.is_better(result)


def test_evaluation_is_weighted_by_photograph_not_by_batch(drawn):
    # 17 photographs are batches of 8, 8 and 1: a mean over batches would count one 8 times.
    data = data_utils.find_data(drawn)
    split = data_utils.Split(data.splits["train"].paths[:17], data.splits["train"].labels[:17])
    model, preprocessing, _ = model_utils.new_model("cnn", 4, 32)
    model = model_utils.for_inference(model, torch.float32)
    result = train.evaluate(
        model, model_utils.Activations(model, 0, split.paths, preprocessing), split.labels
    )
    (batch,) = data_utils.load_batches(split.paths, preprocessing, batch_size=17)
    with torch.inference_mode():
        log_probabilities = model(torch.from_numpy(batch)).log_softmax(1).double().numpy()
    assert result.accuracy == (log_probabilities.argmax(1) == split.labels).sum() / 17
    assert result.loss == pytest.approx(-log_probabilities[range(17), split.labels].mean())


def test_the_drawing_repeats_and_leaves_a_folder_as_it_is(drawn, tmp_path):
    draw_flowers.draw_data(tmp_path / "again", train=1, valid=1, test=0, kinds=2)
    first = "train/2/drawn_00001.jpg"
    assert (tmp_path / "again" / first).read_bytes() == (drawn / first).read_bytes()
    assert (drawn / first).read_bytes() != (drawn / first.replace("train", "valid")).read_bytes()
    (tmp_path / "again" / first).write_text("mine")
    draw_flowers.draw_data(tmp_path / "again", train=1, valid=1, test=0, kinds=2)
    assert (tmp_path / "again" / first).read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["again"]
